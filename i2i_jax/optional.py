"""Libraries that are optional."""

import importlib
from types import ModuleType


class MissingExtra(RuntimeError):
    """A library that is not installed: one line that names the extra that has it."""


def library(module: str, extra: str) -> ModuleType:
    """Raises MissingExtra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(f'this needs {module.partition(".")[0]}: pip install "i2i-jax[{extra}]"') from error
