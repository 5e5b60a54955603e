"""Embeddings in a file for other programs: NumPy's .npz, or Parquet."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.search.embedding_run import LOCK, PIECE_SIZE, EmbeddedPieces, Progress, embedding_run
from stml_tf.search.image_list import list_images

if TYPE_CHECKING:
    from stml_tf.data.inspection import Unreadable
    from stml_tf.export.embedder import Embedder

_UNREADABLE_HEADING = "# Images that stml-tf left out: path, reason\n"


def check_output(out: Path, *, overwrite: bool = False) -> None:
    """Refuse an output that `embed_to_file` could not write.

    Args:
        out: The file.
        overwrite: Whether an earlier output may be replaced.

    Raises:
        UserError: If the suffix is neither .npz nor .parquet, something is there that must stay, or pyarrow is missing.
    """
    files.refuse_existing(out, suffixes=[".npz", ".parquet"], ours=_is_embedding_file, overwrite=overwrite)
    if out.suffix.lower() == ".parquet":
        _pyarrow()


def embed_to_file(
    embedder: Embedder,
    images: Path | str | Iterable[Path | str],
    out: Path,
    *,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> tuple[int, list[Unreadable]]:
    """Embed images into a file.

    A `.npz` file holds `paths` `[num_images]` text, `embeddings` `[num_images, dim]` float32 and `model`, the network's
    fingerprint. A `.parquet` file has the columns `path` and `embedding` (a list of `dim` float32) and the fingerprint
    in its metadata. Paths are absolute.

    An interrupted run goes on where it was when it is started again: until the file is there, what is done lies in a
    hidden folder beside it.

    Args:
        embedder: The network.
        images: See `list_images`.
        out: The file. Beside it, images that cannot be read are listed in a file named as it and `.unreadable.txt`.
        overwrite: Replace the file that is there.
        on_progress: Called with how many images are done and how many there are.

    Returns:
        How many images were embedded, and those that were left out.

    Raises:
        UserError: If there are no images or none of them can be read, and see `check_output`.
    """
    check_output(out, overwrite=overwrite)
    listed = list_images(images)
    work = out.with_name(f".stml-tf-{hashlib.sha256(os.fsencode(out.name)).hexdigest()[:16]}.pieces")
    write = _write_npz if out.suffix.lower() == ".npz" else _write_parquet
    with (
        files.made_folder(work),
        files.locked(work / LOCK, busy=f"waiting for another process that writes {out}"),
        embedding_run(embedder, listed, work, on_progress=on_progress) as pieces,
    ):
        check_output(out, overwrite=overwrite)
        with files.write_file(out.resolve()) as stream:
            write(pieces, stream, embedder.fingerprint)
        write_unreadable(out.with_name(f"{out.name}.unreadable.txt"), pieces.unreadable)
    return len(pieces.paths), pieces.unreadable


def write_unreadable(file: Path, unreadable: Sequence[Unreadable]) -> None:
    """Write a list of the images that were left out, one path and reason a line.

    Args:
        file: The list. Another file of that name, without the heading of such a list, is left alone.
        unreadable: The images. If there are none, an earlier list is deleted.
    """
    if file.exists() and not files.begins_with(file, _UNREADABLE_HEADING.encode()):
        return
    if unreadable:
        lines = [f"{image.path}\t{image.reason}\n" for image in unreadable]
        files.write_text(file, "".join([_UNREADABLE_HEADING, *lines]))
    else:
        files.delete(file)


def _is_embedding_file(file: Path) -> bool:
    if file.suffix.lower() == ".parquet":
        _pyarrow()
        from pyarrow import parquet

        try:
            return b"model" in (parquet.read_schema(file).metadata or {})
        except (OSError, ValueError):
            return False
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist() == ["paths.npy", "embeddings.npy", "model.npy"]
    except (OSError, zipfile.BadZipFile):
        return False


def _write_npz(pieces: EmbeddedPieces, stream: BinaryIO, fingerprint: str) -> None:
    # NumPy's own savez wants whole arrays; this writes the same format one piece after another.
    text = np.dtype((np.str_, max(len(str(path)) for path in pieces.paths)))
    count = len(pieces.paths)
    some_paths = (pieces.paths[start : start + PIECE_SIZE] for start in range(0, count, PIECE_SIZE))
    members = {
        "paths": (text, (count,), (np.array([str(path) for path in some], text) for some in some_paths)),
        "embeddings": (np.dtype(np.float32), (count, pieces.dim), pieces),
        "model": (np.array(fingerprint).dtype, (), [np.array(fingerprint)]),
    }
    with zipfile.ZipFile(stream, "w") as archive:
        for name, (dtype, shape, parts) in members.items():
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for part in parts:
                    member.write(part.tobytes())


def _write_parquet(pieces: EmbeddedPieces, stream: BinaryIO, fingerprint: str) -> None:
    pyarrow = _pyarrow()
    from pyarrow import parquet

    columns = [("path", pyarrow.string()), ("embedding", pyarrow.list_(pyarrow.float32(), pieces.dim))]
    schema = pyarrow.schema(columns, metadata={"model": fingerprint})
    # Parquet's text is strict UTF-8, a file's name is not.
    names = (os.fsencode(path).decode("utf-8", "replace") for path in pieces.paths)
    with parquet.ParquetWriter(stream, schema) as writer:
        for embeddings in pieces:
            paths = pyarrow.array(list(islice(names, len(embeddings))))
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), pieces.dim)
            writer.write_table(pyarrow.table([paths, rows], schema=schema))


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UserError("a .parquet file needs pyarrow: pip install 'stml-tf[parquet]', or write a .npz file") from None
    return pyarrow
