"""Writes checkpoints byte for byte as `torch.save` does, where PyTorch is not installed."""

import io
import pickle
import struct
import sys
import types
import zipfile
from contextlib import contextmanager

import ml_dtypes
import numpy as np

STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.bool_): "BoolStorage",
}


class Saved:
    """A tensor: an array, or any offset, shape and strides (in numbers) over the array's storage."""

    def __init__(self, array, *, offset=0, shape=None, strides=None):
        self.array = np.ascontiguousarray(array)
        self.offset = offset
        self.shape = self.array.shape if shape is None else shape
        strides_in_bytes = self.array.strides
        self.strides = tuple(s // self.array.itemsize for s in strides_in_bytes) if strides is None else strides


class _Storage:
    def __init__(self, array):
        self.array = array


class _Pickler(pickle.Pickler):
    def __init__(self, file, torch, legacy):
        super().__init__(file, protocol=2)
        self.torch, self.legacy, self.storages = torch, legacy, {}

    def reducer_override(self, value):
        if isinstance(value, Saved):
            arguments = (_Storage(value.array), value.offset, value.shape, value.strides, False, {})
            return self.torch._utils._rebuild_tensor_v2, arguments
        return NotImplemented

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        array = value.array
        key = next((key for key, known in self.storages.items() if known is array), str(len(self.storages)))
        self.storages[key] = array
        kind = getattr(self.torch, STORAGES[array.dtype])
        return ("storage", kind, key, "cpu", array.size, *([None] if self.legacy else []))


def torch_save(value, path, *, legacy=False, byte_order="little"):
    with _torch_names() as torch:
        content = io.BytesIO()
        pickler = _Pickler(content, torch, legacy)
        pickler.dump(value)
    write_checkpoint(path, content.getvalue(), pickler.storages, legacy=legacy, byte_order=byte_order)


def write_checkpoint(path, pickled, storages=None, *, legacy=False, byte_order="little"):
    storages = storages or {}
    if legacy:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        with path.open("wb") as file:
            for part in (0x1950A86A20F9469CFC6C, 1001, system):
                pickle.dump(part, file, protocol=2)
            file.write(pickled)
            pickle.dump(sorted(storages), file, protocol=2)
            for key in sorted(storages):
                file.write(struct.pack("<q", storages[key].size) + storages[key].tobytes())
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byte_order)
        for key, array in storages.items():
            array = array.byteswap() if byte_order == "big" else array
            archive.writestr(f"archive/data/{key}", array.tobytes())


@contextmanager
def _torch_names():
    """The names that a pickle refers to must exist while it is written."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch._utils = utils
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
