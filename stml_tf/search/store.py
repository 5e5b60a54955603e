"""A gallery on disk: a sequence of generations, of which `gallery.json` names the one in force.

A generation is a folder of files that never change. A change writes the next one under a name never used before, and
takes effect when a new `gallery.json` is put in its place; the gallery's own folder is never renamed, so it may be the
root of a volume. Whoever has a generation open keeps its files: they are deleted with the first change that finds no
reader. Writers hold a lock. Files that are none of a gallery's are left alone.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.search.generation import Generation, map_embeddings
from stml_tf.search.index import ApproximateIndex
from stml_tf.search.manifest import (
    EMBEDDINGS,
    EQUAL,
    FACTS,
    FACTS_TYPE,
    FORMAT,
    GENERATION,
    GENERATION_FILES,
    INDEX,
    PATHS,
    Approximation,
    File,
    Kind,
    Manifest,
    Model,
    damaged,
    first_format_files,
    holds_generations,
    read_manifest,
    write_manifest,
)

LOCK = "gallery.lock"
UNREADABLE = "unreadable.txt"
PIECES = ".stml-tf-pieces"
BLOCK = 65_536

_OPENINGS = 100


class GalleryStore:
    """The folder of a gallery.

    Args:
        folder: Absolute; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pieces = folder / PIECES

    def open(self) -> Generation:
        """Open the generation in force.

        Raises:
            DamagedError: If a file is missing or is not what was written, as far as can be told without reading all.
            UserError: If there is no gallery, or another version of this program wrote it.
        """
        for _ in range(_OPENINGS):
            manifest = read_manifest(self.folder)
            try:
                return Generation(self.folder, manifest)
            except FileNotFoundError as error:
                # Another process may have deleted this generation, and put the next one in force before.
                missing = Path(error.filename)
                if read_manifest(self.folder) == manifest:
                    raise damaged(missing) from error
        raise UserError(f"{self.folder} changes faster than it can be opened: try again")

    def refuse_existing(self, *, overwrite: bool) -> None:
        """Refuse to write a new gallery over something else.

        Raises:
            UserError: If the folder is a file, holds files that are no gallery, or a gallery that must stay.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file: give the gallery another folder")
        if not self.folder.is_dir():
            return
        held = [path for path in self.folder.iterdir() if not _is_no_content(path)]
        if not held:
            return
        if not self._is_gallery():
            raise UserError(f"{self.folder} holds files that are no gallery: give the gallery another folder")
        if not overwrite:
            raise UserError(
                f"{self.folder} holds a gallery already: bring it up to date with `stml-tf update`, give another "
                "folder, or replace it with --overwrite"
            )

    @contextmanager
    def changing(self, *, create: bool = False) -> Iterator[None]:
        """Keep every other writer out.

        Args:
            create: Make the folder. After an error it goes away again, if nothing was put in it.
        """
        with files.made_folder(self.folder) if create else contextlib.nullcontext():
            try:
                with files.locked(self.folder / LOCK, busy=f"waiting for another process that changes {self.folder}"):
                    yield
            except BaseException:
                if create and all(path.name == LOCK for path in self.folder.iterdir()):
                    files.delete(self.folder / LOCK)
                raise

    def publish(
        self,
        blocks: Iterable[np.ndarray],
        paths: list[str],
        facts: np.ndarray,
        *,
        dim: int,
        model: Model | None,
        kind: Kind,
        sources: list[str],
        removed: list[str],
        extends: Generation | None = None,
    ) -> Generation:
        """Write a generation and put it in force. To be called while `changing`.

        Args:
            blocks: The embeddings, `[some, dim]` each.
            paths: What they are of.
            facts: `[count]`, what is known of each image's file.
            dim: Length of an embedding.
            model: What made them.
            kind: How they are searched.
            sources: See `Manifest`.
            removed: See `Generation`.
            extends: A generation whose embeddings come first among these, so that its approximate index can grow.

        Returns:
            The generation.

        Raises:
            UserError: If an embedding is not finite. Then the one before stays in force, as after any error.
        """
        self.delete_unused()
        name = f"generation-{self._next_number():06d}-{secrets.token_hex(4)}"
        with files.work_folder(self.folder / name) as work:
            partial = work / name
            normalized, written = _write_embeddings(partial / EMBEDDINGS, blocks, count=len(paths), dim=dim)
            with files.write_file(partial / PATHS) as stream:
                # ASCII, so that names that are not Unicode come back as they were.
                stream.write(json.dumps({"paths": paths, "removed": removed}, indent=0).encode("ascii"))
            with files.write_file(partial / FACTS) as stream:
                stream.write(np.ascontiguousarray(facts, FACTS_TYPE).tobytes())
            approximation = None
            if kind != "exact":
                with (partial / EMBEDDINGS).open("rb") as stream:
                    index = _index(kind, map_embeddings(stream, (len(paths), dim)), extends)
                with files.write_file(partial / INDEX) as stream:
                    index.write(stream)
                with files.write_file(partial / EQUAL) as stream:
                    stream.write(index.first_equal.astype("<i8").tobytes())
                approximation = Approximation(effort=index.effort, recall_at_10=index.recall)
            described = {
                path.name: File(size=path.stat().st_size, sha256=files.checksum(path)) for path in partial.iterdir()
            }
            if described[EMBEDDINGS].sha256 != written:
                raise files.DamagedError(f"the disk of {self.folder} does not keep what is written: {partial}")
            manifest = Manifest(
                format=FORMAT,
                generation=name,
                count=len(paths),
                dim=dim,
                normalized=normalized,
                model=model,
                kind=kind,
                approximation=approximation,
                sources=sources,
                files=described,
            )
            files.publish(partial, self.folder / name)
        write_manifest(self.folder, manifest)
        self.delete_unused()
        return Generation(self.folder, manifest)

    def rewrite_manifest(self, manifest: Manifest) -> None:
        """Put another manifest of the same generation in force. To be called while `changing`."""
        write_manifest(self.folder, manifest)

    def delete_unused(self) -> None:
        """Delete generations that are not in force and that nobody reads. To be called while `changing`."""
        try:
            kept = read_manifest(self.folder).generation
        except files.DamagedError:
            return  # Which one it named is not known.
        except UserError:
            kept = None
        for path in self.folder.iterdir():
            if not GENERATION.fullmatch(path.name) or path.is_symlink() or path.name == kept:
                continue
            if not files.is_held(path / EMBEDDINGS):
                files.delete_known(path, GENERATION_FILES)

    def delete_first_format(self) -> None:
        """Delete the files of a gallery of format 1, before its manifest is replaced."""
        for path in first_format_files(self.folder):
            files.delete(path)

    def _is_gallery(self) -> bool:
        if holds_generations(self.folder) or first_format_files(self.folder):
            return True
        with contextlib.suppress(UserError):
            read_manifest(self.folder)
            return True
        return False

    def _next_number(self) -> int:
        names = [path.name for path in self.folder.iterdir() if GENERATION.fullmatch(path.name)]
        return 1 + max((int(name.split("-")[1]) for name in names), default=0)


def blocks_of(embeddings: np.ndarray, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield embeddings, `[count, dim]`, or some of their rows, a block at a time."""
    rows = np.arange(len(embeddings)) if rows is None else rows
    for start in range(0, len(rows), BLOCK):
        yield embeddings[rows[start : start + BLOCK]]


def no_facts(count: int) -> np.ndarray:
    """Make facts of files of which nothing is known."""
    facts = np.zeros(count, FACTS_TYPE)
    facts["size"] = -1
    return facts


def _is_no_content(path: Path) -> bool:
    """Whether a path in a folder keeps no gallery out: what an interrupted build left, and what a new volume holds."""
    return path.name in (LOCK, PIECES, "lost+found") or files.is_work_folder(path)


def _write_embeddings(file: Path, blocks: Iterable[np.ndarray], *, count: int, dim: int) -> tuple[bool, str]:
    """Write rows block by block to an .npy file; return whether all are of length one, and the checksum."""
    done = 0
    normalized = True
    with files.write_file(file) as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            block = np.ascontiguousarray(block, np.float32)
            bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if len(bad):
                raise UserError(f"embeddings hold NaN or infinity, the first in row {done + bad[0]}")
            stream.write(block)
            normalized = normalized and bool(np.allclose(np.linalg.norm(block, axis=1), 1, rtol=0, atol=1e-3))
            done += len(block)
    if done != count:
        raise ValueError(f"{done} embeddings came for {count} paths")
    return normalized, stream.digest


def _index(kind: Kind, embeddings: np.ndarray, extends: Generation | None) -> ApproximateIndex:
    if extends is None:
        return ApproximateIndex.build(kind, embeddings)
    return ApproximateIndex.extend(extends.read_base_index(), kind, embeddings, extends.first_equal)
