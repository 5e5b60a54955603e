"""Unpacks a downloaded archive once, beside itself, whole or not at all."""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from stml_tf.dry_run import would_have_to
from stml_tf.errors import UserError


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
    with tempfile.TemporaryDirectory(prefix=f".{held}-", dir=archive.parent) as partial:
        unpacked = Path(partial) / held
        _unpack(archive, Path(partial))
        if not unpacked.exists():
            found = ", ".join(sorted(entry.name for entry in Path(partial).iterdir())[:8]) or "nothing"
            raise UserError(
                f"{archive} should hold {held}, but holds {found}: it is another archive, or extract it yourself"
            )
        try:
            unpacked.rename(target)
        except OSError:
            # Another process that started at the same time was done first: its copy is as good.
            if not target.exists():
                raise
    return target


def _unpack(archive: Path, folder: Path) -> None:
    # A tar archive may not write outside of the folder; zipfile sees to that by itself.
    options = {} if archive.suffix == ".zip" else {"filter": "data"}
    try:
        shutil.unpack_archive(archive, folder, **options)
    except (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise UserError(
            f"{archive} cannot be extracted ({error}): it is incomplete, damaged or locked; download it again, or "
            "extract it yourself"
        ) from error
