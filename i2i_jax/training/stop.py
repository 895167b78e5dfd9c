"""SIGTERM and Ctrl-C: the run saves after the current step and ends."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax

from i2i_jax.config import Config
from i2i_jax.devices import processes
from i2i_jax.training.report import is_due

ACKNOWLEDGED = b"\nstopping after this step (or its evaluation) and saving; Ctrl-C again ends at once and saves nothing\n"


class Stopped(Exception):
    """Training was asked to stop before its last step; everything is saved."""


@contextlib.contextmanager
def listening(config: Config) -> Iterator[Callable[[int], bool]]:
    """Yields a function of the step: whether to stop after it, since SIGTERM or Ctrl-C came. A second signal acts as usual.

    Several processes stop together, whichever received the signal, at the next step at which they report or save: they synchronise
    there anyway.
    """
    received: list[int] = []

    def remember(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, previous[number])
        if number == signal.SIGINT:
            os.write(2, ACKNOWLEDGED)  # a print may be under way

    def should_stop(step: int) -> bool:
        if jax.process_count() == 1:
            return bool(received)
        meets = is_due(config, step, "log_every", "sample_every", "checkpoint_every", "eval_every")
        return meets and processes.any_process(bool(received))

    previous: dict[int, Any] = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield should_stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
