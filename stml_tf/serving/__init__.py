"""Serving: the exported network, and searching with it."""

from importlib import import_module
from typing import Any

__all__ = ["Embedder", "Gallery", "Match", "export_saved_model"]

_HOMES = {
    "Embedder": "stml_tf.serving.embedder",
    "Gallery": "stml_tf.serving.gallery",
    "Match": "stml_tf.serving.match",
    "export_saved_model": "stml_tf.serving.export",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: a gallery is opened, grouped and clustered without TensorFlow.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stml_tf.serving' has no attribute {name!r}")
