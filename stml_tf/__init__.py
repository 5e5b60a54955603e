"""Learn image retrieval from unlabelled images: Self-Taught Metric Learning in TensorFlow and Keras 3."""

import os
from importlib import import_module
from typing import Any

# Before TensorFlow is imported: oneDNN doubles the speed on processors where TensorFlow leaves it off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
__all__ = ["evaluate", "export", "load_recipe", "train"]

_HOMES = {
    "load_recipe": "stml_tf.recipe.load",
    "train": "stml_tf.runs.train",
    "evaluate": "stml_tf.runs.evaluate",
    "export": "stml_tf.runs.evaluate",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that checking a recipe or asking for help does not wait for TensorFlow.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stml_tf' has no attribute {name!r}")
