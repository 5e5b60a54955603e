"""What the pixels of a file become, where that is a choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decoding:
    """How image files are turned into 8-bit RGB.

    Args:
        background: RGB, 0 to 255 each, that shows through where an image is transparent.
        bit_depth: How many bits are used of the 16 in a file of 16 bits a channel: 10 or 12 for many cameras, whose
            images would otherwise be nearly black. 8-bit files are read as they are.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    bit_depth: int = 16


DEFAULT_DECODING = Decoding()
