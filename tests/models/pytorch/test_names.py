import errno
import json

import keras
import numpy as np
import pytest

from stml_tf.errors import UserError
from stml_tf.models import build_backbone, build_student, convert_pytorch_weights, load_pytorch_weights
from tests.disk import at_most

NETWORKS = ["googlenet", "bn_inception", "resnet18", "resnet34", "resnet50"]


def without_heads(state):
    return {key: array for key, array in state.items() if ".embedding_" not in key}


def authors_googlenet(state):
    """The names of the GoogLeNet file that the authors begin with: no wrapper, no letters of branches."""
    names = {key: key.removeprefix("model.features.").split(".") for key in without_heads(state)}
    return {".".join(part for part in parts if part not in "abcd"): state[key] for key, parts in names.items()}


def old_bn_inception(state):
    """The names of `bn_inception-52deb4733.pth`, whose BatchNorm vectors are rows of a matrix."""
    return {
        key.removeprefix("model."): array[None] if "_bn." in key else array
        for key, array in without_heads(state).items()
    }


def torchvision(state):
    return {key.removeprefix("model."): array for key, array in without_heads(state).items()}


def several_gpus(state):
    return {"model_state_dict": {f"module.{key}": array for key, array in state.items()}, "epoch": 90}


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_compute_what_pytorch_does(network, checkpoint, golden):
    """Goldens: the authors' networks with deterministic weights and images."""
    expected = golden("backbones")
    student = build_student(network, embedding_dim=64, teacher_dim=128)
    load_pytorch_weights(student, checkpoint(network))
    size, scale = (224, 1) if network.startswith("resnet") else (227, 50)
    random = np.random.RandomState(5)
    images = random.standard_normal((2, size, size, 3)).astype(np.float32) * scale
    wide_images = random.standard_normal((1, 160, 192, 3)).astype(np.float32) * scale

    pool = student.get_layer("pooled").output
    model = keras.Model(
        student.input, {"pooled": pool, "embedding_f": student.output[0], "embedding_g": student.output[1]}
    )
    found = {**model(images, training=False), "pooled_160x192": model(wide_images, training=False)["pooled"]}
    for name, values in found.items():
        reference = expected[f"{network}_{name}"]
        np.testing.assert_allclose(values, reference, rtol=1e-4, atol=1e-5 * np.abs(reference).max(), err_msg=name)


@pytest.mark.parametrize(
    ("network", "family"),
    [
        ("googlenet", authors_googlenet),
        ("bn_inception", old_bn_inception),
        ("resnet18", torchvision),
        ("resnet18", several_gpus),
    ],
)
def test_checkpoints_of_other_names_are_the_same_network(network, family, checkpoint):
    state = checkpoint(network)
    assert set(family(state)).isdisjoint(state)
    backbones = build_backbone(network), build_backbone(network)
    load_pytorch_weights(backbones[0], state)
    load_pytorch_weights(backbones[1], family(state))
    for a, b in zip(*(backbone.weights for backbone in backbones), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_variable_is_filled(checkpoint):
    student = build_student("bn_inception", embedding_dim=64, teacher_dim=128)
    for variable in student.weights:
        variable.assign(np.full(variable.shape, np.nan))
    load_pytorch_weights(student, checkpoint("bn_inception"))
    assert all(np.isfinite(np.asarray(variable)).all() for variable in student.weights)


def test_depthwise_kernels_keep_channels_apart(random):
    backbone = build_backbone("efficientnet_lite0")
    state = {}
    for layer in backbone.layers:
        name = "_" + layer.name.replace(".", "._")
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            state[f"{name}.weight"] = random.normal(size=(layer.kernel.shape[2], 1, *layer.kernel.shape[:2]))
        elif isinstance(layer, keras.layers.Conv2D):
            state[f"{name}.weight"] = random.normal(size=np.array(layer.kernel.shape)[[3, 2, 0, 1]])
        elif isinstance(layer, keras.layers.BatchNormalization):
            keys = ("weight", "bias", "running_mean", "running_var")
            state |= {f"{name}.{key}": random.uniform(size=layer.gamma.shape) for key in keys}
    load_pytorch_weights(backbone, state | {"_fc.weight": np.ones((1000, 1280)), "_fc.bias": np.ones(1000)})
    kernel = np.asarray(backbone.get_layer("blocks.3.depthwise_conv").kernel)
    weight = state["_blocks._3._depthwise_conv.weight"]
    np.testing.assert_allclose(kernel[1, 4, 17, 0], weight[17, 0, 1, 4], rtol=1e-6)
    norm = backbone.get_layer("blocks.3.bn1")
    np.testing.assert_allclose(norm.moving_variance, state["_blocks._3._bn1.running_var"], rtol=1e-6)


@pytest.fixture(scope="module")
def resnet18():
    return build_backbone("resnet18")


def changed(state, **changes):
    return {key: array for key, array in {**state, **changes}.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.bn1.bias": None, "model.conv1.weight": None},
            r"not fit resnet18: it lacks conv1\.weight, bn1\.bias of the 100 expected arrays; it holds bn1\.weight, .*",
        ),
        (
            {"model.layer5.0.conv1.weight": np.ones(3)},
            r"it also holds layer5\.0\.conv1\.weight; expected: conv1\.weight, .* and 96 more",
        ),
        ({"model.bn1.bias": np.ones(65)}, r"bn1\.bias has the shape \[65\], which does not match \[64\]"),
        ({"model.conv1.weight": np.ones((64, 3))}, r"conv1\.weight has the shape \[64, 3\], which does not match \[7"),
    ],
)
def test_another_network_is_refused_and_nothing_is_changed(resnet18, checkpoint, changes, message):
    before = resnet18.get_weights()
    with pytest.raises(ValueError, match=message):
        load_pytorch_weights(resnet18, changed(checkpoint("resnet18"), **changes))
    for a, b in zip(before, resnet18.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_deeper_network_is_refused(resnet18, checkpoint):
    with pytest.raises(ValueError, match=r"it also holds layer1\.2\.conv1\.weight"):
        load_pytorch_weights(resnet18, checkpoint("resnet34"))


def test_a_student_needs_its_heads(checkpoint):
    student = build_student("resnet18", embedding_dim=64, teacher_dim=128)
    with pytest.raises(ValueError, match=r"not fit resnet18: it lacks embedding_f\.weight"):
        load_pytorch_weights(student, without_heads(checkpoint("resnet18")))


def test_a_converted_backbone_is_what_a_recipe_begins_with(tmp_path, checkpoint):
    state, out = without_heads(checkpoint("resnet18")), tmp_path / "new" / "resnet18.weights.h5"
    section = convert_pytorch_weights(state, "resnet18", out)
    assert section == {"backbone": "resnet18", "weights": str(out)}
    student = build_student(**section, embedding_dim=4, teacher_dim=4)
    expected = build_backbone("resnet18")
    load_pytorch_weights(expected, state)
    for a, b in zip(student.get_layer("resnet18").weights, expected.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_converted_student_keeps_its_heads(tmp_path, checkpoint, random):
    state, out = checkpoint("resnet18"), tmp_path / "student.weights.h5"
    section = convert_pytorch_weights(several_gpus(state), "resnet18", out)
    assert section == {"backbone": "resnet18", "weights": str(out), "embedding_dim": 64, "teacher_dim": 128}
    assert json.loads(json.dumps(section)) == section
    found = build_student(**section, freeze_batch_norm=True)
    expected = build_student("resnet18", embedding_dim=64, teacher_dim=128)
    load_pytorch_weights(expected, state)
    images = random.normal(size=(1, 64, 64, 3)).astype(np.float32)
    for a, b in zip(found(images), expected(images), strict=True):
        np.testing.assert_array_equal(a, b)


def test_heads_of_other_widths_are_refused(tmp_path, checkpoint):
    out = tmp_path / "student.weights.h5"
    convert_pytorch_weights(checkpoint("resnet18"), "resnet18", out)
    with pytest.raises(ValueError, match="embedding_dim=64 and teacher_dim=128: set these instead of 64 and 1024"):
        build_student("resnet18", embedding_dim=64, teacher_dim=1024, weights=str(out))


def test_a_student_on_another_backbone_is_refused(tmp_path, checkpoint):
    out = tmp_path / "student.weights.h5"
    convert_pytorch_weights(checkpoint("resnet18"), "resnet18", out)
    with pytest.raises(ValueError, match=r"student\.weights\.h5 holds no weights for a student on resnet34"):
        build_student("resnet34", embedding_dim=64, teacher_dim=128, weights=str(out))


def test_heads_may_be_left_out(tmp_path, checkpoint):
    out = tmp_path / "trunk.weights.h5"
    section = convert_pytorch_weights(checkpoint("resnet18"), "resnet18", out, heads=False)
    assert section == {"backbone": "resnet18", "weights": str(out)}
    build_backbone("resnet18", weights=str(out))


@pytest.mark.parametrize(
    ("backbone", "out", "message"),
    [
        ("ResNet50", "a.weights.h5", "PyTorch weights cannot be read for 'ResNet50': choose one of conv4, googlenet"),
        ("resnet50", "a.h5", r"a\.h5: the name of a Keras weights file must end in \.weights\.h5"),
    ],
)
def test_other_names_are_refused(tmp_path, backbone, out, message):
    with pytest.raises(ValueError, match=message):
        convert_pytorch_weights({}, backbone, tmp_path / out)


def test_a_disk_that_fills_up_while_weights_are_written_is_an_error_that_leaves_nothing(tmp_path, checkpoint):
    out = tmp_path / "new" / "resnet18.weights.h5"
    for room in (100_000, 40_000_000):  # within Keras's archive, and within the file that is made of it
        with at_most(room), pytest.raises(OSError, match="File too large") as raised:
            convert_pytorch_weights(checkpoint("resnet18"), "resnet18", out, heads=False)
        assert raised.value.errno == errno.EFBIG
        assert list(tmp_path.iterdir()) == []


def test_a_weights_file_of_ours_is_checked_and_a_foreign_one_is_never_replaced(tmp_path, checkpoint):
    out = tmp_path / "resnet18.weights.h5"
    convert_pytorch_weights(checkpoint("resnet18"), "resnet18", out, heads=False)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    with pytest.raises(UserError, match=r"weights\.h5 exists already: give another file, or replace it"):
        convert_pytorch_weights(checkpoint("resnet18"), "resnet18", out, heads=False)
    convert_pytorch_weights(checkpoint("resnet18"), "resnet18", out, heads=False, overwrite=True)
    whole = out.read_bytes()
    out.write_bytes(whole[:-5000] + bytes([whole[-5000] ^ 1]) + whole[-4999:])
    with pytest.raises(UserError, match="does not have the checksum that it was written with"):
        build_backbone("resnet18", weights=str(out))
    foreign = tmp_path / "photo.weights.h5"
    foreign.write_bytes(b"photo")
    with pytest.raises(UserError, match="was not written by this command"):
        convert_pytorch_weights(checkpoint("resnet18"), "resnet18", foreign, overwrite=True)
    assert foreign.read_bytes() == b"photo"
