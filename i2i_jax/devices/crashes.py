"""Failures that come from below Python, in one line: memory that is exhausted, and C++ code that aborts the process."""

import contextlib
import ctypes
import os
import signal
import sys
from typing import NoReturn

EXHAUSTED = ("RESOURCE_EXHAUSTED", "Out of memory", "can't allocate memory", "bad_alloc")

_HANDLERS = []  # which C calls: they must live as long as the process


def out_of_memory(error: BaseException) -> bool:
    """Whether it is what Python, NumPy, XLA (on a host or a device) or PyTorch raise where there is no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in EXHAUSTED)


def on_abort(message: str) -> None:
    """From now on the process ends with this line where C++ code aborts it: XLA's threads do where memory is exhausted."""

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def handler(_: int) -> None:
        last_words(message)

    _HANDLERS.append(handler)
    with contextlib.suppress(OSError, TypeError):  # no C library of this name on Windows
        ctypes.CDLL(None).signal(signal.SIGABRT, handler)


def leave() -> None:
    """Ends the process as failed, whatever threads still do: to be the last thing at the interpreter's end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def last_words(message: str) -> NoReturn:
    """Ends the process from any thread, in any state; other threads, which may be about to speak, are not heard any more."""
    stderr = sys.__stderr__.fileno() if sys.__stderr__ else 2
    heard = os.dup(stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), stderr)
    os.write(heard, f"error: {message}\n".encode())
    os._exit(1)
