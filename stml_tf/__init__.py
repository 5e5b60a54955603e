"""Learn image retrieval from unlabelled images: Self-Taught Metric Learning in TensorFlow and Keras 3."""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Before TensorFlow is imported: oneDNN doubles the speed on processors where TensorFlow leaves it off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"

# Imported on first use, so that checking a recipe or asking for help does not wait for TensorFlow.
_HOMES = {
    "Gallery": "stml_tf.search",
    "Recipe": "stml_tf.recipe.recipe",
    "UserError": "stml_tf.errors",
    "evaluate": "stml_tf.runs.evaluate",
    "export": "stml_tf.runs.export",
    "load_recipe": "stml_tf.recipe.load",
    "register_backbone": "stml_tf.registry",
    "register_loss": "stml_tf.registry",
    "register_method": "stml_tf.registry",
    "register_source": "stml_tf.registry",
    "train": "stml_tf.runs.train",
}
__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from stml_tf.errors import UserError as UserError
    from stml_tf.recipe.load import load_recipe as load_recipe
    from stml_tf.recipe.recipe import Recipe as Recipe
    from stml_tf.registry import register_backbone as register_backbone
    from stml_tf.registry import register_loss as register_loss
    from stml_tf.registry import register_method as register_method
    from stml_tf.registry import register_source as register_source
    from stml_tf.runs.evaluate import evaluate as evaluate
    from stml_tf.runs.export import export as export
    from stml_tf.runs.train import train as train
    from stml_tf.search import Gallery as Gallery


class _Package(ModuleType):
    """This module, whose public names are found where they live."""

    def __getattr__(self, name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'stml_tf' has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted(__all__)

    @property
    def export(self) -> Any:
        return self.__getattr__("export")

    @export.setter
    def export(self, room: ModuleType) -> None:
        """Keep the function of that name: the import system would put the package `stml_tf.export` in its place."""


sys.modules[__name__].__class__ = _Package
