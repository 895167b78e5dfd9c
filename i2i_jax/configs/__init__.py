"""The predefined configs, one file for each. `--config=NAME` calls `get_config` of NAME.py."""

import runpy
from pathlib import Path

from i2i_jax.config import Config, ConfigError, nearest

_FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in _FOLDER.glob("[!_]*.py")))


def read(named: str, *, option: str = "") -> Config:
    """Returns the config of NAME[:ARGUMENT] or FILE[:ARGUMENT].

    Args:
        named: a predefined config or a Python file with a function `get_config`, and the argument of that function, such as
            bicycle:facades.
        option: the command line option, such as `--config=`, that error messages put before a suggested name.

    Raises:
        ConfigError: if there is no such config, or its function fails.
    """
    name, *argument = named.split(":", 1)
    file = _file(name, option)
    try:
        config = runpy.run_path(file)["get_config"](*argument)
    except ConfigError:
        raise
    except Exception as error:  # the file is code, which can raise any exception
        raise ConfigError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(config, Config):
        raise ConfigError(f"get_config of {name} gives a {type(config).__name__}: must be a Config")
    return config


def _file(name: str, option: str) -> str:
    """The path of a predefined config or of a file. Raises ConfigError."""
    if name in NAMES:
        return str(_FOLDER / f"{name}.py")
    if Path(name).is_file():
        return name
    stem = Path(name).stem
    if stem in NAMES:
        raise ConfigError(f"there is no file {name}: {option}{stem} would do")
    raise ConfigError(f"there is no file {name} and no config of this name: one of {', '.join(NAMES)}{nearest(stem, NAMES)}")
