"""SavedModels from outside: a graph is a program, so what it may do is looked up before it is loaded.

TensorFlow has operations that read and write files, call Python, or talk to other machines; a graph names any of them.
Those that an exported network needs compute on tensors alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from end2_tf.errors import ModelError
from end2_tf.reading import texts

FILE = "saved_model.pb"
MAX_BYTES = 256_000_000  # variables are beside it
_ADVICE = "Export it again, or serve only what you made."

# Parts of the names of operations that do more than compute.
_DOES_MORE = re.compile(
    "File|Record|Dataset|Iterator|Reader|PyFunc|PyCall|Save|Restore|Checkpoint|Snapshot|Summary|Print|Dump|Debug|Rpc|"
    "Remote|Send|Recv|Collective|Nccl|Xla|TPU|Custom|Vocab|Remap|Proto|Skipgram|Lmdb|Stats|ImportEvent"
)
# Names of inputs and attributes that say where something is, in operations whose own names don't tell.
_PLACES = frozenset(
    {
        *("filename", "filenames", "file_name", "file_pattern", "pattern_path", "path", "paths", "log_dir_path"),
        *("directory", "logdir", "prefix", "memory_region_name", "output_file_path", "vocab_file", "address"),
        *("output_stream", "descriptor_source", "debug_urls", "server_address", "shard_dir", "ckpt_path"),
    }
)


def check(folder: Path) -> Any:
    """Returns the definition of a SavedModel whose functions only compute.

    Raises:
        ModelError: it isn't readable, or is of TensorFlow 1, or a function calls an operation that isn't allowed.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / FILE
    try:
        proto = saved_model_pb2.SavedModel.FromString(texts.read_bytes(path, ModelError, _ADVICE, most=MAX_BYTES))
    except DecodeError:
        raise ModelError(f"{path} is no SavedModel, or only part of one. {_ADVICE}") from None
    if len(proto.meta_graphs) != 1 or not proto.meta_graphs[0].HasField("object_graph_def"):
        raise ModelError(
            f"{path} is a SavedModel of TensorFlow 1, which runs as it is loaded. Save it with TensorFlow 2."
        )
    graph = proto.meta_graphs[0]
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    for operation in sorted(_operations(graph.object_graph_def.concrete_functions, library)):
        if fault := _fault(operation):
            raise ModelError(
                f"{path} has the operation {texts.listed([operation])}, which {fault}. It isn't loaded: {_ADVICE}"
            )
    return proto


def _operations(entries: Mapping[str, Any], library: Mapping[str, Any]) -> set[str]:
    """Returns the operations of functions that can be called, directly or by others.

    What nobody can call, above all how TensorFlow itself saves and restores, isn't run by loading or serving.
    """
    found, seen, waiting = set(), set(entries), list(entries)
    while waiting:
        function = library.get(waiting.pop())
        for node in function.node_def if function is not None else ():
            for name in (node.op, *(each for value in node.attr.values() for each in _called(value))):
                if name in library:
                    if name not in seen:
                        seen.add(name)
                        waiting.append(name)
                elif name:
                    found.add(name)
    return found


def _called(value: Any) -> Iterator[str]:
    """Yields the functions that an attribute names."""
    for function in (value.func, *value.list.func):
        if function.name:
            yield function.name
            for each in function.attr.values():
                yield from _called(each)


def _fault(operation: str) -> str:
    """Returns why an operation isn't allowed; nothing if it is."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation)
    if definition is None:
        return "TensorFlow doesn't have"
    names = {part.name for part in (*definition.input_arg, *definition.attr)}
    if _DOES_MORE.search(operation) or names & _PLACES:
        return "may reach files, Python or other machines"
    return ""
