"""One-line error messages for failures below Python: exhausted memory, and C++ code that aborts the process."""

import contextlib
import ctypes
import os
import signal
import sys
from typing import NoReturn

EXHAUSTED = ("RESOURCE_EXHAUSTED", "Out of memory", "can't allocate memory", "bad_alloc")

_HANDLERS = []  # called from C: they must live as long as the process


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` is an out-of-memory error of Python, NumPy, XLA (on host or device) or PyTorch."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in EXHAUSTED)


def on_abort(message: str) -> None:
    """Prints `message` and exits with status 1 if C++ code aborts the process from now on, as XLA's threads do when memory runs out."""

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def handler(_: int) -> None:
        exit_with_message(message)

    _HANDLERS.append(handler)
    with contextlib.suppress(OSError, TypeError):  # no C library of this name on Windows
        ctypes.CDLL(None).signal(signal.SIGABRT, handler)


def exit_now() -> None:
    """Exits with status 1 at once, without waiting for threads. Registered last with `atexit`, it runs first, and nothing after it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def exit_with_message(message: str) -> NoReturn:
    """Prints `error: MESSAGE` to stderr and exits with status 1; safe to call from any thread or signal handler.

    stderr is redirected first, so that other threads cannot print after the message.
    """
    stderr = sys.__stderr__.fileno() if sys.__stderr__ else 2
    original = os.dup(stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), stderr)
    os.write(original, f"error: {message}\n".encode())
    os._exit(1)
