"""The exported network: a SavedModel, its model card, and embedding images with it."""

from importlib import import_module
from typing import Any

__all__ = ["Embedder", "export_saved_model"]

_HOMES = {
    "Embedder": "stml_tf.export.embedder",
    "export_saved_model": "stml_tf.export.saved_model_writer",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: a gallery is opened, grouped and clustered without TensorFlow.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stml_tf.export' has no attribute {name!r}")
