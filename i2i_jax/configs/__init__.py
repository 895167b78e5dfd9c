"""The configs, a file a system: what --config=NAME means is get_config of NAME.py."""

import runpy
from pathlib import Path

from i2i_jax.config import Config, ConfigError, nearest

_FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in _FOLDER.glob("[!_]*.py")))


def read(named: str, *, option: str = "") -> Config:
    """The config that NAME[:ARGUMENT] or FILE[:ARGUMENT] gives. Raises ConfigError, with `option` before the name that would do."""
    name, *argument = named.split(":", 1)
    file = _file(name, option)
    try:
        config = runpy.run_path(file)["get_config"](*argument)
    except ConfigError:
        raise
    except Exception as error:  # the file is code, which may raise anything
        raise ConfigError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(config, Config):
        raise ConfigError(f"get_config of {name} gives a {type(config).__name__}: must be a Config")
    return config


def _file(name: str, option: str) -> str:
    if name in NAMES:
        return str(_FOLDER / f"{name}.py")
    if Path(name).is_file():
        return name
    own = Path(name).stem
    if own in NAMES:
        raise ConfigError(f"there is no file {name}: {option}{own} would do")
    raise ConfigError(f"there is no file {name} and no config of this name: one of {', '.join(NAMES)}{nearest(own, NAMES)}")
