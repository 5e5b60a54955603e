"""Searching with an exported network: galleries, embeddings of files, duplicates and clusters."""

from importlib import import_module
from typing import Any

__all__ = ["Gallery", "Match"]

_HOMES = {
    "Gallery": "stml_tf.search.gallery",
    "Match": "stml_tf.search.match",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: a command that is refused should not wait for what it will not need.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stml_tf.search' has no attribute {name!r}")
