"""What can be said of an image before a network sees it: too small or large, dark, blurred, blank, or without colour.

Brightness, colour and sharpness are measured on a small copy, about as large as what a network sees: an image that is
sharp there is sharp enough, however soft its own pixels are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SMALL_SIDE = 128  # the shorter side of the copy; smaller images are measured as they are
# A 24-megapixel camera's image fits. Decoded, it takes 72 MB and some 0.2 s, each time that it is not cached.
HUGE_PIXELS = 25_000_000
# Of 255. Not one pixel in a hundred of a dark image is brighter, so that a thing on a black ground is not dark.
DARK = 80.0
# Of 255: the standard deviation of what is left of a white page or a black frame when it is compressed.
BLANK = 3.0
# Of 255: mean distance between the largest and the smallest channel. Compression tints a grey image by a level or two.
GREY = 3.0
# The Laplacian's standard deviation as a share of the image's. Photographs of groceries have 0.4 to 1.6, and 0.05 to
# 0.15 after a blur of 3 pixels in 128.
BLURRED = 0.15

# Of an image that has fewer pixels on a side it cannot be told whether it is blurred.
_FEWEST = 8
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class ImageQuality:
    """What `measure_quality` finds.

    Attributes:
        width: In pixels, upright.
        height: Likewise.
        brightest: The brightness that one pixel in a hundred exceeds, from 0 to 255.
        contrast: Standard deviation of the brightness.
        color: Mean distance between the largest and the smallest channel; 0 for greyscale.
        sharpness: Standard deviation of the Laplacian, as a share of the contrast.
    """

    width: int
    height: int
    brightest: float
    contrast: float
    color: float
    sharpness: float

    @property
    def shorter_side(self) -> int:
        return min(self.width, self.height)

    @property
    def is_huge(self) -> bool:
        return self.width * self.height > HUGE_PIXELS

    @property
    def is_blank(self) -> bool:
        return self.contrast < BLANK

    @property
    def is_dark(self) -> bool:
        return not self.is_blank and self.brightest < DARK

    @property
    def is_grey(self) -> bool:
        return self.color < GREY

    @property
    def is_blurred(self) -> bool:
        """Whether it is blurred; of a blank image or a dark one that cannot be told."""
        return not self.is_blank and not self.is_dark and self.sharpness < BLURRED


def measure_quality(pixels: np.ndarray) -> ImageQuality:
    """Measure an image.

    Args:
        pixels: Uint8 `[height, width, 3]`, RGB.
    """
    height, width = pixels.shape[:2]
    small = _small_copy(pixels).astype(np.float32)
    luma = small @ _LUMA
    contrast = float(luma.std())
    return ImageQuality(
        width=width,
        height=height,
        brightest=float(np.percentile(luma, 99)),
        contrast=contrast,
        color=float(np.mean(small.max(axis=-1) - small.min(axis=-1))),
        sharpness=_laplacian_spread(luma) / max(contrast, 1.0),
    )


def _small_copy(pixels: np.ndarray) -> np.ndarray:
    shrink = min(pixels.shape[:2]) / SMALL_SIDE
    if shrink <= 1:
        return pixels
    height, width = (max(1, round(side / shrink)) for side in pixels.shape[:2])
    # The gap lets Pillow average whole blocks first, which is many times as fast for large images.
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX, reducing_gap=3.0))


def _laplacian_spread(luma: np.ndarray) -> float:
    if min(luma.shape) < _FEWEST:
        return float("inf")
    inner = luma[1:-1, 1:-1]
    laplacian = 4 * inner - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    return float(laplacian.std())
