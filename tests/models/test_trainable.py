import keras
import numpy as np
import pytest

from stml_tf import registry
from stml_tf.errors import UserError
from stml_tf.methods import SelfTaughtModel
from stml_tf.models import build_backbone, build_student, build_teacher
from stml_tf.models.backbones.vit import ViTConfig, build_vit
from stml_tf.models.trainable import (
    block_ends,
    frozen_part,
    learning_part,
    learning_rate_scales,
    merge_lora,
    split_backbone,
)

TINY = ViTConfig(dim=12, num_heads=3, patch_size=4, grid=4, depth=3, layer_scale=True)


@pytest.fixture
def tiny():
    with registry.backbones.holding(registry.Backbone("tiny_vit", lambda: build_vit(TINY, name="tiny_vit"))):
        yield "tiny_vit"


@pytest.fixture
def images(random):
    return random.normal(size=(4, 16, 16, 3)).astype(np.float32)


def student_of(backbone, **settings):
    keras.utils.set_random_seed(0)
    return build_student(backbone, embedding_dim=5, teacher_dim=6, **settings)


@pytest.mark.parametrize(
    ("backbone", "count", "last"),
    [
        ("conv4", 4, "pool4"),
        ("resnet18", 8, "layer4.1.relu2"),
        ("bn_inception", 10, "inception_5b_output"),
        ("googlenet", 9, "inception_5b"),
        ("efficientnet_lite0", 16, "blocks.15"),
        ("ResNet50V2", 16, "conv5_block3"),
        ("MobileNetV2", 16, "block_16"),
        ("EfficientNetB0", 16, "block7a"),
        ("ConvNeXtTiny", 18, "stage_3_block_2"),
        ("InceptionV3", 11, "mixed10"),
        ("VGG16", 5, "block5_pool"),
    ],
)
def test_blocks_are_known_by_their_layers(backbone, count, last):
    ends = block_ends(build_backbone(backbone))
    assert len(ends) == count
    assert last in ends[-1]


@pytest.mark.parametrize("backbone", ["conv4", "resnet18", "efficientnet_lite0", "googlenet", "MobileNetV2"])
def test_both_halves_make_the_whole(backbone, random):
    whole = build_backbone(backbone)
    images = random.normal(size=(2, 64, 64, 3)).astype(np.float32)
    first, last = split_backbone(whole, 2)
    np.testing.assert_array_equal(last(first(images)), whole(images))
    assert len(last.weights) < len(whole.weights) == len(first.weights) + len(last.weights)


@pytest.mark.parametrize("trainable", ["all", "heads", 1, 2])
def test_a_student_embeds_alike_whatever_is_frozen(tiny, images, trainable):
    for a, b in zip(student_of(tiny)(images), student_of(tiny, trainable=trainable)(images), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("trainable", "expected"), [("heads", 4), (1, 4 + 14 + 2), (2, 4 + 28 + 2)])
def test_what_is_frozen_has_no_trainable_variables(tiny, trainable, expected):
    student = student_of(tiny, trainable=trainable)
    assert len(student.trainable_variables) == expected
    assert len(learning_part(student).variables) == expected
    assert not frozen_part(student).trainable_variables


def test_the_teacher_begins_behind_what_is_frozen(tiny, images):
    student = student_of(tiny, trainable=1)
    teacher = build_teacher(student)
    shared = frozen_part(student)(images)
    np.testing.assert_allclose(teacher(shared), student(images)[1], rtol=1e-5, atol=1e-6)
    assert len(teacher.weights) == len(student.trainable_variables) - 2


def trained(student, images, **compiled):
    model = SelfTaughtModel(student, num_neighbors=2, sigma=1.0, momentum=0.5)
    model.compile(keras.optimizers.SGD(0.5), **compiled)
    model.train_step((images.reshape(2, 2, 16, 16, 3), np.array([0, 1])))
    return model


def test_a_step_moves_what_learns_as_if_nothing_were_frozen(tiny, images):
    whole, part = student_of(tiny), student_of(tiny, trainable=1)
    start = student_of(tiny)
    trained(whole, images)
    trained(part, images)
    of_part = {weight.path.split("/", 1)[-1].removeprefix("tiny_vit_last_1/"): weight for weight in part.weights}
    names = [f"blocks.2.{name}" for name in ("norm1/gamma", "attn.qkv/kernel", "mlp.fc2/bias", "ls2/gamma")]
    for layer, variable in (name.split("/") for name in names):
        moved, shared, before = (
            getattr(trunk.get_layer(layer), variable)
            for trunk in (whole.get_layer("tiny_vit"), part.get_layer("tiny_vit_last_1"), start.get_layer("tiny_vit"))
        )
        assert np.abs(np.asarray(moved) - np.asarray(before)).max() > 1e-6
        np.testing.assert_allclose(moved, shared, rtol=1e-4, atol=1e-6)
    for frozen, before in zip(frozen_part(part).weights, start.get_layer("tiny_vit").weights, strict=False):
        np.testing.assert_array_equal(frozen, before)
    assert of_part


def test_frozen_batch_norm_keeps_its_statistics(random):
    student = student_of("conv4", trainable=1)
    images = random.normal(3.0, 2.0, (4, 16, 16, 3)).astype(np.float32)
    before = frozen_part(student).get_weights()
    trained(student, images)
    for a, b in zip(before, frozen_part(student).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    norm = student.get_layer("conv4_last_1").get_layer("norm4")
    assert not np.array_equal(norm.moving_mean, np.zeros(256))


def test_lower_blocks_take_smaller_steps(tiny, images):
    student, start = student_of(tiny), student_of(tiny)
    plain = student_of(tiny)
    trained(student, images, layer_decay=0.5)
    trained(plain, images)
    trunk, whole, before = (each.get_layer("tiny_vit") for each in (student, plain, start))
    factors = {"patch_embed.proj": 0.0625, "tokens": 0.0625, "blocks.0.attn.qkv": 0.125, "blocks.1.mlp.fc1": 0.25}
    factors |= {"blocks.2.norm1": 0.5, "norm": 0.5}
    for layer, factor in factors.items():
        for scaled, full, old in zip(
            *(each.get_layer(layer).get_weights() for each in (trunk, whole, before)), strict=True
        ):
            np.testing.assert_allclose(scaled - old, factor * (full - old), rtol=2e-3, atol=1e-7, err_msg=layer)
    for scaled, full in zip(student.get_layer("f").get_weights(), plain.get_layer("f").get_weights(), strict=True):
        np.testing.assert_array_equal(scaled, full)


def test_a_decay_of_1_scales_nothing(tiny):
    assert learning_rate_scales(student_of(tiny), 1.0) == {}


def test_lora_starts_where_the_network_is_and_trains_thin_matrices_alone(tiny, images):
    trunk = student_of(tiny, trainable={"lora": 2}).get_layer("tiny_vit")
    np.testing.assert_allclose(trunk(images), student_of(tiny).get_layer("tiny_vit")(images), rtol=1e-5, atol=1e-6)
    assert len(trunk.trainable_variables) == 2 * 4 * TINY.depth
    assert all(min(variable.shape) == 2 for variable in trunk.trainable_variables)


def test_merged_lora_is_the_same_network_without_it(tiny, images):
    student = student_of(tiny, trainable={"lora": 2})
    trained(student, images)
    merged = merge_lora(student)
    for a, b in zip(merged(images), student(images), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert len(merged.weights) == len(student_of(tiny).weights)
    assert np.abs(merged(images)[0] - student_of(tiny)(images)[0]).max() > 1e-4


def test_a_network_without_lora_is_its_own_merger(tiny):
    student = student_of(tiny)
    assert merge_lora(student) is student


@pytest.mark.parametrize(
    ("backbone", "trainable", "message"),
    [
        ("conv4", 4, r'model\.trainable: 4 given; allowed for conv4: 1 to 3 blocks, "all" or "heads"'),
        ("conv4", 0, r"model\.trainable: 0 given"),
        ("conv4", {"lora": 4}, 'lora given; allowed for conv4, which has no dense layers: "all", "heads" or a number'),
    ],
)
def test_what_cannot_be_trained_is_refused(backbone, trainable, message):
    with pytest.raises(UserError, match=message):
        student_of(backbone, trainable=trainable)
