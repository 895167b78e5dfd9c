"""Runs a command: flags in, exit status out; what a user did wrong is one line and no traceback."""

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

from i2i_jax.config import Config, ConfigError, current_name, flatten, nearest
from i2i_jax.devices import crashes
from i2i_jax.storage import cache

_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    type(None): flags.DEFINE_integer,
}

COMPILED = 2 * 2**30  # bytes of compiled programs that are kept


def run(main: Callable[[Sequence[str]], None], *, files: bool = False, less_memory: str = "a smaller image or network needs less") -> None:
    """Parses the flags and calls `main`; exits with 0 done, 1 failed, 2 wrong usage. What is compiled is kept for the next time.

    Where `files` are wanted, what is no flag is handed to `main`. `less_memory` is what to do where there is not enough.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # before anything imports jax
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache.bounded("compiled", most=COMPILED))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    keep_freed_memory()
    collect_seldom()
    hush()
    start(main, files=files, less_memory=less_memory)


def start(main: Callable[[Sequence[str]], None], *, files: bool = False, less_memory: str = "") -> None:
    """`run`, with nothing set: jax and the system are as they are."""
    app.run(lambda argv: _in_one_line(main, argv, files, less_memory), flags_parser=lambda argv: _parse(main, argv))


def keep_freed_memory() -> None:
    """On a CPU each step takes its scratch memory from malloc, which would fetch it page by page from the kernel every time."""
    if os.name == "posix" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # glibc's
        trim_threshold, mmap_max, arena_max = -1, -4, -8
        for option, value in ((trim_threshold, -1), (mmap_max, 0), (arena_max, 1)):
            mallopt(option, value)


def collect_seldom() -> None:
    """Tracing a training step makes a million objects, nearly all of which stay: looking for garbage among them takes a quarter of it."""
    gc.set_threshold(100_000)


def hush() -> None:
    """What libraries have to say of a failure reaches the user as one error of ours: without their warnings and tracebacks before it."""
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    logging.getLogger("absl").addFilter(lambda record: "/orbax/" not in record.pathname)  # from its threads


@contextlib.contextmanager
def listing() -> Iterator[None]:
    """Around what prints a list, of which a reader may have had enough before its end, as `head` has: what comes later is still done."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def checkpoint(text: str | None) -> int | Literal["best"] | None:
    """The value of --step. Raises ConfigError."""
    if text is None:
        return None
    if text == "best":
        return "best"
    if not text.isdigit():
        raise ConfigError(f"--step is {text!r}: a number or best")
    return int(text)


def define_config_options() -> None:
    """Lets a command without a config file take --config.SECTION.OPTION=VALUE."""
    for name, default in flatten(Config()).items():
        _DEFINE[type(default)](f"config.{name}", None, "An option of the config.")


def config_options() -> dict[str, Any]:
    """Those given, by their dotted names."""
    found = {name: flags.FLAGS[f"config.{name}"] for name in flatten(Config())}
    return {name: flag.value for name, flag in found.items() if flag.present}


def _in_one_line(main: Callable[[Sequence[str]], None], argv: Sequence[str], files: bool, less_memory: str) -> None:
    crashes.on_abort(f"C++ code gave up, as it does where memory is exhausted: {less_memory}")
    if len(argv) > 1 and not files:
        fail(f"unexpected argument {argv[1]!r}: options are --NAME=VALUE", 2)
    try:
        main(argv)
    except ConfigError as error:
        fail(str(error), 2)
    except KeyboardInterrupt:
        atexit.register(crashes.leave)  # XLA may still be computing, which does not survive the interpreter's end
        fail("interrupted", 1)
    except Exception as error:
        if crashes.out_of_memory(error):
            fail(f"out of memory ({' '.join(str(error).split()) or type(error).__name__:.200}): {less_memory}", 1)
        # Errors of our own say what is wrong by themselves, and so do the operating system's; others are bugs.
        if not (type(error).__module__.startswith("i2i_jax.") or isinstance(error, OSError)):
            raise
        fail(" ".join(str(error).split()), 1)


def _parse(main: Callable[[Sequence[str]], None], argv: list[str]) -> list[str]:
    if {"-h", "-help", "--help"} & set(argv):
        _help(sys.modules[main.__module__])
    sys.argv[1:] = argv[1:] = [_with_current_name(argument) for argument in argv[1:]]  # ml_collections reads the first
    _refuse_unknown_options(argv)
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, OSError) as error:
        own = error.__context__ if isinstance(error.__context__, ConfigError) else error  # absl would name the flag again
        lines = [line for line in str(own).splitlines() if line.strip()]
        # A config file's own error comes as the last line of a traceback, after its class.
        fail(lines[-1].split("ConfigError: ")[-1] if "ConfigError: " in lines[-1] else lines[0], 2)
    except Exception as error:  # the config file is code, which may raise anything
        fail(f"--config: {type(error).__name__}: {' '.join(str(error).split())}", 2)
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = -1  # warnings and worse
    return rest


def _help(module: ModuleType) -> None:
    """Prints what the command is for and its options, and exits."""
    with listing():
        print((module.__doc__ or "").strip(), end="\n\n")
        for flag in flags.FLAGS.get_key_flags_for_module(module):
            default = "" if flag.default in (None, "") else f" (default: {str(flag.default).lower()})"
            print(f"  --{flag.name:<12} {flag.help}{default}")
    sys.exit(0)


def _with_current_name(argument: str) -> str:
    """--config.OPTION=VALUE, by today's name of the option."""
    return re.sub(r"^(--?config\.)([^=]+)", lambda found: found[1] + current_name(found[2]), argument)


def _refuse_unknown_options(argv: Sequence[str]) -> None:
    known = [f"config.{name}" for name in flatten(Config())]
    for argument in argv[1:]:
        name = argument.lstrip("-").split("=")[0]
        if name.startswith("config.") and name not in known:
            fail(f"unknown option --{name}{nearest(name, known)}", 2)
