"""Paired image-to-image translation in JAX. `i2i_jax.load` opens a trained model; importing the package imports nothing heavy."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("i2i_jax.model").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
