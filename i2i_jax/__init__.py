"""Paired image-to-image translation in JAX.

`i2i_jax.load` opens a trained model. Importing the package does not import jax.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from i2i_jax.inference.model import load as load

__version__: str


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("i2i_jax.inference.model").load
    if name == "__version__":
        return importlib.metadata.version("i2i-jax")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
