"""Tells a graph that only computes from one that writes files, runs Python or opens connections.

A SavedModel is a program: TensorFlow runs its initialisers when it is loaded, and its signatures when it embeds. What
an exported network needs has no effect on anything outside of it, so a model that comes from elsewhere and has one is
refused before it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from stml_tf.errors import UserError

_SAVING = frozenset({"Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"})
_EFFECTS = frozenset(
    {"WriteFile", "FileSystemSetConfiguration", "SaveDataset", "SaveDatasetV2", "DatasetToTFRecord"}
    | {"DatasetToTFRecordV2", "SnapshotDataset", "SnapshotDatasetV2", "CacheDataset", "CacheDatasetV2"}
    | {"PyFunc", "PyFuncStateless", "EagerPyFunc", "GeneratorDataset", "RemoteCall", "RemoteFusedGraphExecute"}
    | {"CreateSummaryFileWriter", "CreateSummaryDbWriter", "DebugIdentity", "DebugIdentityV2", "DebugIdentityV3"}
    | {"DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4", "RegisterDataset"}
    | {"RegisterDatasetV2", "RpcClient", "RpcServer", "RpcCall"}
)


def refuse_effects(saved_model: Path) -> None:
    """Refuse a SavedModel whose graph does more than compute.

    Args:
        saved_model: The folder of `saved_model.pb`.

    Raises:
        UserError: If it is so, or there is no graph.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        content = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf's own type, and whatever a disk does
        raise UserError(f"{saved_model} cannot be loaded as a SavedModel, export it again: {error}") from error
    found = sorted({effect for graph in content.meta_graphs for effect in _effects_of(graph)})
    if found:
        raise UserError(
            f"{saved_model} does more than compute embeddings ({', '.join(found)}), so it is not loaded: give a "
            "SavedModel that `stml-tf export` wrote"
        )


def _effects_of(graph: Any) -> Iterator[str]:
    """Name the operations of a `MetaGraphDef` that have an effect; but for its saver, which loading does not run."""
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    saver = graph.saver_def.save_tensor_name.partition(":")[0]
    saves = {node.attr["f"].func.name for node in graph.graph_def.node if node.name == saver}
    others = [node for node in graph.graph_def.node if node.name != saver]
    inside = {name: list(nodes) for name, nodes in functions.items() if name not in saves}
    called = set(_called_by(chain(others, *inside.values())))
    inside |= {name: list(functions[name]) for name in saves & called & functions.keys()}
    for node in chain(others, *inside.values()):
        to_a_file = node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:")
        if node.op in _EFFECTS or node.op in _SAVING or to_a_file:
            yield node.op


def _called_by(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)
