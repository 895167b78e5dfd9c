"""Files and folders that are complete or absent, checksums of files, and a lock that the system releases when its owner ends."""

import contextlib
import hashlib
import importlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Taken(Exception):
    """Another process holds the lock; the message names it."""


def atomic_write(path: Path, content: bytes) -> None:
    """Replaces a file atomically: readers see the old content or the new, even after a crash. Creates the parent folders.

    When this returns, the content and the file's name are synced to disk, so that they survive a power failure.

    Raises:
        OSError: one line that names the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields the path of a temporary file for another program to write. Creates the parent folders.

    The file replaces `path` atomically when the block completes, and is removed when it raises.

    Raises:
        OSError: one line that names the file.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
    with folder as name:
        temporary = Path(name) / path.name
        yield temporary
        with writing(path):
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Syncs the names of a folder's files to disk. Some systems and file systems cannot, and sync them on their own."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Removes the temporary files of a killed `atomic_write`. No other process may be writing to the folder."""
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_file() and leftover.name.split(".")[-2].isdigit():
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, *, error: type[Exception]) -> Iterator[Path]:
    """Yields a temporary folder, which is renamed to `path` when the block completes and removed when it raises.

    Args:
        path: must not exist, or be an empty folder; its parent folders are created.
        error: the type of the exception that is raised if there is something at `path` already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise error(f"{path} is there already: name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir()
        yield folder
        os.replace(folder, path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Adds the file's name to an OSError from inside the block; that of a full disk has none."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from error


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds an exclusive lock on a file, which is created; the system releases it however the process ends.

    On a system or file system without such locks, the lock is always granted.

    Args:
        path: the file.
        wait: wait until no other process holds the lock.

    Raises:
        Taken: if another process holds the lock, unless `wait`.
        OSError: if the file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        try:
            fcntl = importlib.import_module("fcntl")
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise Taken(file.read().strip() or "another process") from None
        except (OSError, ModuleNotFoundError):
            pass
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


def mark_in_use(descriptor: int) -> None:
    """Marks an open file as in use until it is closed, however the process ends. Several processes may use it at once."""
    with contextlib.suppress(OSError, ModuleNotFoundError):
        fcntl = importlib.import_module("fcntl")
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_in_use(path: Path) -> bool:
    """Whether a process has marked the file with `mark_in_use`; False on a file system without locks."""
    try:
        fcntl = importlib.import_module("fcntl")
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ModuleNotFoundError):
        pass
    return False
