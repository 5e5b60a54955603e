"""A toy network, exported, and photographs that it tells apart by their colour."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DIM = 6


def build_toy(seed=0):
    """Embeds an image by its mean colours, through fixed random weights."""
    import keras

    images = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    first, second = keras.layers.Dense(DIM), keras.layers.Dense(2)
    student = keras.Model(images, [first(pooled), second(pooled)])
    random = np.random.default_rng(seed)
    first.set_weights([random.standard_normal((3, DIM)), random.standard_normal(DIM)])
    return student


def export_toy(folder, *, seed=0, **options):
    from stml_tf.export.saved_model_writer import export_saved_model

    return export_saved_model(build_toy(seed), folder, size=8, preprocess=lambda views: views / 127.5 - 1, **options)


def save_photograph(path, seed, size=(20, 14)):
    path.parent.mkdir(parents=True, exist_ok=True)
    color = np.random.default_rng(seed).integers(0, 256, 3)
    noise = np.random.default_rng(seed + 1000).integers(-20, 20, (size[1], size[0], 3))
    Image.fromarray((color + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory) -> Path:
    return export_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def other_model(tmp_path_factory) -> Path:
    return export_toy(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Twelve images of three sizes in two folders."""
    for number in range(12):
        size = [(20, 14), (9, 30), (16, 16)][number % 3]
        save_photograph(tmp_path / "photographs" / f"{'ab'[number % 2]}" / f"{number:02d}.png", number, size)
    return tmp_path / "photographs"
