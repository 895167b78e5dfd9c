"""Lists of names or numbers in flags; a wrong one is refused in one line."""

from collections.abc import Collection

from absl.flags import FlagHolder

from i2i_jax.config import ConfigError, nearest


def names(flag: FlagHolder, known: Collection[str]) -> list[str]:
    """The names that were given, or all that are known. Raises ConfigError."""
    for name in flag.value or ():
        if name not in known:
            raise ConfigError(f"--{flag.name}: unknown {name!r}: one of {', '.join(known)}{nearest(name, known)}")
    return flag.value or list(known)


def whole_numbers(flag: FlagHolder, least: int = 0, most: int | None = None) -> list[int]:
    """The numbers that were given. Raises ConfigError."""
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    for text in flag.value or [""]:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise ConfigError(f"--{flag.name}: {text!r}: must be a whole number {limits}")
    return [int(text) for text in flag.value]
