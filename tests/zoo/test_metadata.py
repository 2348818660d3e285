"""Sentences and facts of an entry, from config and checkout."""

import subprocess

import pytest

from end2_tf import config, registry
from end2_tf.zoo import licences, metadata


@pytest.fixture
def spirals():
    return registry.experiments()["spirals_mlp_end2"]


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("single", ("trained on the labels of spirals for 60 epochs", "batches of 100")),
        ("ensemble", ("Each member was trained",)),
        ("single_matched", ("on labels alone for 300 epochs", "no teacher")),
        ("end", ("cross-entropy to the ensemble's mean prediction at temperature 1 for", "recorded on 10 views")),
        ("end2_nll", ("likelihood", "temperature 2.5, annealed to 1,")),
        ("end2", ("0.1 times the squared error of ln alpha0 (target: mutual information)", "learning rate of 0.01")),
        ("end2_aux", ("50 % of each batch were auxiliary inputs without labels (ring)",)),
    ],
)
def test_training_in_a_sentence(spirals, method, parts):
    text = metadata.training(method, spirals)
    assert all(part in text for part in parts), text
    assert ("auxiliary" in text) == method.endswith("_aux")


def test_each_auxiliary_source_is_named():
    text = metadata.training("end2_aux", registry.experiments()["fashion_mnist_mlp_end2"])
    assert "auxiliary inputs without labels (cifar100 and procedural)" in text
    assert "0.02 times the Itakura-Saito divergence of its precision (target: mutual information)" in text


def test_a_loss_without_a_sentence_is_named(spirals):
    changed = config.override(spirals, {"methods.end2.loss": "proxy_forward_kl", "methods.end2.loss_options": {}})
    assert "by the loss proxy_forward_kl at temperature 1" in metadata.training("end2", changed)


@pytest.mark.parametrize(
    ("name", "group"), [("spirals", "spirals_mlp"), ("svhn/config:1.0.0", "svhn_config_1.0.0_mlp"), ("a b", "a_b_mlp")]
)
def test_groups_are_names_of_folders(spirals, name, group):
    assert metadata.group_of(config.override(spirals, {"data.name": name})) == group


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("python main.py --experiment=x --workdir=/a --data_dir /b --quiet", "python main.py --experiment=x"),
        ("python main.py --zoo_dir=z --stage=publish --experiment x", "python main.py --experiment x"),
        ("python main.py -workdir w --set 'a.b=[\"end\"]' --seed=3", "python main.py --set 'a.b=[\"end\"]' --seed=3"),
        ("broken 'quote", "broken 'quote"),
    ],
)
def test_commands_lose_what_is_true_of_one_machine_only(command, kept):
    assert metadata.repeatable(command) == kept


def _git(folder, *arguments):
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "end2_tf")
    assert metadata.commit() == ""  # no checkout
    (tmp_path / "end2_tf").mkdir()
    (tmp_path / "zoo").mkdir()
    (tmp_path / "end2_tf" / "code.py").write_text("1")
    (tmp_path / "zoo" / "index.json").write_text("{}")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "First")
    head = _git(tmp_path, "rev-parse", "HEAD")
    assert metadata.commit() == head
    (tmp_path / "new.py").write_text("2")
    assert metadata.commit() == head  # tracked files are as they were
    (tmp_path / "zoo" / "index.json").write_text('{"entries": {}}')
    assert metadata.commit(ignored=tmp_path / "zoo") == head  # publishing itself changes the zoo
    assert metadata.commit() == f"{head}-dirty"
    (tmp_path / "end2_tf" / "code.py").write_text("3")
    assert metadata.commit(ignored=tmp_path / "zoo") == f"{head}-dirty"
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "lib" / "end2_tf")  # installed below a repository
    (tmp_path / "lib").mkdir()
    assert metadata.commit() == ""


def test_licences_are_known_or_said_not_to_be():
    assert licences.of("fashion_mnist").licence == "MIT"
    assert "Krizhevsky" in licences.of("cifar10").citation
    assert licences.of("cifar10:3.0.2") == licences.of("cifar10")
    assert "see its own terms" in licences.of("own_data").licence
