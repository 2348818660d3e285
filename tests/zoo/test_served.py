"""Published models to serve: which, from where, and that altered files aren't."""

import dataclasses

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from end2_tf import cli
from end2_tf.errors import ConfigError, ZooError
from end2_tf.serving import server
from end2_tf.zoo import publish, served

STUDENT, OTHER = "fashion_mnist_cnn_end2_aux", "spirals_mlp_end2_aux"


@pytest.fixture
def exported_zoo(image_run, zoo_copy, tmp_path):
    """A zoo with one exported student."""
    folder = tmp_path / "export" / "1"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"a")
    (folder / "assets.extra" / "end2_tf.json").write_text(
        '{"digest": "a", "signatures": ["serving_default"], "calibration_split": "calibration", "thresholds": '
        '{"uncertain": 0.5, "unfamiliar": null, "rule": "coverage", "target": 0.9, "delta": 0, "num_calibration": 9}, '
        '"decisions": {"test": {"n": 60, "abstained": 0.1, "error": 0.05, "error_of_all": 0.08}}, '
        '"parity": {"saved_model": 0.0}}'
    )
    publish.publish(dataclasses.replace(image_run, exports={"end2_aux": folder}), zoo_copy)
    return zoo_copy


@pytest.mark.parametrize("names", [[], [STUDENT]])
def test_exported_entries_are_found(exported_zoo, names):
    (model,) = served.models(names, exported_zoo)
    assert (model.name, model.folder) == (STUDENT, exported_zoo / STUDENT)
    assert model.wanted() == {1: exported_zoo / STUDENT / "1"}
    assert model.labels == {"stable": 1}


def test_the_zoo_lists_them_for_tensorflow_serving(exported_zoo):
    text = (exported_zoo / "models.config").read_text()
    (one,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (one.name, one.base_path) == (STUDENT, f"/models/{STUDENT}")
    assert dict(one.version_labels) == {"stable": 1}


def test_an_altered_file_isnt_served(exported_zoo):
    (exported_zoo / STUDENT / "1" / "saved_model.pb").write_bytes(b"b")
    with pytest.raises(ZooError, match=rf"{STUDENT}/1/saved_model\.pb was altered"):
        served.models([STUDENT], exported_zoo)


def test_what_isnt_there(exported_zoo, zoo_dir, capsys):
    with pytest.raises(ZooError, match=rf"^{OTHER} is published without an exported model\. Name another with --zoo"):
        served.models([OTHER], exported_zoo)
    with pytest.raises(ZooError, match=r"^the zoo's entry is 'x', which isn't a published model\."):
        served.models(["x"], exported_zoo)
    with pytest.raises(ConfigError, match=r"^the zoo at .* has no exported model\. Publish one: --stage=publish\.$"):
        served.models([], zoo_dir)
    assert cli.main(["main.py", "--stage=serve", f"--zoo={OTHER}", f"--zoo_dir={zoo_dir}"]) == 2
    assert "published without an exported model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--zoo=a", "--models=b"],
            "--zoo is given, but --stage=serve --models has no use for it. Leave it out; it is",
        ),
        (["--zoo=a", "--experiment=b"], "--zoo is given, but --stage=serve --experiment has no use for it."),
        (["--experiment=b"], "--experiment is 'b', which isn't an experiment."),
        (["--models=nowhere.config"], "nowhere.config is missing. Name a models.config, or a folder."),
        (["--set", "serving.max_batch=3"], "--set is 'serving.max_batch', which isn't a setting. Did you mean "),
        (["--set", "student.epochs=3"], "--set is 'student.epochs', which isn't a setting."),
        (["--set", "serving.max_batch_size=0"], "serving.max_batch_size is '0'. Allowed: at least 1."),
        (["--port=70000"], "serving.port is 70000. Allowed: at most 65535."),
    ],
)
def test_flags_of_a_server(args, message, capsys):
    assert cli.main(["main.py", "--stage=serve", *args]) == 2
    assert message in capsys.readouterr().err


def test_a_runs_models_are_served_with_settings(monkeypatch, tmp_path):
    (tmp_path / "export" / "net" / "1").mkdir(parents=True)
    (tmp_path / "export" / "net" / "1" / "saved_model.pb").write_bytes(b"")
    asked = {}
    monkeypatch.setattr(server, "serve", lambda models, how, **_: asked.update(models=models, how=how))
    args = ["--experiment=spirals_mlp_end2", f"--workdir={tmp_path}", "--set", "serving.max_batch_size=3"]
    assert cli.main(["main.py", "--stage=serve", *args]) == 0
    assert [model.name for model in asked["models"]] == ["net"]
    assert asked["how"].max_batch_size == 3


@pytest.mark.parametrize("flag", ["--port=1", "--models=x", "--server=http://x"])
def test_flags_of_serving_alone(flag, capsys):
    assert cli.main(["main.py", "--experiment=spirals_mlp_end2", flag]) == 2
    assert "is for --stage=" in capsys.readouterr().err
