"""The only place that creates, replaces or deletes: what is on disk is whole, or is not there.

A new thing is written in a work folder beside its target, flushed to the disk, and put in place in one step; until then
the old one stays. Nothing is written through a memory map, as a full disk would then end the process without a message.

A work folder bears a name of its own and is locked while its process lives. One whose process was killed is recognised
by its name and its free lock, and goes away when the next thing is written beside it; a folder that it was about to
replace comes back.

What this package reads again carries a checksum. A JSON file holds it in its last field; any other file may end with
it (`sealed`): NumPy and HDF5 read such files as if the last line were not there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from stml_tf.errors import UserError
from stml_tf.visible import visible

try:
    import fcntl
except ImportError:  # Windows refuses to delete a file that is open, which serves as well.
    fcntl = None

_WORK_FOLDER = re.compile(r"\.stml-tf-[0-9a-f]{16}\.partial")
_WORK_LOCK = "stml-tf.lock"
_REPLACED = ".replaced"
_BLOCK = 1 << 20
_SEAL = re.compile(rb"\nstml-tf sha256 ([0-9a-f]{64})\n")
_SEAL_LENGTH = len(b"\nstml-tf sha256 \n") + 64

_log = logging.getLogger(__name__)


class DamagedError(UserError):
    """A file is missing, or is not what was written."""


# Writing


@contextmanager
def write_file(file: Path, *, sealed: bool = False) -> Iterator[BinaryIO]:
    """Open a stream whose content becomes `file` at the end of the block, or goes away after an error.

    Folders on the way to it are made. A link is replaced, never followed: nothing outside the folder is touched.

    Args:
        file: The target. One that is there is replaced: see `refuse_existing`.
        sealed: End the file with a checksum, which `require_seal` checks.

    Yields:
        The stream.
    """
    with work_folder(file) as folder:
        partial = folder / file.name
        with partial.open("wb") as raw, _HashingStream(raw) as stream:
            yield stream
            if sealed:
                raw.write(_seal_of(stream.digest))
        publish(partial, file)


def write_text(file: Path, text: str) -> None:
    """Write a text file as UTF-8. Names of files that are not Unicode keep their bytes."""
    write_bytes(file, text.encode("utf-8", "surrogateescape"))


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file, as `write_file` does."""
    with write_file(file) as stream:
        stream.write(content)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON object whose last field, `sha256`, is the checksum of the others."""
    write_bytes(file, _dump({**content, "sha256": _digest_of(content)}))


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Give a path in a work folder, for those who write by path; it becomes `file` at the end of the block.

    Args:
        file: The target. One that is there is replaced.

    Yields:
        The path.
    """
    with work_folder(file) as folder:
        yield folder / file.name
        publish(folder / file.name, file)


@contextmanager
def work_folder(beside: Path) -> Iterator[Path]:
    """Give an empty folder beside a target, for those who write by path; it is deleted at the end.

    Give what was written its place with `publish`. Folders on the way are made, and go away again after an error.

    Args:
        beside: The target.

    Yields:
        The folder.
    """
    parent = beside.parent
    with made_folder(parent):
        recover(parent)
        folder, lock = _locked_work_folder(parent)
        try:
            yield folder
        except OSError as error:
            # A full disk names no file, or one in the work folder, which tells nobody which disk it is.
            if error.errno is not None and str(error.filename or folder).startswith(str(folder)):
                error.filename = str(beside)
            raise
        finally:
            lock.release()
            _delete_work_folder(folder)


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder and those on the way to it; after an error those that were made and are empty go away again."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()
        raise


def publish(partial: Path, target: Path) -> None:
    """Put a file or folder from a work folder in its place, once all of it has reached the disk.

    A file replaces the one that is there. A folder needs a name that is free, or an empty folder.

    Args:
        partial: The file or folder.
        target: Its place.

    Raises:
        OSError: If that is not so. The old one is untouched.
    """
    for path in (*partial.rglob("*"), partial) if partial.is_dir() else (partial,):
        _sync(path)
    if partial.is_dir():
        partial.rename(target)
    else:
        partial.replace(target)
    _sync(target.parent)


def replace_folder(partial: Path, target: Path, names: Iterable[str]) -> None:
    """Put a folder from a work folder in its place; one that is there is deleted, and comes back if that fails.

    A folder cannot be exchanged in one step: where the process is killed between the two, `recover` puts the old one
    back.

    Args:
        partial: The new folder.
        target: Its place.
        names: What this package writes into such a folder. Anything else in the old one moves to the new one.
    """
    if not target.exists():
        publish(partial, target)
        return
    old = partial.with_name(f"{target.name}{_REPLACED}")
    target.rename(old)
    try:
        publish(partial, target)
    except BaseException:
        old.rename(target)
        raise
    for path in old.iterdir():
        if path.name not in names:
            path.rename(target / path.name)


def require_room(folder: Path, size: int) -> None:
    """Refuse long work whose result will not fit.

    Args:
        folder: Where it will lie; it need not exist yet.
        size: Bytes.

    Raises:
        OSError: If less is free.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < size:
        raise OSError(
            errno.ENOSPC,
            f"{os.strerror(errno.ENOSPC)}: about {size / 1e6:,.1f} MB are needed, and {free / 1e6:,.1f} MB are free",
            str(folder),
        )


# Checking


def read_json(file: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Args:
        file: The file.

    Returns:
        The object, without the checksum.

    Raises:
        DamagedError: If it is missing or is not what was written.
    """
    content = read_any_json(file)
    try:
        intact = content.pop("sha256") == _digest_of(content)
    except (ValueError, KeyError) as error:
        raise DamagedError(f"{file} holds no checksum, or what has none") from error
    if not intact:
        raise DamagedError(f"{file} does not have the checksum that it was written with")
    return content


def read_any_json(file: Path) -> dict[str, Any]:
    """Read a JSON object, of whatever content.

    Raises:
        DamagedError: If there is none.
    """
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{file} cannot be read ({_reason(error)})") from error
    if not isinstance(content, dict):
        raise DamagedError(f"{file} cannot be read (it holds no JSON object)")
    return content


def seal(file: Path) -> None:
    """Append a checksum to a file that another library wrote, in a work folder."""
    digest = checksum(file)
    with file.open("ab") as stream:
        stream.write(_seal_of(digest))


def is_sealed(file: Path) -> bool:
    """Return whether a file ends with a checksum, and so was written by this package.

    Raises:
        DamagedError: If it does, and the content is another.
    """
    size = file.stat().st_size - _SEAL_LENGTH
    if size < 0:
        return False
    with file.open("rb") as stream:
        stream.seek(size)
        found = _SEAL.fullmatch(stream.read())
    if found is None:
        return False
    if checksum(file, size=size).encode() != found[1]:
        raise DamagedError(f"{file} does not have the checksum that it was written with")
    return True


def require_seal(file: Path) -> Path:
    """Refuse a file that was not written sealed.

    Args:
        file: The file.

    Returns:
        The file.

    Raises:
        DamagedError: If it is missing, or is not what was written.
    """
    try:
        if is_sealed(file):
            return file
    except OSError as error:
        raise DamagedError(f"{file} cannot be read ({_reason(error)})") from error
    raise DamagedError(f"{file} does not end with its checksum")


@contextmanager
def unreadable_is_damage(file: Path) -> Iterator[None]:
    """Take whatever a library raises over the content of a file, within the block, for damage.

    Raises:
        DamagedError: In place of that.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # NumPy and faiss raise nearly anything over bytes that they did not write.
        raise DamagedError(f"{file} cannot be read ({_reason(error)})") from error


def checksum(source: Path | BinaryIO, *, size: int | None = None) -> str:
    """Compute the SHA-256 of a file, or of the rest of a stream, in hexadecimal.

    Args:
        source: The file or stream.
        size: How many bytes to read; by default all.
    """
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return checksum(stream, size=size)
    digest, left = hashlib.sha256(), float("inf") if size is None else size
    while block := source.read(int(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()


# Deleting, and what must not be overwritten


def delete(file: Path) -> None:
    """Delete one file that this package wrote, if it is there."""
    file.unlink(missing_ok=True)


def delete_whole(folder: Path, names: Iterable[str]) -> None:
    """Delete a folder that this package wrote, so that it is never seen half deleted, whenever the process is killed.

    Args:
        folder: The folder. One that holds anything else than the names stays, with what is not ours.
        names: What this package writes into it.
    """
    names = set(names)
    if not folder.is_symlink() and all(path.name in names for path in folder.iterdir()):
        with contextlib.suppress(OSError), work_folder(folder) as work:  # A full disk has no room for a work folder.
            folder.rename(work / folder.name)
            return
    delete_known(folder, names)


def delete_known(folder: Path, patterns: Iterable[str]) -> None:
    """Delete the files in a folder whose names this package gives, and the folder if nothing else is left.

    Args:
        folder: The folder; a link to one is left alone.
        patterns: The names, or patterns of names.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_file() or path.is_symlink():
                path.unlink(missing_ok=True)
    recover(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def is_work_folder(path: Path) -> bool:
    """Return whether a path bears the name of a work folder."""
    return _WORK_FOLDER.fullmatch(path.name) is not None


def recover(parent: Path) -> None:
    """Delete the work folders of killed processes in a folder, and put back what they were about to replace."""
    for entry in os.scandir(parent):
        work = Path(entry.path)
        if not (_WORK_FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)):
            continue
        lock_file = work / _WORK_LOCK
        if not lock_file.is_file():  # Made and not locked yet, which `_locked_work_folder` allows for; or not ours.
            with contextlib.suppress(OSError):
                work.rmdir()
            continue
        with contextlib.suppress(Timeout, OSError), FileLock(lock_file, timeout=0):
            for old in work.glob(f"*{_REPLACED}"):
                target = parent / old.name.removesuffix(_REPLACED)
                if not target.exists():
                    old.rename(target)
            _delete_work_folder(work)


def refuse_existing(file: Path, *, suffixes: Iterable[str], ours: Callable[[Path], bool], overwrite: bool) -> None:
    """Refuse to write over something else than an earlier output of the same kind.

    Args:
        file: The output.
        suffixes: How its name has to end, one of these.
        ours: Whether a file is such an output, by its content.
        overwrite: Whether one may be replaced.

    Raises:
        UserError: If the name does not fit, or something is there that must stay.
    """
    suffixes = tuple(suffixes)
    if not file.name.lower().endswith(suffixes):
        raise UserError(f"{file} has to end in {' or '.join(suffixes)}: give the output such a name")
    if not file.exists():
        if file.is_symlink():
            raise UserError(f"{file} is a link to {file.readlink()}, which does not exist: give another file")
        return
    if not file.is_file():
        raise UserError(f"{file} is no regular file: give another file")
    if not overwrite:
        raise UserError(f"{file} exists already: give another file, or replace it with --overwrite")
    if not ours(file):
        raise UserError(
            f"{file} was not written by this command, so --overwrite does not replace it: give another file, or "
            "delete it yourself"
        )


def begins_with(file: Path, start: bytes) -> bool:
    """Return whether a file's content begins with some bytes."""
    with file.open("rb") as stream:
        return stream.read(len(start)) == start


# Sharing


@contextmanager
def locked(file: Path, *, busy: str, wait: bool = True) -> Iterator[None]:
    """Hold a lock, waiting while another process or thread has it.

    Args:
        file: The lock's file. It stays.
        busy: What is said, as a warning in the log, if that takes more than a second.
        wait: False raises an error that says `busy` instead.

    Raises:
        UserError: If another has it and `wait` is False.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=1 if wait else 0)
    except Timeout:
        if not wait:
            raise UserError(busy) from None
        _log.warning(visible(busy))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def hold(file: Path) -> BinaryIO:
    """Open a file to read, so that `is_held` says so in every process until the stream is closed."""
    stream = file.open("rb")
    if fcntl is not None:
        with contextlib.suppress(OSError):  # Some network disks cannot lock.
            fcntl.flock(stream, fcntl.LOCK_SH)
    return stream


def release(stream: BinaryIO) -> None:
    """End what `hold` began, for the stream and for what was mapped from it."""
    if fcntl is not None:
        with contextlib.suppress(OSError, ValueError):
            fcntl.flock(stream, fcntl.LOCK_UN)


def is_held(file: Path) -> bool:
    """Return whether anyone has opened a file with `hold` and not closed it yet."""
    if fcntl is None:
        return False
    try:
        with file.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


class _HashingStream(io.RawIOBase):
    """Writes on, and knows the checksum of what was written.

    NumPy writes to a plain file with C's `fwrite`, whose errors have no number; to this it writes with Python.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._digest = hashlib.sha256()
        self._size = 0

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        content = memoryview(content).cast("B")
        self._raw.write(content)
        self._digest.update(content)
        self._size += len(content)
        return len(content)

    def tell(self) -> int:
        return self._size


def _locked_work_folder(parent: Path) -> tuple[Path, FileLock]:
    while True:
        folder = parent / f".stml-tf-{secrets.token_hex(8)}.partial"
        folder.mkdir()
        lock = FileLock(folder / _WORK_LOCK)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError):
            continue  # Another process took it for an abandoned one, in the moment before it was locked.
        except BaseException:
            _delete_work_folder(folder)
            raise
        if (folder / _WORK_LOCK).exists():
            return folder, lock


def _delete_work_folder(folder: Path) -> None:
    """Delete the lock after all else: a folder that holds something, but no lock, would be taken for a foreign one."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _WORK_LOCK:
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _seal_of(digest: str) -> bytes:
    return f"\nstml-tf sha256 {digest}\n".encode()


def _digest_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(_dump(content)).hexdigest()


def _dump(content: dict[str, Any]) -> bytes:
    # ASCII, so that names that are not Unicode come back as they were.
    return json.dumps(content, indent=2, allow_nan=False).encode("ascii") + b"\n"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
