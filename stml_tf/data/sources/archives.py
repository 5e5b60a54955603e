"""Unpacks a downloaded archive once, beside itself, whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

from stml_tf import files
from stml_tf.dry_run import would_have_to
from stml_tf.errors import UserError

_BLOCK = 1 << 20
_DAMAGE = (
    *(shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile),
    *(EOFError, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError),
)


def extract(archive: Path, held: str) -> Path:
    """Unpacks what a tar or zip archive holds into the archive's folder, and says so on standard error.

    Nothing is done where it lies there already. An interrupted extraction leaves nothing that looks finished: files
    appear under their name when all of them are there.

    Args:
        archive: the downloaded file.
        held: the file or folder at the top of the archive that is wanted; anything else in it is left out.

    Returns:
        Where it lies: `held` beside `archive`.

    Raises:
        UserError: the archive is damaged, locked, or does not hold what is wanted.
    """
    target = archive.parent / held
    if target.exists():
        return target
    would_have_to(f"extract {archive} to {target}")
    print(f"Extracting {archive} to {target} (this is done once) ...", file=sys.stderr, flush=True)
    with files.work_folder(target) as work:
        partial = work / "unpacked"
        partial.mkdir()
        _unpack(archive, partial)
        unpacked = partial / held
        if not unpacked.exists():
            found = ", ".join(sorted(entry.name for entry in partial.iterdir())[:8]) or "nothing"
            raise UserError(
                f"{archive} should hold {held}, but holds {found}: it is another archive, or extract it yourself"
            )
        try:
            files.publish(unpacked, target)
        except OSError:
            # Another process that started at the same time was done first: its copy is as good.
            if not target.exists():
                raise
    return target


def _read_to_its_end(archive: Path) -> None:
    """Have the archive's own checksum compared: tarfile stops at the last member, before gzip's stands."""
    for opener in (gzip.open, bz2.open, lzma.open):
        try:
            with opener(archive) as stream:
                stream.read(1)
        except (OSError, EOFError, lzma.LZMAError, zlib.error):
            continue
        try:
            with opener(archive) as stream:
                while stream.read(_BLOCK):
                    pass
        except OSError as error:
            if error.errno is None:  # So bz2 tells of damage.
                raise EOFError(str(error)) from error
            raise
        return


def _unpack(archive: Path, folder: Path) -> None:
    # A tar archive may not write outside of the folder; zipfile sees to that by itself.
    options = {} if archive.suffix == ".zip" else {"filter": "data"}
    try:
        _read_to_its_end(archive)
        shutil.unpack_archive(archive, folder, **options)
    except _DAMAGE as error:
        raise UserError(
            f"{archive} cannot be extracted ({error}): it is incomplete, damaged or locked; download it again, or "
            "extract it yourself"
        ) from error
