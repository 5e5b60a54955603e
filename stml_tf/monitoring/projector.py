"""Embeddings with thumbnails for TensorBoard's projector, which turns them in three dimensions.

The page finds `projector_config.pbtxt` in a folder with an event file, and the files that it names beside it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stml_tf.files import write_bytes, write_text

__all__ = ["MOST_IMAGES", "PROJECTOR_FILES", "write_projector"]

MOST_IMAGES = 1000  # more take the browser long, and hide each other
PROJECTOR_FILES = ("projector_config.pbtxt", "embeddings.bytes", "metadata.tsv", "sprite.png")
_SIDE = 48  # of a thumbnail; browsers take sprites of up to 8,192 pixels, and a thousand of these need 1,536


def write_projector(
    folder: Path, embeddings: np.ndarray, *, pictures: Sequence[np.ndarray], columns: dict[str, Sequence[str]]
) -> None:
    """Write what the projector shows.

    Args:
        folder: A folder with an event file.
        embeddings: `[images, dim]`.
        pictures: Of each image the pixels, uint8 `[height, width, 3]`.
        columns: What can be searched for and coloured by, such as names and classes: by title, a text for each image.
    """
    config, tensors, metadata, sprite = (folder / name for name in PROJECTOR_FILES)
    rows, dim = embeddings.shape
    write_bytes(tensors, np.ascontiguousarray(embeddings, np.float32).tobytes())
    lines = list(zip(*columns.values(), strict=True))
    # A file of one column has no title, by the projector's rule.
    titled = [tuple(columns), *lines] if len(columns) > 1 else lines
    write_text(metadata, "".join("\t".join(map(_one_line, line)) + "\n" for line in titled))
    write_bytes(sprite, _sprite(pictures))
    write_text(
        config,
        f"""embeddings {{
  tensor_name: "embeddings"
  tensor_path: "{tensors.name}"
  tensor_shape: {rows}
  tensor_shape: {dim}
  metadata_path: "{metadata.name}"
  sprite {{
    image_path: "{sprite.name}"
    single_image_dim: {_SIDE}
    single_image_dim: {_SIDE}
  }}
}}
""",
    )


def _sprite(pictures: Sequence[np.ndarray]) -> bytes:
    columns = max(1, int(np.ceil(np.sqrt(len(pictures)))))
    # The projector takes the sprite for a square, whatever is in its last rows.
    whole = Image.new("RGB", (columns * _SIDE, columns * _SIDE), (255, 255, 255))
    for place, pixels in enumerate(pictures):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.thumbnail((_SIDE, _SIDE))
        left, top = place % columns * _SIDE, place // columns * _SIDE
        whole.paste(image, (left + (_SIDE - image.width) // 2, top + (_SIDE - image.height) // 2))
    content = io.BytesIO()
    whole.save(content, "PNG")
    return content.getvalue()


def _one_line(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode().split())
