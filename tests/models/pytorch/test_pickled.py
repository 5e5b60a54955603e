import os
import pickle
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest

from stml_tf.errors import UserError
from stml_tf.models.pytorch.pickled import read_pickled_checkpoint
from tests.hostile import Harmful
from tests.models.pytorch.written_by_torch import Saved, torch_save, write_checkpoint

FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@FORMATS
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int64, np.bool_])
def test_tensors_of_every_kind_come_back(tmp_path, dtype, legacy):
    array = (VALUES % 5).astype(dtype)
    torch_save(
        OrderedDict(weight=Saved(array), step=3, nested={"bias": Saved(array[0])}), tmp_path / "a.pth", legacy=legacy
    )
    found = read_pickled_checkpoint(tmp_path / "a.pth")
    assert found["step"] == 3
    np.testing.assert_array_equal(found["weight"].numpy(), array)
    np.testing.assert_array_equal(found["nested"]["bias"].numpy(), array[0])
    assert found["weight"].numpy().dtype == dtype


@FORMATS
def test_views_of_one_storage_come_back(tmp_path, legacy):
    state = {
        "whole": Saved(VALUES),
        "transposed": Saved(VALUES, shape=(4, 3), strides=(1, 4)),
        "row": Saved(VALUES, offset=4, shape=(4,), strides=(1,)),
        "number": Saved(VALUES, offset=7, shape=(), strides=()),
        "nothing": Saved(VALUES, shape=(0, 4), strides=(4, 1)),
    }
    torch_save(state, tmp_path / "a.pth", legacy=legacy)
    found = {name: tensor.numpy() for name, tensor in read_pickled_checkpoint(tmp_path / "a.pth").items()}
    np.testing.assert_array_equal(found["transposed"], VALUES.T)
    np.testing.assert_array_equal(found["row"], VALUES[1])
    assert found["number"] == 7
    assert found["nothing"].shape == (0, 4)


def test_files_of_big_endian_machines_are_read(tmp_path):
    torch_save({"weight": Saved(VALUES)}, tmp_path / "a.pth", byte_order="big")
    np.testing.assert_array_equal(read_pickled_checkpoint(tmp_path / "a.pth")["weight"].numpy(), VALUES)


@FORMATS
@pytest.mark.parametrize("dtype", [np.float32, ">f8"])
def test_numpy_arrays_come_back(tmp_path, dtype, legacy):
    array = np.asfortranarray(VALUES.astype(dtype))
    torch_save({"weight": array}, tmp_path / "a.pth", legacy=legacy)
    np.testing.assert_array_equal(read_pickled_checkpoint(tmp_path / "a.pth")["weight"].numpy(), VALUES)


@FORMATS
@pytest.mark.parametrize(
    "view",
    [
        {"shape": (13,), "strides": (1,)},
        {"offset": 12, "shape": (1,), "strides": (1,)},
        {"shape": (3, 4), "strides": (5, 1)},
        {"offset": -1, "shape": (2,), "strides": (1,)},
        {"offset": 11, "shape": (12,), "strides": (-1,)},
        {"shape": (10**12,), "strides": (0,)},
        {"shape": (3,), "strides": (1, 1)},
    ],
)
def test_tensors_that_leave_their_storage_are_refused(tmp_path, view, legacy):
    torch_save({"weight": Saved(VALUES, **view)}, tmp_path / "a.pth", legacy=legacy)
    with pytest.raises(UserError, match=r"a\.pth is not a checkpoint of tensors only"):
        read_pickled_checkpoint(tmp_path / "a.pth")


@FORMATS
@pytest.mark.parametrize(
    ("function", "arguments"),
    [(os.system, ("touch {}",)), (eval, ("open({!r}, 'w')",)), (os.mkdir, ("{}",)), (exec, ("open({!r}, 'w')",))],
)
def test_code_in_a_checkpoint_is_not_run(tmp_path, function, arguments, legacy):
    mark = tmp_path / "was_run"
    harmful = Harmful(function, *(text.format(str(mark)) for text in arguments))
    write_checkpoint(tmp_path / "a.pth", pickle.dumps({"weight": harmful}, protocol=2), legacy=legacy)
    with pytest.raises(UserError, match=r"it refers to (posix|builtins|__builtin__)\.\w+\. Save model\.state_dict"):
        read_pickled_checkpoint(tmp_path / "a.pth")
    assert not mark.exists()
    pickle.loads(pickle.dumps({"weight": harmful}))  # the pickle would have done it
    assert mark.exists()


@pytest.mark.parametrize(
    "target",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"ccollections\nOrderedDict\n",
        b"cnumpy\ndtype\n",
        b"ctorch\nSize\n",
    ],
)
def test_a_pickle_cannot_change_what_its_names_stand_for(tmp_path, target):
    """BUILD with a pair sets attributes: `object.__setstate__((None, {"numpy": 1}))`."""
    pickled = b"\x80\x02" + target + b"N}X\x05\x00\x00\x00numpyK\x01s\x86b."
    write_checkpoint(tmp_path / "a.pth", pickled)
    with pytest.raises(UserError, match="not a checkpoint of tensors only"):
        read_pickled_checkpoint(tmp_path / "a.pth")


def test_the_state_of_a_tensor_cannot_be_set(tmp_path):
    torch_save(Saved(VALUES), tmp_path / "a.pth")
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        pickled = archive.read("archive/data.pkl")
    hostile = pickled[:-1] + b"}X\x07\x00\x00\x00_offsetJ\xff\xff\xff\x7fsb."
    write_checkpoint(tmp_path / "b.pth", hostile, {"0": VALUES})
    with pytest.raises(UserError, match="it sets the state of a tensor"):
        read_pickled_checkpoint(tmp_path / "b.pth")


@FORMATS
@pytest.mark.parametrize("array", [np.array([None]), np.array(["a"]), np.zeros(2, "f4,i4")])
def test_arrays_of_objects_are_refused(tmp_path, array, legacy):
    torch_save({"weight": array}, tmp_path / "a.pth", legacy=legacy)
    with pytest.raises(UserError, match="not a checkpoint of tensors only"):
        read_pickled_checkpoint(tmp_path / "a.pth")


@FORMATS
def test_a_storage_of_another_size_is_refused(tmp_path, legacy):
    torch_save({"weight": Saved(VALUES)}, tmp_path / "whole.pth", legacy=legacy)
    content = (tmp_path / "whole.pth").read_bytes()
    damaged = content[:-8] if legacy else content.replace(b"archive/data/0", b"archive/data/1")
    (tmp_path / "a.pth").write_bytes(damaged)
    with pytest.raises(UserError, match="not a checkpoint of tensors only"):
        read_pickled_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"", b"text, not a checkpoint", b"\x80\x02K\x01.", b"PK\x05\x06" + bytes(18)])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.pth is not a checkpoint"):
        read_pickled_checkpoint(tmp_path / "bad.pth")
