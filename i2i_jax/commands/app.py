"""Runs a command: flags in, exit status out; what a user did wrong is one line and no traceback."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from i2i_jax.config import Config, ConfigError, flatten, nearest


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parses the flags and calls `main`; exits with 0 done, 1 failed, 2 wrong usage."""
    flags.FLAGS.set_default("verbosity", -1)  # warnings and worse
    app.run(lambda argv: _in_one_line(main, argv), flags_parser=_parse)


def fail(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def _in_one_line(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    if len(argv) > 1:
        fail(f"unexpected argument {argv[1]!r}: options are --NAME=VALUE", 2)
    try:
        main(argv)
    except ConfigError as error:
        fail(str(error), 2)
    except Exception as error:
        # Errors of our own say what is wrong by themselves, and so do the operating system's; others are bugs.
        if not (type(error).__module__.startswith("i2i_jax.") or isinstance(error, OSError)):
            raise
        fail(" ".join(str(error).split()), 1)


def _parse(argv: list[str]) -> list[str]:
    _refuse_unknown_options(argv)
    try:
        return flags.FLAGS(argv)
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        # A config file's own error comes as the last line of a traceback, after its class.
        message = lines[-1].split("ConfigError: ")[-1] if "ConfigError: " in lines[-1] else lines[0]
        fail(message, 2)
        raise AssertionError from error


def _refuse_unknown_options(argv: Sequence[str]) -> None:
    known = flatten(Config())
    for argument in argv[1:]:
        name = argument.lstrip("-").split("=")[0]
        if name.startswith("config.") and (option := name.removeprefix("config.")) not in known:
            fail(f"unknown option --{name}{nearest(option, known)}", 2)
