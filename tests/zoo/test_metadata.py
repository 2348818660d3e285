"""Sentences and facts of an entry, from config and checkout."""

import json
import subprocess

import numpy as np
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


def test_a_student_without_the_members_dropout_has_their_network():
    text = metadata.training("end2_aux", registry.experiments()["fashion_mnist_cnn_end2"])
    assert "It has a dropout of 0, where the members have 0.3." in text
    assert "network isn't" not in text


def test_each_auxiliary_source_is_named():
    text = metadata.training("end2_aux", registry.experiments()["fashion_mnist_mlp_end2"])
    assert "auxiliary inputs without labels (cifar100 and procedural)" in text
    assert "0.02 times the Itakura-Saito divergence of its precision (target: mutual information)" in text


@pytest.mark.parametrize(
    ("method", "changes", "parts"),
    [
        ("ensemble", {"ensemble.models": "m/*.keras"}, ("Each member was brought as a Keras file, not trained here",)),
        ("single", {"ensemble.models": "m/*.keras"}, ("It was brought as a Keras file, not trained here",)),
        ("end2", {"methods.end2.labels": 0.2}, ("the ensemble's mean prediction (20 % of it the true label) plus",)),
        ("end", {"transfer.num_members": 5}, ("its teachers were the first 5 members",)),
        ("end", {"student.options": {"hidden": [8]}}, ("Its network isn't the members': mlp (hidden [8]).",)),
        (
            "end",
            {"methods.end.options": {"sine_scale": 1.0}},
            ("Its network isn't the members': mlp (hidden [64, 64, 64], sine last, sine scale 1).",),
        ),
        ("single_matched", {"student.backbone": "auto"}, ("Its network isn't the members': auto.",)),
        (
            "end",
            {"ensemble.models": "m/*.keras", "student.backbone": "auto"},
            ("Its network isn't the members': auto",),
        ),
        (
            "end",
            {"student.optimizer.average": 0.999, "student.optimizer.weight_decay": 0.01},
            ("(cosine), weight decay 0.01, its weights a moving average of momentum 0.999;",),
        ),
        ("end2", {}, (" and Adam at a learning rate of ",)),
        (
            "ensemble",
            {"ensemble.optimizer": {"name": "sgd", "momentum": 0.8, "learning_rate": 0.1}},
            (" and SGD of momentum 0.8 at a learning rate of 0.1 (cosine);",),
        ),
        ("single", {"ensemble.held_out_fraction": 0.25}, ("on the labels of 75 % of spirals for",)),
        (
            "end2",
            {"ensemble.held_out_fraction": 0.25, "transfer.inputs": "held_out"},
            (", of those that no member was trained on.",),
        ),
        ("end2", {"student.start": "member"}, (", from a copy of a member on; the members",)),
        ("ensemble", {"ensemble.optimizer.average": 0.9}, ("a moving average of momentum 0.9;",)),
        ("end2_nll", {}, ("under its Dirichlet (smoothing 0.0001) at temperature 2.5",)),
        ("end2", {"methods.end2.loss_options.cap": 100.0}, ("(target: mutual information) (cap 100) for",)),
        (
            "end2",
            {"methods.end2": {"loss": "proxy_reverse_kl", "offset": 1.0}},
            ("with the ensemble's mean prediction and the ensemble's precision (offset of alphas 1) for",),
        ),
        ("single_matched", {}, ("on the members' inputs",)),
        (
            "single_matched",
            {"methods.single_matched.augmentation": {"jitter": 0.05}},  # those of the experiment's transfer set
            ("on the students' inputs",),
        ),
        (
            "single_matched",
            {"methods.single_matched.augmentation": {"jitter": 0.5}},
            ("on inputs with an augmentation of its own",),
        ),
    ],
)
def test_what_is_unusual_in_a_config_is_said(spirals, method, changes, parts):
    text = metadata.training(method, config.override(spirals, changes))
    assert all(part in text for part in parts), text
    usual = metadata.training(method, spirals)
    if changes:
        assert not any(part in usual for part in parts), usual


@pytest.mark.parametrize(
    "student", [{}, {"student.options": {"hidden": [64, 64, 64], "sine": "last", "sine_scale": 2.0}}]
)
def test_an_architecture_like_the_members_is_not_spoken_of(spirals, student):
    assert "network isn't" not in metadata.training("end", config.override(spirals, student))


def test_a_loss_without_a_sentence_is_named(spirals):
    changed = config.override(spirals, {"methods.end2.loss": "proxy_forward_kl", "methods.end2.loss_options": {}})
    assert "by the loss proxy_forward_kl at temperature 1" in metadata.training("end2", changed)


@pytest.mark.parametrize(
    ("name", "group"), [("spirals", "spirals_mlp"), ("svhn/config:1.0.0", "svhn_config_1.0.0_mlp"), ("a b", "a_b_mlp")]
)
def test_groups_are_names_of_folders(spirals, name, group):
    assert metadata.group_of(config.override(spirals, {"data.name": name})) == group


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/home/ann/My Photos-2.npz", "own_data_my_photos_2_mlp"),
        ("cats", "own_data_cats_mlp"),
        ("数据.npz", "own_data_mlp"),
    ],
)
def test_groups_of_own_data_hold_their_files_name(spirals, path, group):
    assert metadata.group_of(config.override(spirals, {"data.name": "own_data", "data.path": path})) == group


def _described(run, method, changes=None, **results):
    there = json.loads((run.evaluation / "results.json").read_text(encoding="utf-8"))
    return metadata.describe(
        method=method,
        experiment=config.override(run.experiment, changes or {}),
        data=run.data,
        results=there | results,
        outputs={"probs": np.zeros((32, 3))},
        weights={},
        seconds=0.012345,
    )


@pytest.mark.parametrize("method", ["single_matched", "mine"])
def test_a_method_on_labels_is_no_student_whatever_its_name(image_run, method):
    found = _described(image_run, method, {f"methods.{method}": {"loss": "cross_entropy"}})
    assert found["on_labels"]
    assert found["summary"] == "one network, trained on labels as long as the students, on the members' inputs"
    end = _described(image_run, "end")
    assert not end["on_labels"]
    assert end["summary"].startswith("EnD, a student of 3 networks; test error")
    assert not _described(image_run, "ensemble")["on_labels"]


def test_a_student_of_some_members_says_so(image_run):
    found = _described(image_run, "end", {"transfer.num_members": 2})
    assert found["num_taught"] == 2
    assert found["summary"].startswith("EnD, a student of the first 2 of 3 networks")


def test_whose_backbone_it_is(image_run):
    assert _described(image_run, "end", {"student.backbone": "auto"})["backbone"] == "auto"
    assert _described(image_run, "ensemble", {"student.backbone": "auto"})["backbone"] == "cnn"
    assert _described(image_run, "end", {"ensemble.models": "m/*.keras"})["backbone"] == "own"


def test_members_that_were_brought_took_no_time_here(image_run):
    brought = {"ensemble.models": "m/*.keras"}
    assert _described(image_run, "ensemble", brought)["training_seconds"] is None
    assert _described(image_run, "end", brought)["training_seconds"] == 0.0123  # three digits, however short


@pytest.mark.parametrize(
    ("auxiliary", "names"),
    [
        ("cifar100", ["cifar100"]),
        ({"name": "several", "options": {"of": ["cifar100", {"name": "procedural"}]}}, ["cifar100", "procedural"]),
        (
            {
                "name": "several",
                "options": {
                    "of": [
                        {"name": "corrupted", "options": {"of": "cifar10"}},
                        {"name": "several", "options": {"of": ["gratings"]}},
                    ]
                },
            },
            ["cifar10", "gratings"],
        ),
    ],
)
def test_the_data_are_those_that_sources_are_made_of(image_run, auxiliary, names):
    source = {"name": auxiliary} if isinstance(auxiliary, str) else auxiliary
    found = _described(image_run, "end2_aux", {"data.auxiliary": source})
    assert list(found["data"]) == ["fashion_mnist", *names]
    assert all("not recorded" not in item["licence"] for item in found["data"].values())
    assert f"({' and '.join(names)})" in found["training"]
    assert list(_described(image_run, "end", {"data.auxiliary": source})["data"]) == ["fashion_mnist"]


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("python main.py --experiment=x --workdir=/a --data_dir /b --quiet", "python main.py --experiment=x"),
        ("python main.py --zoo_dir=z --stage=publish --experiment x", "python main.py --experiment x"),
        ("python main.py -workdir w --set 'a.b=[\"end\"]' --seed=3", "python main.py --set 'a.b=[\"end\"]' --seed=3"),
        ("broken 'quote", "broken 'quote"),
        ("main.py --set data.path=/home/ann/x.npz --seed=1", "main.py --set data.path=x.npz --seed=1"),
        ("main.py --set ensemble.models=/ann/zoo/a/model.keras", "main.py --set ensemble.models=zoo/a/model.keras"),
        ("main.py --set ensemble.models=/ann/zoo/a/b/model.keras", "main.py --set ensemble.models=model.keras"),
        ("main.py --set=ensemble.models='/home/ann/*.keras'", "main.py '--set=ensemble.models=*.keras'"),
        (
            'main.py --set \'data.ood={"a": {"name": "own_data", "options": {"path": "../ann/x.npz"}}}\'',
            'main.py --set \'data.ood={"a": {"name": "own_data", "options": {"path": "x.npz"}}}\'',
        ),
    ],
)
def test_commands_lose_what_is_true_of_one_machine_only(command, kept):
    assert metadata.repeatable(command) == kept


def test_files_of_a_config_keep_their_names_only(spirals):
    inner = {"name": "own_data", "options": {"path": "C:\\Users\\ann\\b.npz"}}
    given = {
        "data.path": "/home/ann/photos/",
        "ensemble.models": "/home/ann/members/*.keras",
        "data.auxiliary": {"name": "several", "options": {"of": ["cifar100", inner]}},
    }
    experiment = config.override(spirals, given | {"smoke": {"data.path": "/home/ann/few.npz"}})
    found = metadata.without_folders(config.to_dict(experiment))
    assert "ann" not in json.dumps(found).replace("annealed", "").replace("anneal", "")
    assert found["data"]["path"] == "photos"
    assert found["ensemble"]["models"] == "*.keras"
    assert found["data"]["auxiliary"]["options"]["of"][1]["options"]["path"] == "b.npz"
    assert found["smoke"] == {"data.path": "few.npz"}
    assert metadata.without_folders(config.to_dict(spirals)) == config.to_dict(spirals)


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
    assert licences.of("procedural").licence == "generated by this package, Apache-2.0"
    assert licences.of("cifar10:3.0.2") == licences.of("cifar10")
    assert "see its own terms" in licences.of("own_data").licence
