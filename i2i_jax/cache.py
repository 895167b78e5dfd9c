"""Where what can be made or fetched again is kept."""

import os
from pathlib import Path


def folder(name: str = "") -> Path:
    """`i2i_jax/NAME` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "i2i_jax" / name
