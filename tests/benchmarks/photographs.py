"""JPEG files that cost as much as photographs do: smooth shapes, and the grain of a camera."""

import numpy as np
from PIL import Image


def save_photographs(folder, count, *, size=(500, 375), quality=90):
    """Write `count` JPEG files, and return their paths."""
    random = np.random.default_rng(0)
    folder.mkdir()
    paths = []
    for number in range(count):
        smooth = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(smooth, np.float32) + random.normal(0, 8, (size[1], size[0], 1))
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=quality)
    return paths
