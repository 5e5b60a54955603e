"""A reader of files that `torch.save` wrote, without PyTorch and without running anything in them.

A checkpoint is a pickle, and a pickle can name any function to call. Here the names below are all that exist; each
stands for a plain record of this module. Numbers lie beside the pickle: in a zip archive, or behind it in files that
PyTorch wrote before version 1.6.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from stml_tf.errors import UserError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LARGEST_PICKLE = 1 << 28
_STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Storage:
    """A sequence of numbers that several tensors may share; its content follows the pickle."""

    def __init__(self, dtype: np.dtype, size: int) -> None:
        self.dtype = dtype
        self.size = size
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it sets the state of a storage")

    def fill(self, content: bytes, byte_order: str) -> None:
        _require(len(content) == self.size * self.dtype.itemsize, "a storage is cut short")
        values = np.frombuffer(content, self.dtype)
        self.values = values.byteswap() if byte_order == "big" else values


class StoredTensor:
    """A tensor in a checkpoint, which is a view of a storage."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        _require(isinstance(storage, Storage), "a tensor has no storage")
        _require(len(shape) == len(strides), "a tensor has no shape")
        _require(all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)), "a bad shape")
        # A view beyond its storage would expose other memory of the process; an expanded one could exhaust it.
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        size = math.prod(shape)
        _require(not size or (last < storage.size and size <= storage.size), "a tensor is larger than its storage")
        self._storage, self._offset, self._shape, self._strides = storage, offset, shape, strides

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it sets the state of a tensor")

    def numpy(self) -> np.ndarray:
        """Return the values in the tensor's shape."""
        values = self._storage.values
        _require(values is not None, "a storage is missing")
        if not math.prod(self._shape):
            return np.zeros(self._shape, values.dtype)
        strides = [stride * values.itemsize for stride in self._strides]
        return np.lib.stride_tricks.as_strided(values[self._offset :], self._shape, strides, writeable=False)


class NumpyDtype:
    """A pickled NumPy dtype."""

    def __init__(self, name: str) -> None:
        self.dtype = np.dtype(name if isinstance(name, str) else "O")
        _require(self.dtype.kind in "fiub", "an array holds no numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class NumpyArray:
    """A pickled NumPy array."""

    def __init__(self) -> None:
        self._array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        _require(isinstance(dtype, NumpyDtype) and isinstance(content, bytes), "an array holds no numbers")
        self._array = np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if is_fortran else "C")

    def numpy(self) -> np.ndarray:
        """Return the values."""
        _require(self._array is not None, "an array holds no numbers")
        return self._array


def read_pickled_checkpoint(path: Path) -> Any:
    """Read the object that `torch.save` wrote, without running anything in the file.

    Args:
        path: The file.

    Returns:
        Dictionaries and lists of plain values, `StoredTensor`s and `NumpyArray`s.

    Raises:
        UserError: If the file is damaged, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            return _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{path} is not a checkpoint of tensors only, and nothing else can be read: {reason}. Save "
            "model.state_dict() with torch.save."
        ) from error


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        _require(len(names) == 1, "the archive holds no data.pkl")
        folder = names[0].removesuffix("data.pkl")
        _require(archive.getinfo(names[0]).file_size <= _LARGEST_PICKLE, "its data.pkl is too large")
        unpickler = _Unpickler(io.BytesIO(archive.read(names[0])))
        found = unpickler.load()
        order_file = f"{folder}byteorder"
        byte_order = archive.read(order_file).decode() if order_file in archive.namelist() else "little"
        for key, storage in unpickler.storages.items():
            info = archive.getinfo(f"{folder}data/{key}")
            _require(info.file_size == storage.size * storage.dtype.itemsize, f"storage {key} has another size")
            storage.fill(archive.read(info), byte_order)
        return found


def _read_legacy(file: BinaryIO) -> Any:
    file.seek(0)
    _require(_Unpickler(file).load() == _LEGACY_MAGIC, "it is neither a zip archive nor a file of PyTorch's")
    _require(_Unpickler(file).load() == _LEGACY_PROTOCOL, "it has an unknown protocol")
    system = _Unpickler(file).load()
    unpickler = _Unpickler(file)
    found = unpickler.load()
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        _require(int.from_bytes(file.read(8), "little") == storage.size, f"storage {key} has another size")
        storage.fill(file.read(storage.size * storage.dtype.itemsize), "little" if system["little_endian"] else "big")
    return found


class _Unpickler(pickle.Unpickler):
    """An unpickler that resolves the names below and no others.

    They resolve to methods, strings and built-in types: a pickle could set the attributes of anything else that it
    names, and so change this program.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return name
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        methods = {
            ("torch._utils", "_rebuild_tensor"): self._rebuild_tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): self._rebuild_parameter,
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): self._dtype,
            ("numpy.core.multiarray", "_reconstruct"): self._array,
            ("numpy._core.multiarray", "_reconstruct"): self._array,
            ("_codecs", "encode"): self._bytes,
            ("torch", "Size"): tuple,
        }
        if (module, name) not in methods:
            raise ValueError(f"it refers to {module}.{name}")
        return methods[module, name]

    def persistent_load(self, reference: Any) -> Storage:
        kind, name, key, _, size, *_ = reference
        _require(kind == "storage" and name in _STORAGES and type(size) is int and size >= 0, "an unknown reference")
        return self.storages.setdefault(key, Storage(np.dtype(_STORAGES[name]), size))

    def _rebuild_tensor(self, storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> StoredTensor:
        return StoredTensor(storage, offset, tuple(shape), tuple(strides))

    def _rebuild_parameter(self, tensor: StoredTensor, *_: Any) -> StoredTensor:
        return tensor

    def _dtype(self, name: str, *_: Any) -> NumpyDtype:
        return NumpyDtype(name)

    def _array(self, *_: Any) -> NumpyArray:
        return NumpyArray()

    def _bytes(self, text: str, encoding: str) -> bytes:
        """Decode bytes as protocol 2 of pickle, which PyTorch writes, stores them."""
        _require(encoding == "latin1", f"bytes are encoded in {encoding}")
        return text.encode("latin1")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
