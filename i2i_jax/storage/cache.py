"""Where what can be made or fetched again is kept."""

import contextlib
import os
from pathlib import Path


def folder(name: str = "") -> Path:
    """`i2i_jax/NAME` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "i2i_jax" / name


def bounded(name: str, *, most: int) -> Path:
    """That folder, with at most so many bytes of files in it: the oldest are removed."""
    place, total = folder(name), 0
    with contextlib.suppress(OSError):  # another process may remove them too
        files = [(file.stat().st_mtime_ns, file.stat().st_size, file) for file in place.glob("*") if file.is_file()]
        for _, size, file in sorted(files, reverse=True):
            total += size
            if total > most:
                file.unlink()
    return place
