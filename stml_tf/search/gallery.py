"""A searchable collection of images: built with a network, kept in a folder, brought up to date, searched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np

from stml_tf.data.image_files import SUFFIXES
from stml_tf.errors import UserError
from stml_tf.evaluation.neighbors import nearest_neighbors
from stml_tf.export.saved_model import fingerprint, require_saved_model
from stml_tf.search.embedding_files import write_unreadable
from stml_tf.search.embedding_run import EmbeddedPieces, Progress, embedding_run
from stml_tf.search.gallery_model import GalleryModel
from stml_tf.search.generation import Generation
from stml_tf.search.image_facts import Plan, Stale, find_stale, plan_changes, require_some
from stml_tf.search.image_list import absolute, identity, list_images
from stml_tf.search.manifest import Kind, Manifest, Model, read_manifest
from stml_tf.search.match import Match
from stml_tf.search.store import UNREADABLE, GalleryStore, blocks_of, no_facts

if TYPE_CHECKING:
    from stml_tf.data.inspection import Unreadable
    from stml_tf.export.embedder import Embedder

Images = Path | str | Iterable[Path | str]


class Changes(NamedTuple):
    """How many images a gallery was changed by.

    Attributes:
        added: Are new.
        changed: Have other content than before, and were embedded again.
        moved: Have the same content under another path.
        dropped: Had no file any more.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    dropped: int = 0


class Gallery:
    """A folder of embeddings to search. Open one with `load`, make one with `build` or `from_embeddings`.

    An open gallery is one generation of what is on disk: it answers from that, whatever other processes do, until
    `reload` or a change of its own. Several threads may search while one changes it. The embeddings stay on disk and
    are read as they are needed. Only changes, and queries that are images, load the network.

    Attributes:
        folder: Where it is.
        unreadable: Images that the last change left out; `unreadable.txt` in the folder lists them.
    """

    def __init__(self, store: GalleryStore, generation: Generation, *, model: Path | str | None = None) -> None:
        self.folder = store.folder
        self.unreadable: list[Unreadable] = []
        self._store = store
        self._generation = generation
        self._model = GalleryModel(store.folder, generation.manifest.model, moved_to=model)

    @property
    def manifest(self) -> Manifest:
        """The manifest: count, dim, normalized, kind, model."""
        return self._generation.manifest

    @property
    def paths(self) -> list[str]:
        """The absolute path of each image."""
        return self._generation.paths

    @property
    def embeddings(self) -> np.ndarray:
        """`[count, dim]` float32, in the order of `paths`."""
        return self._generation.embeddings

    @property
    def facts(self) -> np.ndarray:
        """`[count]`: `size`, `time` and `sha256` of each image's file when it was embedded; a size of -1 is unknown."""
        return self._generation.facts

    @classmethod
    def build(
        cls,
        model: Path | str | Embedder,
        images: Images,
        folder: Path | str,
        *,
        kind: Kind = "exact",
        overwrite: bool = False,
        on_progress: Progress | None = None,
    ) -> Gallery:
        """Embed images and make them searchable. An interrupted build goes on where it was when it is started again.

        Args:
            model: A SavedModel's folder, or the folder of its versions.
            images: A folder, a file that lists paths, or any number of these and of image files, see `list_images`.
            folder: The gallery's folder.
            kind: `exact`; or `hnsw` (fast) or `ivfpq` (sooner built), which may miss some neighbours:
                `manifest.approximation` says how many they find.
            overwrite: Replace the gallery that is there. Until the new one is whole, the old one answers; files in the
                folder that are none of the gallery's stay.
            on_progress: Called with how many images are done and how many there are.

        Returns:
            The gallery, as `load` opens it.

        Raises:
            UserError: If the model, the images or the folder cannot be used.
        """
        from stml_tf.export.embedder import Embedder  # Loads TensorFlow.

        store = GalleryStore(Path(folder).resolve())
        check_kind(kind)
        store.refuse_existing(overwrite=overwrite)
        given = [images] if isinstance(images, Path | str) else list(images)
        list_images(given)  # What can be refused is refused before the network is loaded.
        embedder = model if isinstance(model, Embedder) else Embedder(model)
        with store.changing(create=True):
            store.refuse_existing(overwrite=overwrite)
            # As they are by now: what another process has added while this one waited must not be lost.
            listed = list_images(given)
            with embedding_run(embedder, listed, store.pieces, on_progress=on_progress) as pieces:
                store.delete_first_format()
                generation = store.publish(
                    pieces,
                    [str(path) for path in pieces.paths],
                    pieces.facts,
                    dim=pieces.dim,
                    model=Model(path=str(embedder.path), fingerprint=embedder.fingerprint),
                    kind=kind,
                    sources=_sources(given),
                    removed=[],
                )
            write_unreadable(store.folder / UNREADABLE, pieces.unreadable)
        gallery = cls(store, generation)
        gallery._model.embedder = embedder
        gallery.unreadable = pieces.unreadable
        return gallery

    @classmethod
    def from_embeddings(
        cls,
        embeddings: np.ndarray,
        paths: Sequence[Path | str],
        folder: Path | str,
        *,
        model: Path | str | None = None,
        kind: Kind = "exact",
        overwrite: bool = False,
    ) -> Gallery:
        """Make embeddings searchable that are there already.

        Args:
            embeddings: `[count, dim]`, finite numbers; may be a memory-mapped array larger than memory.
            paths: What they are of, each once. The files are not looked at.
            folder: The gallery's folder.
            model: The SavedModel that made them; without it, only embeddings can be queries.
            kind: See `build`.
            overwrite: See `build`.

        Returns:
            The gallery, as `load` opens it.

        Raises:
            UserError: If embeddings and paths do not fit, the embeddings are not finite, or as `build` does.
        """
        check_kind(kind)
        if embeddings.ndim != 2 or not embeddings.size or len(embeddings) != len(paths):
            raise UserError(
                f"embeddings have the shape {embeddings.shape} for {len(paths)} paths, "
                "but must be [count, dim] with one path a row, and at least one row"
            )
        names = [str(absolute(path)) for path in paths]
        if len(set(names)) < len(names):
            raise UserError(f"{len(names) - len(set(names))} of the {len(names)} paths are there twice: give each once")
        made_by = None
        if model is not None:
            saved_model = require_saved_model(Path(model)).absolute()
            made_by = Model(path=str(saved_model), fingerprint=fingerprint(saved_model))
        store = GalleryStore(Path(folder).resolve())
        store.refuse_existing(overwrite=overwrite)
        with store.changing(create=True):
            store.refuse_existing(overwrite=overwrite)
            store.delete_first_format()
            generation = store.publish(
                blocks_of(embeddings),
                names,
                no_facts(len(names)),
                dim=embeddings.shape[1],
                model=made_by,
                kind=kind,
                sources=[],
                removed=[],
            )
        return cls(store, generation)

    @classmethod
    def load(cls, folder: Path | str, *, model: Path | str | None = None) -> Gallery:
        """Open a gallery. Its embeddings are not read, see `check`.

        Args:
            folder: The gallery's folder.
            model: Where the model is that made it, if it is no longer where it was. The gallery remembers it.

        Raises:
            DamagedError: If a file of it is missing or is not what was written.
            UserError: If there is no gallery, or another model made it.
        """
        store = GalleryStore(Path(folder).resolve())
        gallery = cls(store, store.open(), model=model)
        if model is not None:
            gallery._remember(gallery._model.find())
        return gallery

    def __len__(self) -> int:
        return self.manifest.count

    def reload(self) -> None:
        """Open the generation that is in force now, and answer from it.

        Raises:
            UserError: As `load` does.
        """
        self._generation = self._store.open()

    def check(self) -> None:
        """Read every file of the generation in force and compare it with its checksum.

        Raises:
            DamagedError: If one is missing or is not what was written.
        """
        while True:
            generation = self._store.open()
            try:
                generation.verify()
                return
            except FileNotFoundError:
                if read_manifest(self.folder) == generation.manifest:
                    raise

    def stale(self) -> Stale:
        """Find images whose files have changed or gone since they were embedded, by size and time."""
        generation = self._generation
        return find_stale(generation.paths, generation.facts)

    def search(self, images: Sequence[Path | str | bytes], *, k: int = 10) -> list[list[Match]]:
        """Find the images of the gallery that look most like each query.

        Args:
            images: Files, or their content.
            k: How many to find; all where the gallery holds fewer.

        Returns:
            Per query its matches, nearest first. An image that is in the gallery itself is found, too.

        Raises:
            UserError: If a query is no image, `k` is below 1, or the model is gone or is not the one that made the
                gallery.
        """
        queries = [image if isinstance(image, bytes) else Path(image) for image in images]
        results, unreadable = self.search_readable(queries, k=k)
        if unreadable:
            bad = unreadable[0]
            name = f"number {bad.index + 1}" if isinstance(queries[bad.index], bytes) else bad.path
            raise UserError(f"the query {name} cannot be read: {bad.reason}")
        return results

    def search_readable(
        self, images: Sequence[Path | bytes], *, k: int = 10
    ) -> tuple[list[list[Match]], list[Unreadable]]:
        """Search as `search` does, but leave out queries that are not images.

        Args:
            images: Files, or their content.
            k: How many to find; all if the gallery holds fewer.

        Returns:
            The results of the readable queries, and the other queries.

        Raises:
            UserError: If `k` is below 1, there is no query, or the model cannot be used.
        """
        if k < 1:
            raise UserError(f"k is {k}, but must be at least 1")
        if not images:
            raise UserError("there is no query: give at least one image")
        generation = self._generation
        embedded = self._model.load().embed_images(images)
        if not len(embedded.indices):
            return [], embedded.unreadable
        return self._matches(generation, embedded.embeddings, k), embedded.unreadable

    def match_embeddings(self, queries: np.ndarray, *, k: int = 10) -> list[list[Match]]:
        """Find the images of the gallery whose embeddings are nearest, as `search` does.

        Args:
            queries: `[num_queries, dim]`, embeddings by the model that made the gallery.
            k: How many to find; all where the gallery holds fewer.

        Raises:
            UserError: If the queries are not finite or of another dimension, or `k` is below 1.
        """
        return self._matches(self._generation, queries, k)

    def search_embeddings(self, queries: np.ndarray, *, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest embeddings.

        Rows are those of `paths` as it is now: where another thread may change the gallery, `match_embeddings` gives
        names that belong to the answer.

        Args:
            queries: `[num_queries, dim]`, embeddings by the model that made the gallery.
            k: How many to find; all where the gallery holds fewer.

        Returns:
            As `nearest_neighbors` does: distances and rows of the gallery, both `[num_queries, min(k, count)]`.

        Raises:
            UserError: If the queries are not finite or of another dimension, or `k` is below 1.
        """
        return _nearest(self._generation, queries, k)

    def add(self, images: Images, *, on_progress: Progress | None = None) -> Changes:
        """Make more images searchable, and embed those of them again that have changed.

        An image that the gallery holds under another name, whose file is gone, is followed.

        Args:
            images: See `build`.
            on_progress: Called with how many images are done and how many there are.

        Returns:
            How many images the gallery was changed by.

        Raises:
            UserError: If there are no images, or as `search` does for the model.
        """
        given = [images] if isinstance(images, Path | str) else list(images)
        listed = list_images(given)
        return self._follow(listed, _sources(given), drop=False, on_progress=on_progress)

    def update(self, images: Images | None = None, *, on_progress: Progress | None = None) -> Changes:
        """Bring the gallery up to date with the disk.

        What is new is added, what changed is embedded again, what is gone is dropped, and what moved is followed.
        Images that were removed with `remove` stay out.

        Args:
            images: Where to look for new and moved images, see `build`; by default where the gallery was made from.
            on_progress: Called with how many images are done and how many there are.

        Returns:
            How many images the gallery was changed by.

        Raises:
            UserError: If a source or all images are gone, or as `search` does for the model.
        """
        if images is None:
            given = [Path(source) for source in self.manifest.sources]
            for source in given:
                if not _is_there(source):
                    raise UserError(
                        f"{source}, which {self.folder} was made from, is {'empty' if source.exists() else 'gone'}: is "
                        f"its disk there? If it moved, say where it is now: stml-tf update {self.folder} IMAGES"
                    )
        else:
            given = [images] if isinstance(images, Path | str) else list(images)
        listed = list_images(given) if given else []
        return self._follow(listed, _sources(given), drop=True, on_progress=on_progress)

    def remove(self, images: Path | str | Iterable[Path | str]) -> int:
        """Take images out of the gallery; their files are not touched, and need not exist any more.

        Args:
            images: Paths of images, or of folders, which stand for all images below them. An image goes by any of its
                names: those of links, too.

        Returns:
            How many images were taken out.

        Raises:
            UserError: If the gallery holds nothing at one of the paths, or nothing would be left.
        """
        sources = [str(absolute(path)) for path in ([images] if isinstance(images, str | Path) else images)]
        with self._store.changing():
            old = self._store.open()
            positions = {path: row for row, path in enumerate(old.paths)}
            kept = np.ones(len(old.paths), bool)
            for source in sources:
                rows = _rows_of(source, positions)
                if not rows:
                    raise UserError(f"the gallery {self.folder} holds no image {source}, and none below it")
                kept[rows] = False
            if not kept.any():
                raise UserError(
                    f"all {len(old.paths)} images of {self.folder} would be removed: delete the folder instead"
                )
            rows = np.flatnonzero(kept)
            removed = [old.paths[row] for row in np.flatnonzero(~kept)]
            self._replace(
                old,
                blocks_of(old.embeddings, rows),
                [old.paths[row] for row in rows],
                old.facts[rows],
                removed=[*old.removed, *removed],
            )
        return len(removed)

    def _follow(self, listed: list[Path], sources: list[str], *, drop: bool, on_progress: Progress | None) -> Changes:
        self.unreadable = []
        with self._store.changing():
            old = self._store.open()
            out = set(old.removed)
            if drop:
                listed = [path for path in listed if str(path) not in out]
            plan = plan_changes(old.paths, old.facts, listed, all_rows=drop)
            require_some(plan, self.folder)
            removed = sorted(out - (set() if drop else set(map(str, listed))))
            sources = [*dict.fromkeys([*(each for each in old.manifest.sources if _is_there(Path(each))), *sources])]
            to_embed = [*plan.changed, *plan.new]
            if not to_embed:
                self._apply(old, plan, None, sources, removed)
                return Changes(0, 0, plan.moved, plan.dropped)
            with embedding_run(
                self._model.load(), to_embed, self._store.pieces, least=0, on_progress=on_progress
            ) as pieces:
                self._apply(old, plan, pieces, sources, removed)
            self.unreadable = pieces.unreadable
            write_unreadable(self.folder / UNREADABLE, pieces.unreadable)
        again = len(set(pieces.paths) & set(plan.changed))
        return Changes(len(pieces.paths) - again, again, plan.moved, plan.dropped)

    def _apply(
        self, old: Generation, plan: Plan, pieces: EmbeddedPieces | None, sources: list[str], removed: list[str]
    ) -> None:
        embedded = pieces is not None and len(pieces.paths) > 0
        paths = plan.paths + ([str(path) for path in pieces.paths] if embedded else [])
        facts = np.concatenate([plan.facts, pieces.facts]) if embedded else plan.facts
        if not paths:
            raise UserError(f"none of the images of {self.folder} can be read any more: the gallery stays as it was")
        state = (old.paths, old.facts.tobytes(), old.manifest.sources, old.removed)
        if not embedded and state == (paths, facts.tobytes(), sources, removed):
            return
        blocks = chain(blocks_of(old.embeddings, plan.kept), pieces if embedded else ())
        grows = len(plan.kept) == len(old.paths) and old.manifest.kind != "exact"
        self._replace(old, blocks, paths, facts, sources=sources, removed=removed, extends=old if grows else None)

    def _replace(
        self,
        old: Generation,
        blocks: Iterable[np.ndarray],
        paths: list[str],
        facts: np.ndarray,
        *,
        removed: list[str],
        sources: list[str] | None = None,
        extends: Generation | None = None,
    ) -> None:
        """Put another generation in force and answer from it. To be called while changing."""
        old.verify_embeddings()
        manifest, answered_from = old.manifest, self._generation
        self._generation = self._store.publish(
            blocks,
            paths,
            facts,
            dim=manifest.dim,
            model=manifest.model,
            kind=manifest.kind,
            sources=manifest.sources if sources is None else sources,
            removed=removed,
            extends=extends,
        )
        for generation in (old, answered_from):
            generation.release()
        self._store.delete_unused()

    def _remember(self, model: Path) -> None:
        """Keep where the model is now. A gallery that cannot be written can still be searched."""
        with contextlib.suppress(OSError), self._store.changing():
            manifest = read_manifest(self.folder)
            if manifest.model is not None and manifest.model.path != str(model.absolute()):
                moved = manifest.model.model_copy(update={"path": str(model.absolute())})
                self._store.rewrite_manifest(manifest.model_copy(update={"model": moved}))

    def _matches(self, generation: Generation, queries: np.ndarray, k: int) -> list[list[Match]]:
        distances, rows = _nearest(generation, queries, k)
        return [
            [
                Match(
                    Path(generation.paths[row]),
                    float(distance),
                    float(1 - distance**2 / 2) if generation.manifest.normalized else None,
                )
                for distance, row in zip(*pair, strict=True)
            ]
            for pair in zip(distances, rows, strict=True)
        ]


def check_kind(kind: str) -> None:
    """Refuse an unknown kind of search.

    Args:
        kind: Its name.

    Raises:
        UserError: If it is unknown.
    """
    if kind not in get_args(Kind):
        raise UserError(f"kind is {kind!r}, but must be one of {', '.join(get_args(Kind))}")


def _nearest(generation: Generation, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    if k < 1:
        raise UserError(f"k is {k}, but must be at least 1")
    queries, dim = np.asarray(queries), generation.manifest.dim
    if queries.ndim != 2 or queries.shape[1] != dim or not np.isfinite(queries).all():
        raise UserError(f"queries have the shape {queries.shape}, but must be finite numbers [num_queries, {dim}]")
    k = min(k, len(generation.paths))
    index = generation.index()
    if index is None:
        return nearest_neighbors(queries, generation.embeddings, k=k)
    return index.search(queries, k=k)


def _rows_of(source: str, positions: Mapping[str, int]) -> list[int]:
    """Find the rows of an image, or of all images below a folder, under whatever name it is given."""
    for name in (source, os.path.realpath(source)):
        if name in positions:
            return [positions[name]]
        below = name.rstrip(os.sep) + os.sep
        if rows := [row for path, row in positions.items() if path.startswith(below)]:
            return rows
    file = identity(source)
    return [row for path, row in positions.items() if file is not None and identity(path) == file]


def _is_there(source: Path) -> bool:
    """Whether a source is there. An empty folder is where a disk may be missing."""
    return any(path.is_file() for path in source.rglob("*")) if source.is_dir() else source.exists()


def _sources(given: Iterable[Path | str]) -> list[str]:
    """Return the folders to look through when the gallery is updated; single images are checked in any case."""
    paths = [absolute(path) for path in given]
    return [str(path) for path in paths if path.is_dir() or path.suffix.lower() not in SUFFIXES]
