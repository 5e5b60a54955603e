"""Losses of tensorflow-addons, for recipes that name one.

tensorflow-addons 0.23.0 is its last release (end of life May 2024). It has wheels for Python up to 3.11 and was written
for Keras 2, so `tensorflow.keras` is the package tf-keras while it is imported, and only then. Nothing is imported or
changed before the first of its losses is built.
"""

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import keras
from keras import ops

from stml_tf.errors import UserError
from stml_tf.losses.options import require_known
from stml_tf.registry import ADDONS_PREFIX
from stml_tf.tensor import Tensor

LAST_PYTHON = (3, 11)

# Modules that tensorflow-addons imports by names that now belong to Keras 3, and where Keras 2 has them.
_LEGACY_HOMES = {"tensorflow.keras": "tf_keras.api._v2.keras", "keras.src.engine": "tf_keras.src.engine"}


@keras.saving.register_keras_serializable("stml_tf")
class TensorFlowAddonsLoss(keras.losses.Loss):
    """A function of `tensorflow_addons.losses` as a Keras loss: `loss(labels, embeddings)`, a scalar.

    Args:
        function: Name of a function of `(y_true, y_pred)`, such as "triplet_semihard_loss".
        options: Further arguments of the function, such as `{"margin": 0.5}`.

    Raises:
        UserError: If tensorflow-addons is not available, or has no such function or option.
    """

    def __init__(self, function: str, options: Mapping[str, Any] | None = None, name: str | None = None) -> None:
        super().__init__(name=name or function, reduction="none")
        self.function = function
        self.options = dict(options or {})
        self._function = _find(function, self.options)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        # Some functions return a value for each row.
        return ops.mean(self._function(y_true, y_pred, **self.options))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "function": self.function, "options": self.options}


def _find(name: str, options: Mapping[str, Any]) -> Callable[..., Tensor]:
    losses = _losses_module(name)
    functions = {key: found for key, found in vars(losses).items() if _is_loss(found)}
    require_known(f'Unknown loss "{ADDONS_PREFIX}{name}"', name, functions)
    allowed = list(inspect.signature(functions[name]).parameters)[2:]
    for option in options:
        require_known(f'Loss "{ADDONS_PREFIX}{name}" has no option {option!r}', option, allowed)
    return functions[name]


def _losses_module(name: str) -> ModuleType:
    wanted = f'The loss "{ADDONS_PREFIX}{name}" needs tensorflow-addons'
    if sys.version_info[:2] > LAST_PYTHON:
        here = ".".join(map(str, sys.version_info[:2]))
        raise UserError(
            f"{wanted}, which exists for Python up to {'.'.join(map(str, LAST_PYTHON))}; this is Python {here}. "
            f"Choose a native loss instead, such as triplet or lifted_structure."
        )
    try:
        with _legacy_keras(), warnings.catch_warnings():
            # At every import it warns of its end of life, and of any TensorFlow above 2.15.
            warnings.simplefilter("ignore")
            return import_module("tensorflow_addons.losses")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{wanted} and tf-keras, but {error.name} is not installed. Install both with pip install "
            f"'stml-tf[addons]', or choose a native loss instead, such as triplet or lifted_structure."
        ) from error


@contextmanager
def _legacy_keras() -> Iterator[None]:
    """Let imports by the names of `_LEGACY_HOMES` find Keras 2 within the block."""
    import tensorflow

    legacy = {name: import_module(home) for name, home in _LEGACY_HOMES.items()}
    # Both the attribute and the modules, for `tf.keras.losses` and for `from tensorflow.keras import losses`.
    attribute = vars(tensorflow)["keras"]
    hidden = _remove_modules(legacy)
    tensorflow.keras = legacy["tensorflow.keras"]
    sys.modules.update(legacy)
    try:
        yield
    finally:
        tensorflow.keras = attribute
        _remove_modules(legacy)
        sys.modules.update(hidden)


def _remove_modules(names: Mapping[str, ModuleType]) -> dict[str, ModuleType]:
    """Remove the modules of these names, and all below them, from `sys.modules`, and return them."""
    found = [key for key in sys.modules if any(key == name or key.startswith(f"{name}.") for name in names)]
    return {key: sys.modules.pop(key) for key in found}


def _is_loss(found: Any) -> bool:
    if not callable(found) or inspect.isclass(found):
        return False
    required = [p for p in inspect.signature(found).parameters.values() if p.default is p.empty]
    return len(required) == 2
