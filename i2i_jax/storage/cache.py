"""The user's cache directory, for files that can be downloaded or computed again."""

import contextlib
import os
from pathlib import Path


def folder(name: str = "") -> Path:
    """Returns `i2i_jax/NAME` in the user's cache directory; does not create it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "i2i_jax" / name


def bounded(name: str, *, most: int) -> Path:
    """Returns `folder(name)` after removing its oldest files until the rest takes at most `most` bytes."""
    path, total = folder(name), 0
    with contextlib.suppress(OSError):  # another process may remove them too
        files = [(file.stat().st_mtime_ns, file.stat().st_size, file) for file in path.glob("*") if file.is_file()]
        for _, size, file in sorted(files, reverse=True):
            total += size
            if total > most:
                file.unlink()
    return path
