"""Unpacks a downloaded archive once, beside itself, whole or not at all.

An archive comes from elsewhere: nothing of it is written outside of a folder of its own, and it holds files and folders
alone, as a link may lead anywhere once it lies in its place.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

from stml_tf import files
from stml_tf.dry_run import would_have_to
from stml_tf.errors import UserError
from stml_tf.visible import visible

_BLOCK = 1 << 20
_DAMAGE = (shutil.ReadError, gzip.BadGzipFile)  # Of all OSErrors; the others are the disk's.
_IMPOSSIBLE_NAMES = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)


def extract(archive: Path, held: str) -> Path:
    """Unpack what a tar or zip archive holds into the archive's folder, and say so on standard error.

    Nothing is done where it lies there already. An interrupted extraction leaves nothing that looks finished: files
    appear under their name when all of them are there.

    Args:
        archive: The downloaded file.
        held: The file or folder at the top of the archive that is wanted; anything else in it is left out.

    Returns:
        Where it lies: `held` beside `archive`.

    Raises:
        UserError: If the archive is damaged, locked, or does not hold what is wanted.
        OSError: If what it holds does not fit on the disk.
    """
    target = archive.parent / held
    if target.exists():
        return target
    would_have_to(f"extract {archive} to {target}")
    print(f"Extracting {visible(archive)} to {visible(target)} (this is done once) ...", file=sys.stderr, flush=True)
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


def _read_to_its_end(archive: Path, folder: Path) -> None:
    """Have the archive's own checksum compared: tarfile stops at the last member, before gzip's stands.

    Raises:
        OSError: If what comes out of it would not fit into the folder.
    """
    for opener in (gzip.open, bz2.open, lzma.open):
        try:
            with opener(archive) as stream:
                stream.read(1)
        except (OSError, EOFError, lzma.LZMAError, zlib.error):
            continue
        free, size = shutil.disk_usage(folder).free, 0
        try:
            with opener(archive) as stream:
                while block := stream.read(_BLOCK):
                    size += len(block)
                    if size > free:
                        files.require_room(folder, size)
        except OSError as error:
            if error.errno is None:  # So bz2 tells of damage.
                raise EOFError(str(error)) from error
            raise
        return


def _plain(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise tarfile.FilterError(f"it holds {member.name!r}, which is neither a plain file nor a folder")
    return tarfile.data_filter(member, folder)


def _require_plain_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            # As zipfile would write them elsewhere in the folder than they say, or leave them out.
            if Path(member.filename).is_absolute() or ".." in Path(member.filename).parts:
                raise zipfile.BadZipFile(f"it holds {member.filename!r}, which lies outside of it")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise zipfile.BadZipFile(f"it holds {member.filename!r}, which is neither a plain file nor a folder")
        files.require_room(folder, sum(member.file_size for member in content.infolist()))


def _unpack(archive: Path, folder: Path) -> None:
    is_zip = archive.suffix == ".zip"
    try:
        if is_zip:
            _require_plain_zip(archive, folder)
        else:
            _read_to_its_end(archive, folder)
        shutil.unpack_archive(archive, folder, **({} if is_zip else {"filter": _plain}))
    except Exception as error:  # a damaged archive raises whatever its bytes lead to
        if isinstance(error, OSError) and not isinstance(error, _DAMAGE) and error.errno not in _IMPOSSIBLE_NAMES:
            raise
        raise UserError(
            f"{archive} cannot be extracted ({error}): it is incomplete, damaged or locked; download it again, or "
            "extract it yourself"
        ) from error
