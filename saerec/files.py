"""Files that are whole or not there, folders with one writer, and whether the disk has room."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


class BusyFolderError(OSError):
    """Another process is writing to a folder."""


class NoSpaceError(OSError):
    """The disk has no room for what would be written."""


PART = re.compile(r"\.[0-9a-f]{8}\.part$")  # how the name of a file ends while it is written, or if that was cut off
ABANDONED = 3600  # seconds after which nobody writes to a file any more
CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES}  # of folders, on some network mounts


def save_atomically(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file by `save(temporary_path)` and then give it its name, so that `path` is never half-written.

    Not even if the power fails: what was written is on the disk before it gets its name. Of several who write it at
    once the last to finish wins.
    """
    remove_parts(path.parent, path.name, older_than=ABANDONED)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as files are here; some libraries write for the owner's eyes alone
        save(temporary)
        temporary.chmod(mode)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # after a failure
    if os.name == "posix":  # elsewhere a folder cannot be opened
        try:
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno not in CANNOT_SYNC:
                raise


def remove_parts(folder: Path, name: str = "", *, older_than: float = 0) -> None:
    """Remove what those who were killed have left half-written in a folder: of a file, or of all.

    Parameters
    ----------
    folder : Path
    name : str
    older_than : float, seconds
        What was written to since then stays: somebody may be at it.
    """
    for part in folder.iterdir():
        whole = PART.sub("", part.name)
        if whole != part.name and whole == (name or whole):
            with suppress(FileNotFoundError):  # whoever wrote it has just finished
                if time.time() - part.stat().st_mtime >= older_than:
                    part.unlink()


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there; of a link the link, not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The checksum of a file; of a folder, that of the names and checksums of its files, hidden ones aside."""
    if path.is_dir():
        names = ((file, file.relative_to(path).parts) for file in path.rglob("*"))
        # What is hidden, others put into any folder; and our lock.
        whole = (file for file, parts in names if not any(PART.search(part) or part[0] == "." for part in parts))
        files = sorted(file for file in whole if file.is_file())
        listing = "".join(f"{sha256_of(file)} {file.relative_to(path).as_posix()}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


LOCK = ".lock"
WRITER = "SAEREC_WRITER"  # environment variable: the process that holds a folder for those that it starts


@contextmanager
def one_writer(folder: Path, *, alone: bool = False, lock_name: str = LOCK) -> Iterator[None]:
    """Hold a folder, made if need be, for this process alone, or what else the lock is of.

    The operating system lets go of it when the process ends, however it ends: no stale lock is left behind. Files that
    an earlier one left half-written go: at once if all who write there hold the folder (`alone`), else an hour later.

    Raises
    ------
    BusyFolderError
        Another process holds it; the message says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / lock_name), folder / f"{lock_name}.pid"
    starter = os.environ.get(WRITER)  # who may hold the folder that this one lies in
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyFolderError(_busy(folder, lock_name)) from None
    try:
        holder.write_text(str(os.getpid()), encoding="utf-8")
        os.environ[WRITER] = str(os.getpid())
        remove_parts(folder, older_than=0 if alone else ABANDONED)
        yield
    finally:
        os.environ.pop(WRITER, None)
        if starter is not None:
            os.environ[WRITER] = starter
        holder.unlink(missing_ok=True)
        lock.release()


def check_free(folder: Path) -> None:
    """Raise if a process holds a folder, other than this one and the one that started it.

    Raises
    ------
    BusyFolderError
        As of `one_writer`.
    """
    if not (folder / LOCK).exists():
        return
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if _holder(folder) not in (str(os.getpid()), os.environ.get(WRITER)):
            raise BusyFolderError(_busy(folder)) from None
    else:
        lock.release()


def _holder(folder: Path, lock_name: str = LOCK) -> str:
    with suppress(FileNotFoundError):
        return (folder / f"{lock_name}.pid").read_text(encoding="utf-8")
    return "unknown"


def _busy(folder: Path, lock_name: str = LOCK) -> str:
    return f"process {_holder(folder, lock_name)} is writing to {folder}: wait for it, or choose another folder"


def check_space(folder: Path, n_bytes: int, advice: str) -> None:
    """Raise unless the disk of `folder` has room for so many bytes.

    Raises
    ------
    NoSpaceError
        The message ends with `advice`.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        needs, has = (f"{n / 1e9:,.3g} GB" for n in (n_bytes, free))
        raise NoSpaceError(f"{folder} needs about {needs} more, and its disk has {has} free: {advice}")
