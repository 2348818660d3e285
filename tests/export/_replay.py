"""Replays a version's warm-up requests where end2_tf can't be imported, as where a server runs.

Run by path: `python -I _replay.py VERSION OUTPUTS.npz`. Each request is asked of the SavedModel as Python loads it, and
of TensorFlow's C++ loader and session, which TensorFlow Serving calls, through the C API. Answers are called
`<python or cpp>/<number of the request>/<output>`.
"""

import ctypes
import sys
from pathlib import Path


class _Blocked:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "end2_tf":
            raise ImportError("a SavedModel must answer without end2_tf")
        return None


class _Buffer(ctypes.Structure):  # TF_Buffer
    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocate", ctypes.c_void_p))


class _Output(ctypes.Structure):  # TF_Output
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class CppSession:
    """A SavedModel as the C++ loader opens it; nothing is freed, as the process is short."""

    def __init__(self, folder):
        import tensorflow as tf
        from tensorflow.core.protobuf import meta_graph_pb2

        libraries = Path(tf.__file__).parent
        self._run, self._base = (
            ctypes.CDLL(str(next(libraries.glob(f"libtensorflow_{name}.*")))) for name in ("cc", "framework")
        )
        self._graph, meta_graph = self._call("TF_NewGraph"), self._call("TF_NewBuffer")
        self._session = self._checked(
            "TF_LoadSessionFromSavedModel",
            self._call("TF_NewSessionOptions"),
            None,
            str(folder).encode(),
            (ctypes.c_char_p * 1)(b"serve"),
            1,
            self._graph,
            meta_graph,
        )
        found = ctypes.cast(meta_graph, ctypes.POINTER(_Buffer)).contents
        content = ctypes.string_at(found.data, found.length)
        self.signatures = meta_graph_pb2.MetaGraphDef.FromString(content).signature_def

    def __call__(self, request):
        signature = self.signatures[request.model_spec.signature_name]
        assert set(request.inputs) == set(signature.inputs)
        names = sorted(signature.outputs)
        inputs = self._places([signature.inputs[name] for name in request.inputs])
        values = (ctypes.c_void_p * len(inputs))(*[self._tensor(proto) for proto in request.inputs.values()])
        outputs, got = self._places([signature.outputs[name] for name in names]), (ctypes.c_void_p * len(names))()
        numbers = [ctypes.c_int(len(each)) for each in (inputs, outputs)]
        self._checked(
            "TF_SessionRun",
            *(self._session, None, inputs, values, numbers[0], outputs, got, numbers[1], None, 0, None),
        )
        return {name: self._array(ctypes.c_void_p(tensor)) for name, tensor in zip(names, got, strict=True)}

    def _places(self, infos):
        places = (_Output * len(infos))()
        for place, info in zip(places, infos, strict=True):
            name, index = info.name.split(":")
            place.operation = self._call("TF_GraphOperationByName", self._graph, name.encode())
            place.index = int(index)
        return places

    def _tensor(self, proto):
        content = proto.SerializeToString()
        buffer = self._call("TF_NewBufferFromString", content, ctypes.c_size_t(len(content)))
        tensor = self._call("TF_AllocateTensor", 1, None, 0, ctypes.c_size_t(4))  # a float, which the proto replaces
        self._checked("TF_TensorFromProto", buffer, tensor)
        return tensor

    def _array(self, tensor):
        import numpy as np
        import tensorflow as tf

        dtype = tf.dtypes.as_dtype(self._call("TF_TensorType", tensor, result=ctypes.c_int)).as_numpy_dtype
        rank = self._call("TF_NumDims", tensor, result=ctypes.c_int)
        shape = [self._call("TF_Dim", tensor, i, result=ctypes.c_int64) for i in range(rank)]
        size = self._call("TF_TensorByteSize", tensor, result=ctypes.c_size_t)
        return np.frombuffer(ctypes.string_at(self._call("TF_TensorData", tensor), size), dtype).reshape(shape)

    def _checked(self, name, *arguments):
        status = self._call("TF_NewStatus")
        result = self._call(name, *arguments, status)
        if self._call("TF_GetCode", status, result=ctypes.c_int):
            raise RuntimeError(self._call("TF_Message", status, result=ctypes.c_char_p).decode())
        return result

    def _call(self, name, *arguments, result=ctypes.c_void_p):
        library = self._base if hasattr(self._base, name) else self._run
        function = library[name]  # a new object, so its types are its own
        function.restype = result
        found = function(*arguments)
        return ctypes.c_void_p(found) if result is ctypes.c_void_p else found


def main(folder, outputs):
    sys.meta_path.insert(0, _Blocked)
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    python, cpp, answers = tf.saved_model.load(folder), CppSession(folder), {}
    path = Path(folder) / "assets.extra" / "tf_serving_warmup_requests"
    for number, record in enumerate(tf.data.TFRecordDataset(str(path))):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        got = python.signatures[request.model_spec.signature_name](**inputs)
        answers |= {f"python/{number}/{name}": value.numpy() for name, value in got.items()}
        answers |= {f"cpp/{number}/{name}": value for name, value in cpp(request).items()}
    np.savez(outputs, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
