"""An exported network at work: image files in, embeddings out, in bounded memory."""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from stml_tf.data.decoding import UnreadableImageError, read_image
from stml_tf.data.formats.rule import DEFAULT_DECODING, Decoding
from stml_tf.data.inspection import Unreadable
from stml_tf.errors import UserError
from stml_tf.export.effects import refuse_effects
from stml_tf.export.saved_model import METADATA, read_metadata, require_intact, require_saved_model
from stml_tf.files import unreadable_is_damage

_SIGNATURE = "pixels"
_MOST_AHEAD = 64
# Photographs of any size pass through: bytes of decoded images, not their number, are what memory runs out of.
_BATCH_BYTES = 64 << 20
_WAITING_BYTES = 256 << 20

Source = Path | bytes | np.ndarray


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """What became of some images.

    Attributes:
        embeddings: Float32 `[num_readable, dim]`.
        indices: Int64 `[num_readable]`, ascending: which of the images each row belongs to.
        unreadable: The others.
    """

    embeddings: np.ndarray
    indices: np.ndarray
    unreadable: list[Unreadable]


class Embedder:
    """Embeds images with a SavedModel's `pixels` signature.

    Args:
        model: A SavedModel's folder, or the folder of its versions, of which the newest is taken.
        batch_size: Most images of one size that are embedded at once.

    Attributes:
        path: The folder of `saved_model.pb`.
        fingerprint: See `stml_tf.export.saved_model.fingerprint`.
        decoding: How it takes image files to pixels.

    Raises:
        UserError: If it is no SavedModel, is damaged, does more than compute, or lacks the signature.
    """

    def __init__(self, model: Path | str, *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}, but must be at least 1")
        self.path = require_saved_model(Path(model)).absolute()
        self.fingerprint = require_intact(self.path)
        self._batch_size = batch_size
        refuse_effects(self.path)
        try:
            # Held on to: a signature dies with the object it came from.
            self._model = tf.saved_model.load(str(self.path))
        except Exception as error:  # TensorFlow raises nearly anything over a damaged file.
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{self.path} cannot be loaded as a SavedModel, export it again: {reason}") from error
        signatures = self._model.signatures
        if _SIGNATURE not in signatures:
            raise UserError(
                f"{self.path} lacks the signature {_SIGNATURE!r}, it has {sorted(signatures) or 'none'}: "
                "give a SavedModel that `stml-tf export` wrote"
            )
        self._signature = signatures[_SIGNATURE]
        self.decoding = _decoding(self.path)

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Embed images of one size.

        Args:
            pixels: `[batch, height, width, 3]`, uint8, RGB.

        Returns:
            Float32 `[batch, dim]`; L2-normalised if the network was exported so.

        Raises:
            UserError: If an embedding holds NaN or infinity.
        """
        # An export may give float16.
        embeddings = self._signature(pixels=tf.constant(pixels))["embedding"].numpy().astype(np.float32, copy=False)
        if not np.isfinite(embeddings).all():
            raise UserError(f"{self.path} gives embeddings that hold NaN or infinity: the network cannot be used")
        return embeddings

    def embed_images(
        self, images: Sequence[Source], *, on_progress: Callable[[int], None] | None = None
    ) -> EmbeddedImages:
        """Embed images of any sizes; those that cannot be decoded are left out.

        Args:
            images: Files, their content, or pixels `[height, width, 3]` uint8.
            on_progress: Called with how many images are done.

        Returns:
            The embeddings, in the order of the images.
        """
        rows: dict[int, np.ndarray] = {}
        unreadable = []
        for indices, result in self._batches(images):
            if isinstance(result, UnreadableImageError):
                image = images[indices[0]]
                unreadable.append(Unreadable(indices[0], image if isinstance(image, Path) else Path(), result.reason))
            else:
                rows |= zip(indices, self.embed(result), strict=True)
            if on_progress is not None:
                on_progress(len(rows) + len(unreadable))
        order = sorted(rows)
        return EmbeddedImages(
            embeddings=np.stack([rows[index] for index in order]) if rows else np.empty((0, 0), np.float32),
            indices=np.array(order, np.int64),
            unreadable=sorted(unreadable, key=lambda image: image.index),
        )

    def _batches(self, images: Sequence[Source]) -> Iterator[tuple[list[int], np.ndarray | UnreadableImageError]]:
        """Let images of one size wait for each other until there is a batch or memory is needed."""
        waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = defaultdict(list)
        waiting_bytes = 0
        for index, pixels in enumerate(_decoded(images, self.decoding)):
            if isinstance(pixels, UnreadableImageError):
                yield [index], pixels
                continue
            batch = waiting[pixels.shape]
            batch.append((index, pixels))
            waiting_bytes += pixels.nbytes
            if len(batch) == self._batch_size or len(batch) * pixels.nbytes >= _BATCH_BYTES:
                ready = pixels.shape
            elif waiting_bytes >= _WAITING_BYTES:
                ready = max(waiting, key=lambda shape: len(waiting[shape]))
            else:
                continue
            batch = waiting.pop(ready)
            waiting_bytes -= sum(image.nbytes for _, image in batch)
            yield _stacked(batch)
        for batch in waiting.values():
            yield _stacked(batch)


def _stacked(batch: list[tuple[int, np.ndarray]]) -> tuple[list[int], np.ndarray]:
    return [index for index, _ in batch], np.stack([image for _, image in batch])


def _decoded(images: Iterable[Source], decoding: Decoding) -> Iterator[np.ndarray | UnreadableImageError]:
    """Decode images in threads, in order; the larger the largest so far, the fewer ahead."""
    threads = min(os.cpu_count() or 1, 16)
    ahead: deque[Future[np.ndarray | UnreadableImageError]] = deque()
    largest = 0
    pool = ThreadPoolExecutor(threads)
    try:
        for image in images:
            ahead.append(pool.submit(_read, image, decoding))
            most = min(_MOST_AHEAD, _WAITING_BYTES // largest) if largest else threads
            while len(ahead) > max(most, threads):
                pixels = ahead.popleft().result()
                largest = max(largest, getattr(pixels, "nbytes", 1))
                yield pixels
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(image: Source, decoding: Decoding) -> np.ndarray | UnreadableImageError:
    try:
        return image if isinstance(image, np.ndarray) else read_image(image, decoding)
    except UnreadableImageError as error:
        return error


def _decoding(saved_model: Path) -> Decoding:
    """Read how the model was told to decode; a model that does not say so was exported with the defaults."""
    metadata = read_metadata(saved_model)
    with unreadable_is_damage(saved_model / METADATA):
        red, green, blue = map(int, metadata.get("background", DEFAULT_DECODING.background))
        return Decoding((red, green, blue), int(metadata.get("bit_depth", DEFAULT_DECODING.bit_depth)))
