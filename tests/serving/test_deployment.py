"""Files for TensorFlow Serving: each is parsed by the messages or the schema it is for, and they fit together."""

import http.server
import itertools
import re
import shutil
import subprocess
import threading

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from end2_tf.errors import ConfigError, WorkdirError
from end2_tf.export import warmup
from end2_tf.serving import catalogue, deployment
from end2_tf.serving.settings import Settings

# Messages that tensorflow-serving-api lacks, as TensorFlow Serving's session_bundle_config.proto and
# monitoring_config.proto define them: field, number, type.
_MESSAGES = {
    "BatchingParameters": [
        ("max_batch_size", 1, "Int64Value"),
        ("batch_timeout_micros", 2, "Int64Value"),
        ("max_enqueued_batches", 3, "Int64Value"),
        ("num_batch_threads", 4, "Int64Value"),
        ("thread_pool_name", 5, "StringValue"),
        ("allowed_batch_sizes", 6, "int64 repeated"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, "BoolValue"),
        ("max_execution_batch_size", 9, "Int64Value"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, "PrometheusConfig")],
}
AWKWARD = ("0123", "1e5", "3.0", "net_a-b.c", "null", "on", "true", "_")


def _messages():
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for message, fields in _MESSAGES.items():
        one = file.message_type.add(name=message)
        for name, number, kind in fields:
            kind, _, repeated = kind.partition(" ")
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind in ("bool", "int64", "string"):
                one.field.add(name=name, number=number, label=label, type=getattr(field, f"TYPE_{kind.upper()}"))
            else:
                package = "tensorflow.serving" if kind in _MESSAGES else "google.protobuf"
                one.field.add(
                    name=name, number=number, label=label, type=field.TYPE_MESSAGE, type_name=f".{package}.{kind}"
                )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles([file.name], pool)


def _parsed(path, message):
    known = {"ModelServerConfig": model_server_config_pb2.ModelServerConfig}
    cls = known.get(message) or _messages()[f"tensorflow.serving.{message}"]
    return text_format.Parse(path.read_text(encoding="utf-8"), cls())


def _export(root, name, *versions):
    for version in versions:
        (root / name / str(version)).mkdir(parents=True)
        (root / name / str(version) / "saved_model.pb").touch()


def _models(folder):
    return _parsed(folder / "models.config", "ModelServerConfig").model_config_list.config


def _service(folder):
    compose = yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose) == {"name", "services"}
    (service,) = compose["services"].values()
    return service


def _kubernetes(folder):
    manifests = yaml.safe_load_all((folder / "kubernetes.yaml").read_text(encoding="utf-8"))
    found = {each["kind"]: each for each in manifests}
    assert list(found) == ["PersistentVolumeClaim", "ConfigMap", "Deployment", "Service"]
    return found


def _container(folder):
    (container,) = _kubernetes(folder)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return container


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("workdir") / "export"
    _export(root, "first", 7)
    _export(root, "second", 1, 2, 3)
    return root


@pytest.fixture(scope="module")
def folder(root):
    paths = deployment.write(root)
    assert [path.name for path in paths] == list(deployment.FILES)
    assert {path.parent for path in paths} == {root / "tensorflow_serving"}
    return paths[0].parent


def test_models_and_labels(folder):
    first, second = _models(folder)
    assert (first.name, first.base_path) == ("first", "/models/first")
    assert (second.name, second.base_path) == ("second", "/models/second")
    assert dict(first.version_labels) == {"stable": 7}
    assert dict(second.version_labels) == {"stable": 2, "canary": 3}


def test_the_next_version_takes_none_from_its_label(tmp_path):
    _export(tmp_path, "net", 1)
    for version in range(2, 6):
        (model,) = _models(deployment.write(tmp_path)[0].parent)
        _export(tmp_path, "net", version)  # the server drops what its policy no longer wants before it has loaded this
        kept = range(1, version + 1)[-model.model_version_policy.latest.num_versions :]
        assert {*model.version_labels.values(), version} <= set(kept)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(max_batch_size=8, max_queued=4, batch_timeout=0.0025, batch_threads=3),
        Settings(max_batch_size=100, max_queued=4096),
        Settings(max_batch_size=1, max_queued=1),
    ],
)
def test_batching_parameters_are_ones_that_the_server_takes(root, tmp_path, settings):
    deployment.write(root, tmp_path, settings)
    got = _parsed(tmp_path / "batching.config", "BatchingParameters")
    batch, request = got.max_execution_batch_size.value, got.max_batch_size.value
    assert batch == settings.max_batch_size
    assert got.enable_large_batch_splitting.value
    assert request >= max(batch, settings.max_queued, *warmup.BATCH_SIZES)
    assert got.max_enqueued_batches.value * batch >= request
    assert got.batch_timeout_micros.value == round(settings.batch_timeout * 1e6)
    assert got.HasField("num_batch_threads") == (settings.batch_threads is not None)
    assert got.num_batch_threads.value == (settings.batch_threads or 0)
    assert not got.pad_variable_length_inputs
    assert not got.allowed_batch_sizes
    assert _container(tmp_path)["resources"]["requests"]["cpu"] == str(settings.batch_threads or 2)


def test_monitoring(folder):
    prometheus = _parsed(folder / "monitoring.config", "MonitoringConfig").prometheus_config
    assert prometheus.enable
    assert prometheus.path == "/monitoring/prometheus/metrics"
    template = _kubernetes(folder)["Deployment"]["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/path"] == prometheus.path


def test_compose(root, folder):
    service = _service(folder)
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", service["image"])
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    mounts = {each["target"]: each for each in service["volumes"]}
    assert all(each["read_only"] and each["type"] == "bind" for each in mounts.values())
    assert (folder / mounts["/models"]["source"]).resolve() == root.resolve()
    assert (folder / mounts["/config"]["source"]).resolve() == folder.resolve()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][:3] == ["CMD", "bash", "-c"]


def test_flags_name_files_that_are_there(folder):
    flags = _service(folder)["command"]
    assert flags == _container(folder)["args"]
    values = dict(flag.removeprefix("--").split("=") for flag in flags)
    files = {name: value for name, value in values.items() if name.endswith("_file")}
    assert set(files) == {"model_config_file", "batching_parameters_file", "monitoring_config_file"}
    for value in files.values():
        assert (folder / value.removeprefix("/config/")).is_file()
    assert values["enable_batching"] == values["allow_version_labels_for_unavailable_models"] == "true"
    assert int(values["model_config_file_poll_wait_seconds"]) > 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="the image's bash stands in for none here")
def test_the_health_check_in_compose(folder):
    class Handler(http.server.BaseHTTPRequestHandler):
        state = "LOADING"

        def do_GET(self):
            self.send_response(200 if self.path == "/v1/models/first" else 404)
            self.end_headers()
            status = f'{{"version": "7", "state": "{self.state}", "status": {{"error_code": "UNAVAILABLE"}}}}'
            self.wfile.write(f'{{"model_version_status": [{status}]}}'.encode() if "first" in self.path else b"")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    *_, script = _service(folder)["healthcheck"]["test"]
    command = ["bash", "-c", script.replace("8501", str(server.server_port))]

    def is_healthy():
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0

    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert not is_healthy()
    Handler.state = "AVAILABLE"
    assert is_healthy()
    server.shutdown()
    server.server_close()
    assert not is_healthy()


def test_kubernetes(root, folder):
    found = _kubernetes(folder)
    versions = {"Deployment": "apps/v1", "ConfigMap": "v1", "Service": "v1", "PersistentVolumeClaim": "v1"}
    assert {kind: each["apiVersion"] for kind, each in found.items()} == versions
    spec = found["Deployment"]["spec"]
    pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    for name, text in found["ConfigMap"]["data"].items():
        assert text == (folder / name).read_text(encoding="utf-8")
    assert list(found["ConfigMap"]["data"]) == list(deployment.CONFIGS)
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == found["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["config"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    (container,) = pod["containers"]
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert set(mounts) == set(volumes)
    assert (mounts["models"]["mountPath"], mounts["config"]["mountPath"]) == ("/models", "/config")
    assert mounts["models"]["readOnly"]
    assert not any("subPath" in each for each in mounts.values())
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"grpc": 8500, "http": 8501}
    assert all(each["targetPort"] in ports for each in found["Service"]["spec"]["ports"])
    served = {f"/v1/models/{model.name}" for model in catalogue.find(root)}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in served
        assert container[probe]["httpGet"]["port"] in ports
    assert container["image"] == _service(folder)["image"] == deployment.IMAGE
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert pod["securityContext"]["runAsNonRoot"]


def test_memory_grows_with_the_models(tmp_path):
    _export(tmp_path, "net", 1, 2)
    sizes = []
    for megabytes in (0, 1, 200):
        with open(tmp_path / "net" / "2" / "saved_model.pb", "wb") as file:
            file.truncate(megabytes * 2**20)
        deployment.write(tmp_path)
        resources = _container(tmp_path / "tensorflow_serving")["resources"]
        assert resources["limits"]["memory"] == resources["requests"]["memory"]
        storage = _kubernetes(tmp_path / "tensorflow_serving")["PersistentVolumeClaim"]["spec"]["resources"]["requests"]
        sizes.append((resources["limits"]["memory"], storage["storage"]))
    assert sizes == [("1024Mi", "1Gi"), ("1024Mi", "1Gi"), ("2304Mi", "2Gi")]


@pytest.mark.parametrize("name", AWKWARD)
def test_names_that_look_like_something_else(tmp_path, name):
    _export(tmp_path, name, 1, 2)
    folder = deployment.write(tmp_path)[0].parent
    (model,) = _models(folder)
    assert (model.name, model.base_path) == (name, f"/models/{name}")
    assert f"GET /v1/models/{name} HTTP" in _service(folder)["healthcheck"]["test"][-1]
    assert _container(folder)["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{name}"


@pytest.mark.parametrize("name", ["a b", "a:predict", "naïve", "it's", "a$b", "a\nb", "-a", "a%20b", "{a}"])
def test_names_that_cant_stand_in_urls(tmp_path, name):
    _export(tmp_path, "good", 1)
    _export(tmp_path, name, 1)
    message = re.escape(f"{name!r} can't be the name of a model in TensorFlow Serving: it stands in URLs. Allowed: ")
    with pytest.raises(ConfigError, match=message + r"letters, digits, '_', '-' and '\.'\. Rename"):
        deployment.write(tmp_path)
    assert not (tmp_path / "tensorflow_serving").exists()


@pytest.mark.parametrize("name", ["a b", "$HOME: {x}", 'say "hi" #1', "naïve", "x'y"])
def test_folders_of_any_name_are_mounted(tmp_path, name):
    _export(tmp_path / name, "net", 1)
    target = tmp_path / "elsewhere"
    deployment.write(tmp_path / name, target)
    source = next(each["source"] for each in _service(target)["volumes"] if each["target"] == "/models")
    assert source == f"../{name}".replace("$", "$$")  # compose takes $$ for $
    deployment.write(tmp_path / name, tmp_path)
    source = next(each["source"] for each in _service(tmp_path)["volumes"] if each["target"] == "/models")
    assert source == f"./{name}".replace("$", "$$")


def test_the_same_models_give_the_same_bytes(root, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    again = deployment.write(copy)
    for path in itertools.chain(again, deployment.write(copy)):
        text = path.read_text(encoding="utf-8")
        assert text == (folder / path.name).read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        if path.name != "kubernetes.yaml":  # which has the others in it, indented
            assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("missing", ["", "gone"])
def test_no_models(tmp_path, missing):
    with pytest.raises(ConfigError, match="has no exported model to serve"):
        deployment.write(tmp_path / missing)


def test_a_folder_that_cant_be_written(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match="file"):
        deployment.write(root, tmp_path / "file")
