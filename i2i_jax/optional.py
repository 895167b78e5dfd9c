"""Libraries that only some features need, each declared in an extra of the package."""

import importlib
from types import ModuleType


class MissingExtra(RuntimeError):
    """A library is not installed: one line that names the extra to install."""


def library(module: str, extra: str) -> ModuleType:
    """Imports `module`, which the extra `extra` installs. Raises MissingExtra if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(f'this needs {module.partition(".")[0]}: pip install "i2i-jax[{extra}]"') from error
