"""One state of a gallery, opened to read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.search.index import ApproximateIndex
from stml_tf.search.manifest import EMBEDDINGS, EQUAL, FACTS, FACTS_TYPE, INDEX, PATHS, Manifest, damaged


class Generation:
    """One state of a gallery, opened to read; it stays as it is whatever happens to the gallery.

    Attributes:
        manifest: What it is.
        paths: Absolute path of each image, text.
        removed: Paths that were taken out, and are not to come back by themselves.
        facts: `[count]` of `FACTS_TYPE`: what was known of each image's file.
        embeddings: `[count, dim]` float32, read from the disk as they are needed.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._folder = folder / manifest.generation
        self._lock = Lock()
        self._index: ApproximateIndex | None = None
        streams = {name: self._open(name) for name in manifest.files}
        self._held = streams[EMBEDDINGS]
        self._index_stream = streams.get(INDEX)
        # Small beside the embeddings, and read as a whole, so they are checked as a whole.
        with self._as_damage(PATHS):
            listed = json.loads(self._read_whole(PATHS, streams))
            self.paths = _names(listed["paths"], count=manifest.count)
            self.removed = _names(listed["removed"])
        with self._as_damage(FACTS):
            self.facts = _rows(self._read_whole(FACTS, streams), FACTS_TYPE, manifest.count)
        self.first_equal: np.ndarray | None = None
        if EQUAL in streams:
            with self._as_damage(EQUAL):
                self.first_equal = _firsts(_rows(self._read_whole(EQUAL, streams), np.dtype("<i8"), manifest.count))
        with self._as_damage(EMBEDDINGS):
            self.embeddings = map_embeddings(self._held, (manifest.count, manifest.dim))

    def index(self) -> ApproximateIndex | None:
        """Read the approximate index, once; None for an exact gallery."""
        with self._lock:
            if self._index is None and self._index_stream is not None:
                self._index = ApproximateIndex(
                    self.read_base_index(),
                    self.manifest.kind,
                    self.embeddings,
                    self.first_equal,
                    effort=self.manifest.approximation.effort,
                )
            return self._index

    def read_base_index(self) -> Any:
        """Read faiss's index over the distinct embeddings.

        Raises:
            DamagedError: If it is not what was written.
        """
        self._verify(INDEX, self._index_stream)
        self._index_stream.seek(0)
        distinct = int((self.first_equal == np.arange(len(self.first_equal))).sum())
        with self._as_damage(INDEX):
            return ApproximateIndex.read(self._index_stream, self.manifest.kind, count=distinct, dim=self.manifest.dim)

    def verify(self) -> None:
        """Read every file and compare it with its checksum.

        Raises:
            DamagedError: If one is not what was written.
        """
        for name in self.manifest.files:
            with self._open(name) as stream:
                self._verify(name, stream)

    def verify_embeddings(self) -> None:
        """Compare the embeddings with their checksum, before they are copied into another generation."""
        self._verify(EMBEDDINGS, self._held)

    def release(self) -> None:
        """Let the files be deleted; where files stay as long as they are open, they still can be read here."""
        files.release(self._held)

    def _open(self, name: str) -> BinaryIO:
        expected = self.manifest.files[name]
        stream = files.hold(self._folder / name) if name == EMBEDDINGS else (self._folder / name).open("rb")
        if stream.seek(0, 2) != expected.size:
            stream.close()
            raise damaged(self._folder / name)
        stream.seek(0)
        return stream

    def _read_whole(self, name: str, streams: dict[str, BinaryIO]) -> bytes:
        with streams[name] as stream:
            self._verify(name, stream)
            stream.seek(0)
            return stream.read()

    def _verify(self, name: str, stream: BinaryIO) -> None:
        stream.seek(0)
        if files.checksum(stream) != self.manifest.files[name].sha256:
            raise damaged(self._folder / name)

    @contextmanager
    def _as_damage(self, name: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # NumPy raises nearly anything over a damaged header.
            raise damaged(self._folder / name) from error


def map_embeddings(stream: BinaryIO, shape: tuple[int, int]) -> np.ndarray:
    """Open the array of an .npy file, read from the disk as it is needed, also when the file has no name any more."""
    np.lib.format.read_magic(stream)
    found = np.lib.format.read_array_header_1_0(stream)
    if found != (shape, False, np.dtype(np.float32)):
        raise ValueError(f"it holds {found}, not {shape}")
    return np.memmap(stream, np.float32, "r", offset=stream.tell(), shape=shape)


def _rows(content: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    if len(content) != count * dtype.itemsize:
        raise ValueError("it does not hold as many rows as there are images")
    return np.frombuffer(content, dtype)


def _names(listed: Any, *, count: int | None = None) -> list[str]:
    together = "".join(listed)  # Which raises for anything that is no text.
    if not isinstance(listed, list) or (count is not None and len(listed) != count):
        raise ValueError("it does not hold as many names as there are images")
    if "\0" in together:
        raise ValueError("no file has a zero in its name")
    os.fsencode(together)
    return listed


def _firsts(first_equal: np.ndarray) -> np.ndarray:
    places = np.arange(len(first_equal))
    if not ((first_equal >= 0) & (first_equal <= places)).all() or (first_equal[first_equal] != first_equal).any():
        raise ValueError("an embedding is equal to one that is not there")
    return first_equal
