"""models.config: what is found, what is written, what is read back, and what is refused."""

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from end2_tf.errors import ConfigError
from end2_tf.serving import catalogue
from end2_tf.serving.catalogue import CANARY, STABLE, Model


def _export(root, name, *versions):
    for version in versions:
        (root / name / str(version)).mkdir(parents=True)
        (root / name / str(version) / "saved_model.pb").touch()


def _parsed(text):
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config


def _written(tmp_path, text):
    path = tmp_path / catalogue.FILE
    path.write_text(text, encoding="utf-8")
    return path


def test_models_are_found_with_their_latest_versions(tmp_path):
    _export(tmp_path, "one", 3)
    _export(tmp_path, "many", 2, 9, 10)
    (tmp_path / "pages").mkdir()
    (tmp_path / "index.json").touch()
    (tmp_path / "years" / "2024").mkdir(parents=True)  # no model
    (tmp_path / "one" / "4").mkdir()  # being copied
    _export(tmp_path, ".staging", 1)
    many, one = catalogue.find(tmp_path)
    assert (many.name, many.folder, many.versions) == ("many", tmp_path / "many", None)
    assert many.labels == {STABLE: 9, CANARY: 10}
    assert many.wanted() == {version: tmp_path / "many" / str(version) for version in (2, 9, 10)}
    assert (one.name, one.labels) == ("one", {STABLE: 3})
    assert one.wanted() == {3: tmp_path / "one" / "3"}


@pytest.mark.parametrize("root", ["", "missing", "file"])
def test_a_folder_without_models_is_refused(tmp_path, root):
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"has no exported model to serve\. Export one: --experiment=NAME --stage=exp"
    ):
        catalogue.find(tmp_path / root)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, [10]),
        ({"num_latest": 2}, [9, 10]),
        ({"num_latest": 5}, [2, 9, 10]),
        ({"num_latest": 0}, [2, 9, 10]),
        ({"versions": (2, 10, 77)}, [2, 10]),
        ({"versions": ()}, []),
    ],
)
def test_policies(tmp_path, fields, wanted):
    _export(tmp_path, "net", 2, 9, 10)
    (tmp_path / "net" / "11").mkdir()  # being copied: it has no saved_model.pb yet
    model = Model("net", tmp_path / "net", **fields)
    assert list(model.wanted()) == wanted
    (read,) = catalogue.read(_written(tmp_path, catalogue.write([model], str(tmp_path))))
    assert read == model
    assert list(read.wanted()) == wanted


def test_what_tensorflow_serving_reads(tmp_path):
    models = [
        Model("a", tmp_path / "a", num_latest=2, labels={CANARY: 5, STABLE: 4}),
        Model("b", tmp_path / "b", versions=(1, 7)),
        Model("c", tmp_path / "c", num_latest=0),
    ]
    text = catalogue.write(models, "/models/")
    a, b, c = _parsed(text)
    assert [(one.name, one.base_path, one.model_platform) for one in (a, b, c)] == [
        (name, f"/models/{name}", "tensorflow") for name in "abc"
    ]
    assert a.model_version_policy.latest.num_versions == 2
    assert dict(a.version_labels) == {STABLE: 4, CANARY: 5}
    assert list(b.model_version_policy.specific.versions) == [1, 7]
    assert c.model_version_policy.WhichOneof("policy_choice") == "all"
    assert text == catalogue.write(models, "/models")
    reordered = [Model("a", tmp_path / "a", num_latest=2, labels={STABLE: 4, CANARY: 5}), *models[1:]]
    assert text == catalogue.write(reordered, "/models")


def test_the_latest_version_is_tensorflow_servings_default(tmp_path):
    for policy in ("", "model_version_policy { latest {} }"):
        path = _written(tmp_path, f'model_config_list {{ config {{ name: "a" base_path: "/m/a" {policy} }} }}')
        (model,) = catalogue.read(path)
        assert (model.versions, model.num_latest, model.labels) == (None, 1, {})


def test_base_paths_are_absolute_or_beside_the_file(tmp_path):
    one = 'config {{ name: "{}" base_path: "{}" }}'
    text = f"# a comment\nmodel_config_list {{ {one.format('a', '/m/a')} {one.format('b', 'below/b')} }}"
    a, b = catalogue.read(_written(tmp_path, text))
    assert str(a.folder) == "/m/a"
    assert b.folder == tmp_path / "below" / "b"


@pytest.mark.parametrize("name", ["naïve", 'say "hi"', "back\\slash", "true", "3.0", "a b"])
def test_any_name_survives(tmp_path, name):
    model = Model(name, tmp_path / name, labels={STABLE: 1})
    (read,) = catalogue.read(_written(tmp_path, catalogue.write([model], str(tmp_path))))
    assert read == model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model_config_list { config { nam: 'a' } }",
            r"is no text form of TensorFlow Serving's ModelServerConfig: .*nam",
        ),
        ("{", r"is no text form of TensorFlow Serving's ModelServerConfig"),
        ("", r"names no model\. Add one to model_config_list\."),
        ("model_config_list {}", r"names no model\. Add one to model_config_list\."),
        ("model_config_list { config { name: 'a' } }", r"has the model 'a' twice, or without a name or base_path"),
        ("model_config_list { config { base_path: '/a' } }", r"has the model '' twice, or without a name or base_path"),
        (
            "model_config_list { config { name: 'a' base_path: '/a' } config { name: 'a' base_path: '/b' } }",
            r"has the model 'a' twice, or without a name or base_path\. Correct it\.",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    path = _written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as raised:
        catalogue.read(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_cant_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"gone is missing\. Name a models\.config, or a folder\.$"):
        catalogue.read(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"is no plain file\. Name a models\.config"):
        catalogue.read(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bytes is no text in UTF-8"):
        catalogue.read(tmp_path / "bytes")
