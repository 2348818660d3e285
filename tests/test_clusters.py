"""The templates in docs/clusters/, run by the shells that schedulers use, with a python that says its arguments."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

CLUSTERS = Path(__file__).resolve().parents[1] / "docs" / "clusters"


@pytest.fixture
def environment(tmp_path):
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("index", "members"), [(0, "0:10"), (9, "90:100")])
def test_slurm(environment, index, members):
    command = ["bash", str(CLUSTERS / "slurm_members.sh"), "cifar10_vgg16", "/shared/my runs", "--data_dir=/my data"]
    environment["SLURM_ARRAY_TASK_ID"] = str(index)
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    start = "main.py --experiment=cifar10_vgg16 --workdir=/shared/my runs --stage=ensemble"
    assert said == f"{start} --members={members} --data_dir=/my data\n"


@pytest.mark.parametrize(("index", "members"), [(0, "0:10"), (9, "90:100")])
def test_kubernetes(environment, index, members):
    job = yaml.safe_load((CLUSTERS / "kubernetes_members.yaml").read_text(encoding="utf-8"))
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == 10
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment["JOB_COMPLETION_INDEX"] = str(index)
    command = [*container["command"], *(text.replace("$$", "$") for text in container["args"])]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    start = "-m end2_tf --experiment=cifar10_vgg16 --workdir=/runs/cifar10_vgg16 --data_dir=/runs/data --stage=ensemble"
    assert said == f"{start} --members={members}\n"
