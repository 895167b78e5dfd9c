"""The user's cache directory, for files that can be downloaded or computed again."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def folder(name: str = "") -> Path:
    """Returns `i2i_jax/NAME` in the user's cache directory; does not create it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "i2i_jax" / name


def bounded(name: str, *, most: int, is_in_use: Callable[[Path], bool] = lambda file: False) -> Path:
    """Returns `folder(name)` after removing its oldest files until the rest takes at most `most` bytes.

    Args:
        name: the folder.
        most: the limit in bytes.
        is_in_use: whether a file must not be removed; such files count towards the limit first.
    """
    path, total = folder(name), 0
    with contextlib.suppress(OSError):  # another process may remove them too
        files = [(is_in_use(file), file.stat().st_mtime_ns, file.stat().st_size, file) for file in path.glob("*") if file.is_file()]
        for used, _, size, file in sorted(files, reverse=True):
            total += size
            if total > most and not used:
                file.unlink()
    return path
