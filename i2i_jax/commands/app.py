"""Runs a command: parses its flags, sets up the process, and turns errors of the user into one line and an exit status."""

import atexit
import contextlib
import ctypes
import gc
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Literal, NoReturn

from absl import app, flags

from i2i_jax import pretrained
from i2i_jax.config import SIZES, Config, ConfigError, current_name, flatten, nearest
from i2i_jax.devices import crashes
from i2i_jax.storage import cache

_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    type(None): flags.DEFINE_integer,
}

COMPILATION_CACHE_BYTES = 2 * 2**30

RUN = f"its folder, a packed file, hf://USER/NAME, or a model of the package ({', '.join(pretrained.NAMES)})"  # in the help of --run

Main = Callable[[Sequence[str]], None]


def run(main: Main, *, files: bool = False, less_memory: str = "a smaller image or network needs less") -> None:
    """Sets up the process, parses the flags and calls `main`; exits with 0 (done), 1 (failed) or 2 (wrong usage).

    Args:
        main: the command; it gets the program's name and, with `files`, the positional arguments.
        files: whether the command takes positional arguments.
        less_memory: advice for when memory is exhausted.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # before anything imports jax
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache.bounded("compiled", most=COMPILATION_CACHE_BYTES))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    keep_freed_memory()
    collect_seldom()
    silence_libraries()
    start(main, files=files, less_memory=less_memory)


def start(main: Main, *, files: bool = False, less_memory: str = "") -> None:
    """`run` without its settings of the process: jax, malloc and the garbage collector stay as they are."""
    app.run(lambda argv: _report_errors(main, argv, files, less_memory), flags_parser=lambda argv: _parse(main, argv))


def keep_freed_memory() -> None:
    """Makes glibc's malloc keep freed memory: every step on a CPU allocates scratch memory, which is slow to get from the kernel."""
    if os.name == "posix" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        trim_threshold, mmap_max, arena_max = -1, -4, -8
        for option, value in ((trim_threshold, -1), (mmap_max, 0), (arena_max, 1)):
            mallopt(option, value)


def collect_seldom() -> None:
    """Makes garbage collection rare: tracing a training step allocates a million long-lived objects, and a quarter of the time went
    into scanning them.
    """
    gc.set_threshold(100_000)


def silence_libraries() -> None:
    """Hides the warnings and logged tracebacks of libraries whose failures this package reports itself, in one line."""
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    logging.getLogger("absl").addFilter(lambda record: "/orbax/" not in record.pathname)  # from its threads


@contextlib.contextmanager
def ignore_closed_pipe() -> Iterator[None]:
    """Around printing: if the reader of stdout has gone, as `head` does, the output is dropped and the command continues."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, status: int) -> NoReturn:
    """Prints the error and exits with `status`."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def parse_step(text: str | None) -> int | Literal["best"] | None:
    """Returns the value of --step. Raises ConfigError if it is neither a number nor `best`."""
    if text is None:
        return None
    if text == "best":
        return "best"
    if not text.isdigit():
        raise ConfigError(f"--step is {text!r}: must be a number or best")
    return int(text)


def define_config_options() -> None:
    """Defines --config.SECTION.OPTION=VALUE for every option, for commands that do not take a config file."""
    for name, default in flatten(Config()).items():
        define = flags.DEFINE_string if name in SIZES else _DEFINE[type(default)]
        define(f"config.{name}", None, "An option of the config.")


def config_options() -> dict[str, Any]:
    """Returns the config options that were given, by their dotted names."""
    holders = {name: flags.FLAGS[f"config.{name}"] for name in flatten(Config())}
    return {name: flag.value for name, flag in holders.items() if flag.present}


def _report_errors(main: Main, argv: Sequence[str], files: bool, less_memory: str) -> None:
    crashes.on_abort(f"C++ code aborted the process, usually because memory is exhausted: {less_memory}")
    if len(argv) > 1 and not files:
        fail(f"unexpected argument {argv[1]!r}: options are --NAME=VALUE", 2)
    try:
        main(argv)
    except ConfigError as error:
        fail(str(error), 2)
    except KeyboardInterrupt:
        atexit.register(crashes.exit_now)  # XLA may still be computing, and would crash during interpreter shutdown
        fail("interrupted", 1)
    except Exception as error:
        if crashes.out_of_memory(error):
            fail(f"out of memory ({' '.join(str(error).split()) or type(error).__name__:.200}): {less_memory}", 1)
        # This package's errors and the operating system's explain themselves; anything else is a bug and keeps its traceback.
        if not (type(error).__module__.startswith("i2i_jax.") or isinstance(error, OSError)):
            raise
        fail(" ".join(str(error).split()), 1)


def _parse(main: Main, argv: list[str]) -> list[str]:
    """Parses the flags; returns the program's name and the positional arguments."""
    if {"-h", "-help", "--help"} & set(argv):
        _print_help(sys.modules[main.__module__])
    sys.argv[1:] = argv[1:] = [_with_current_name(argument) for argument in argv[1:]]  # ml_collections reads sys.argv
    _refuse_unknown_options(argv)
    try:
        positional = flags.FLAGS(argv)
    except (flags.Error, OSError) as error:
        cause = error.__context__ if isinstance(error.__context__, ConfigError) else error  # absl would name the flag again
        lines = [line for line in str(cause).splitlines() if line.strip()]
        # An error of the config file comes as the last line of a traceback, after the name of its class.
        fail(lines[-1].split("ConfigError: ")[-1] if "ConfigError: " in lines[-1] else lines[0], 2)
    except Exception as error:  # the config file is code, which may raise anything
        fail(f"--config: {type(error).__name__}: {' '.join(str(error).split())}", 2)
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = -1  # warnings and worse
    return positional


def _print_help(module: ModuleType) -> NoReturn:
    """Prints the module's docstring and options, and exits."""
    with ignore_closed_pipe():
        print((module.__doc__ or "").strip(), end="\n\n")
        for flag in flags.FLAGS.get_key_flags_for_module(module):
            default = "" if flag.default in (None, "") else f" (default: {str(flag.default).lower()})"
            print(f"  --{flag.name:<12} {flag.help}{default}")
    sys.exit(0)


def _with_current_name(argument: str) -> str:
    """--config.OLD_NAME=VALUE under the option's current name; other arguments unchanged."""
    return re.sub(r"^(--?config\.)([^=]+)", lambda match: match[1] + current_name(match[2]), argument)


def _refuse_unknown_options(argv: Sequence[str]) -> None:
    known = [f"config.{name}" for name in flatten(Config())]
    for argument in argv[1:]:
        name = argument.lstrip("-").split("=")[0]
        if name.startswith("config.") and name not in known:
            fail(f"unknown option --{name}{nearest(name, known)}", 2)
