"""Files that are whole or not there, and a lock that dies with its owner."""

import contextlib
import importlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


class Taken(Exception):
    """Another process has the lock: which one."""


def atomic_write(path: Path, content: bytes) -> None:
    """Whoever reads `path`, even after a crash in here, finds the old file or the new one, whole. Its folder is made.

    What is written is on the disk, by its name, when this returns: a power cut does not undo it. Raises OSError in one line that
    names it.
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


def _sync_folder(folder: Path) -> None:
    """Its names; some systems and file systems cannot, and sync them by themselves."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def sweep(folder: Path) -> None:
    """Removes what a killed `atomic_write` left in a folder to which nobody else writes."""
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_file() and leftover.name.split(".")[-2].isdigit():
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system get the file's name, which those of a full disk lack."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Inside, this process alone has the lock that is kept in the file `path`. The system takes it back however its owner ends.

    Raises Taken. A system without such locks gives none, and all have it.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        try:
            fcntl = importlib.import_module("fcntl")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
