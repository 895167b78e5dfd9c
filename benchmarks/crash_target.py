"""The training command with an injected fault: python benchmarks/crash_target.py MOMENT COUNT DELAY OPTION ...

It kills itself, as kill -9 does, DELAY seconds after it has reached MOMENT for the COUNT-th time; an empty MOMENT never does. Some
moments are storage faults instead of kills. The dataset is small and the networks are shallow, so that it starts quickly.
"""

import contextlib
import dataclasses
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

START_UP, DELETION = "start-up", "deletion of an old checkpoint"

# The function that marks each moment, and the longest time in seconds that it takes.
MOMENTS = {
    "dataset preparation": ("i2i_jax.data.shapes", "example", 0.05),
    "step": ("i2i_jax.devices.parallel", "global_batch", 0.02),
    "sample writing": ("i2i_jax.evaluation.contact_sheets", "save", 0.05),
    "asynchronous save": ("i2i_jax.storage.checkpoints.Checkpoints", "save", 0.3),
    DELETION: ("os", "unlink", 0.002),
    "evaluation": ("i2i_jax.evaluation.evaluate", "evaluate", 0.05),
    "page writing": ("i2i_jax.training.report", "write_run", 0.01),
    "renaming a finished file": ("os", "replace", 0.001),
}


STORAGE = ("full disk", "read error", "invisible step")  # injected into one of several processes


def kill_after(delay: float) -> None:
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


def fatal(function: Callable, moment: str, count: int, delay: float) -> Callable:
    """The same function, but its `count`-th call starts the timer that kills the process."""
    calls = []

    def call(*arguments: Any, **options: Any) -> Any:
        if moment != DELETION or "dir_fd" in options:  # only the deletion of folders passes dir_fd
            calls.append(None)
        if len(calls) == count:
            kill_after(delay)
        return function(*arguments, **options)

    return call


def failing(kind: str, count: int) -> None:
    """Makes the storage fail in this process: the disk is full from the `count`-th file on, or the newest checkpoint cannot be read or is
    invisible.
    """
    from i2i_jax.storage import checkpoints, files

    calls: list[None] = []
    write, steps, read = files.atomic_write, checkpoints._steps, checkpoints._read

    def full(path: Any, content: bytes) -> None:
        calls.append(None)
        if len(calls) >= count:
            raise OSError(f"{path}: cannot be written (No space left on device)")
        write(path, content)

    def read_newest(directory: Any, step: int, *arguments: Any, **options: Any) -> Any:
        if step == max(steps(directory)) and kind == "read error":
            raise checkpoints.Damaged(f"{directory}: step {step} is damaged (OSError: [Errno 5] Input/output error)")
        if step == max(steps(directory)) and kind == "invisible step":
            raise checkpoints.CheckpointError(f"{directory}: step {step} is not there")
        return read(directory, step, *arguments, **options)

    if kind == "full disk":
        files.atomic_write = full
    elif kind == "read error":
        checkpoints._read = read_newest
    elif kind == "invisible step":
        checkpoints._read, checkpoints._steps = read_newest, lambda directory: steps(directory)[:-1]


def shallow(game: Any) -> Any:
    """The same game for images of 16 pixels."""
    nets = game.networks
    small = nets.clone(generator=nets.generator.clone(depth=3), encoder=nets.encoder.clone(layers=2))
    return dataclasses.replace(game, networks=small)


@contextlib.contextmanager
def small_images() -> Iterator[None]:
    """Within the context a config may use images of 16 pixels."""
    from i2i_jax.config import SIZE_MULTIPLES

    before = dict(SIZE_MULTIPLES)
    SIZE_MULTIPLES["unet_64"] = 8
    try:
        yield
    finally:
        SIZE_MULTIPLES.update(before)


def main() -> None:
    moment, count, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    sys.argv = sys.argv[:1] + sys.argv[4:]
    if moment == START_UP:
        kill_after(delay)
    from i2i_jax import build, main  # noqa: F401
    from i2i_jax.data import shapes
    from i2i_jax.training import loop  # noqa: F401

    game_of = build.game
    build.game = lambda config: shallow(game_of(config))
    shapes.SPLITS = dict.fromkeys(shapes.SPLITS, 12)
    if moment in STORAGE:
        failing(moment, count)
    if moment in MOMENTS:
        place, name, _ = MOMENTS[moment]
        parent, _, last = place.rpartition(".")
        owner = getattr(importlib.import_module(parent), last) if last[0].isupper() else importlib.import_module(place)
        setattr(owner, name, fatal(getattr(owner, name), moment, count, delay))
    with small_images():
        main.cli()


if __name__ == "__main__":
    main()
