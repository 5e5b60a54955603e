"""Writes an embedding network as a SavedModel that needs nothing but TensorFlow: bytes in, embeddings out."""

import datetime
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import ops

import stml_tf
from stml_tf import files
from stml_tf.data.decoding import decode
from stml_tf.data.formats.rule import DEFAULT_DECODING, Decoding
from stml_tf.data.transforms import evaluation_view
from stml_tf.errors import UserError
from stml_tf.export.model_card import render_model_card
from stml_tf.export.quantization import Int8Network
from stml_tf.export.saved_model import METADATA, fingerprint
from stml_tf.models.precision import in_float32
from stml_tf.tensor import Tensor


def export_saved_model(
    student: keras.Model | Int8Network,
    out_dir: Path | str,
    *,
    size: int,
    resize: int | None = None,
    preprocess: Callable[[Tensor], Tensor],
    normalize: bool = True,
    dtype: Literal["float32", "float16"] = "float32",
    batch_size: int = 64,
    decoding: Decoding = DEFAULT_DECODING,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write the next numbered version of a SavedModel under `out_dir`, as TensorFlow Serving expects it.

    Signature `serving_default`: `image_bytes` [batch] string, encoded images (JPEG, PNG, GIF, WebP, BMP; of several
    frames the first) of at most `MAX_PIXELS`, decoded by the rule of `stml_tf.data.decoding`. Signature `pixels`:
    `pixels` [batch, height, width, 3] uint8, RGB, any height and width. Both return `embedding` [batch, dim] of what
    the evaluation sees: the same view, the same preprocessing. A batch may have any size, none included.

    Beside the network, in `assets.extra/`, lie `metadata.json` with the checksums that are compared before the network
    is used, and for people `recipe.json` (where the metadata hold a recipe) and the model card, `model_card.md`.

    Args:
        student: Preprocessed images [batch, size, size, 3] -> (embeddings [batch, dim], anything); or an 8-bit network.
        out_dir: Folder of the versions; made if it is missing.
        size: Side of the network's input in pixels.
        resize: Length of the shorter side before `size` x `size` is cut from the centre; `size` by default.
        preprocess: [batch, size, size, 3] float32 in 0 to 255 -> what the student takes.
        normalize: Whether to L2-normalise the embeddings.
        dtype: Of the embeddings; the network itself computes in float32, whatever it was trained in.
        batch_size: Most images that pass through the network at once; a larger batch is embedded in parts, so that
            memory is bounded whatever a client sends.
        decoding: How image files become pixels.
        metadata: JSON values to keep with the network; the model card shows `name`, `about`, `data` (text), `recipe`
            `metrics` (tables) and `quantization` (as `stml_tf.runs.export` measures it).

    Returns:
        The version's folder, such as `out_dir/1`. An existing version is never overwritten.

    Raises:
        UserError: If `size` or `batch_size` is below 1, or `resize` below `size`.
    """
    resize = resize or size
    network = student if isinstance(student, Int8Network) else embedding_network(student)
    embedding_dim = int(network.output_shape[-1])
    if size < 1:
        raise UserError(f"Cannot export: size must be 1 or more, but {size} was given.")
    if batch_size < 1:
        raise UserError(f"Cannot export: batch_size must be 1 or more, but {batch_size} was given.")
    if resize < size:
        raise UserError(f"Cannot export: resize must be at least size = {size}, but {resize} was given.")

    def embed(images: Tensor, decode: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        def view(image: Tensor) -> Tensor:
            return evaluation_view(decode(image), size=size, resize=resize)

        def embed_part(start: Tensor) -> Tensor:
            part = images[start : start + batch_size]
            views = tf.map_fn(view, part, fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32))
            # Half precision is the training machine's; few others have it.
            with nullcontext() if isinstance(network, Int8Network) else in_float32(network):
                embeddings = network(preprocess(views), training=False)
            return ops.cast(ops.normalize(embeddings, axis=-1, epsilon=1e-12) if normalize else embeddings, dtype)

        # No images are no parts: TensorFlow's convolutions do not take an empty batch.
        starts = tf.range(0, tf.shape(images)[0], batch_size)
        spec = tf.RaggedTensorSpec([None, embedding_dim], dtype, ragged_rank=0)
        parts = tf.map_fn(embed_part, starts, fn_output_signature=spec, parallel_iterations=1)
        return {"embedding": tf.reshape(parts.values, [-1, embedding_dim])}  # The values of no parts have no width.

    def embed_bytes(image_bytes: Tensor) -> dict[str, Tensor]:
        return embed(image_bytes, lambda content: decode(content, decoding))

    def embed_pixels(pixels: Tensor) -> dict[str, Tensor]:
        return embed(pixels, lambda image: image)

    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", embed_bytes, [tf.TensorSpec([None], tf.string, name="image_bytes")])
    archive.add_endpoint("pixels", embed_pixels, [tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels")])

    out_dir = Path(out_dir)
    with files.work_folder(out_dir / "version") as work:
        version = 1 + max((int(path.name) for path in out_dir.iterdir() if path.name.isdecimal()), default=0)
        partial = work / str(version)  # A server that watches the folder must not see half a model.
        archive.write_out(str(partial), verbose=False)
        _write_extras(
            partial,
            {
                **(metadata or {}),
                "embedding_dim": embedding_dim,
                "size": size,
                "resize": resize,
                "normalize": normalize,
                "dtype": dtype,
                "batch_size": batch_size,
                "background": decoding.background,
                "bit_depth": decoding.bit_depth,
                "version": version,
                "exported": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "fingerprint": fingerprint(partial),
                "software": {"stml_tf": stml_tf.__version__, "tensorflow": tf.__version__, "keras": keras.__version__},
            },
        )
        files.publish(partial, out_dir / str(version))
    return out_dir / str(version)


def embedding_network(student: keras.Model) -> keras.Model:
    """Cut out what is exported of a student: preprocessed images -> its first output, without the auxiliary head."""
    return keras.Model(student.inputs[0], student.outputs[0])


def _write_extras(saved_model: Path, metadata: dict[str, Any]) -> None:
    files.write_json(saved_model / METADATA, metadata)
    for_people = {"model_card.md": render_model_card(metadata)}
    if "recipe" in metadata:
        for_people["recipe.json"] = json.dumps(metadata["recipe"], indent=2, ensure_ascii=False) + "\n"
    for name, text in for_people.items():
        files.write_text((saved_model / METADATA).with_name(name), text)
