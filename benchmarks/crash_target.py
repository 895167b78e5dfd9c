"""The training command, to be killed: python benchmarks/crash_target.py MOMENT COUNT DELAY OPTION ...

It kills itself, as kill -9 does, DELAY seconds after it has come to the MOMENT for the COUNT-th time; at no MOMENT never. Some
moments are no kill, but a fault of the storage.
Its data set is small and its networks are shallow, so that it starts soon.
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

# Where each moment is, and for how many seconds it lasts at most.
MOMENTS = {
    "dataset preparation": ("i2i_jax.data.shapes", "example", 0.05),
    "step": ("i2i_jax.devices.parallel", "global_batch", 0.02),
    "sample writing": ("i2i_jax.evaluation.contact_sheets", "save", 0.05),
    "asynchronous save": ("i2i_jax.storage.checkpoints.Checkpoints", "save", 0.3),
    DELETION: ("os", "unlink", 0.002),
    "evaluation": ("i2i_jax.evaluation.evaluate", "evaluate", 0.05),
    "page writing": ("i2i_jax.pages.run", "write_run", 0.01),
    "a file taking its place": ("os", "replace", 0.001),
}


STORAGE = ("full disk", "read error", "invisible step")  # faults that one of several processes suffers


def doom(delay: float) -> None:
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


def doomed(function: Callable, moment: str, count: int, delay: float) -> Callable:
    """The same function, of which one call is the last."""
    calls = []

    def call(*arguments: Any, **options: Any) -> Any:
        if moment != DELETION or "dir_fd" in options:  # which only the removal of folders gives
            calls.append(None)
        if len(calls) == count:
            doom(delay)
        return function(*arguments, **options)

    return call


def failing(kind: str, count: int) -> None:
    """From now on this process alone suffers a fault of its storage: the disk is full at the `count`-th file, or the newest checkpoint
    cannot be read, or is not seen.
    """
    from i2i_jax.storage import checkpoints, files

    calls: list[None] = []
    write, steps, read = files.atomic_write, checkpoints._steps, checkpoints._read

    def full(path: Any, content: bytes) -> None:
        calls.append(None)
        if len(calls) >= count:
            raise OSError(f"{path}: cannot be written (No space left on device)")
        write(path, content)

    def read_newest(directory: Any, step: int, *of: Any, **more: Any) -> Any:
        if step == max(steps(directory)) and kind == "read error":
            raise checkpoints.Damaged(f"{directory}: step {step} is damaged (OSError: [Errno 5] Input/output error)")
        if step == max(steps(directory)) and kind == "invisible step":
            raise checkpoints.CheckpointError(f"{directory}: step {step} is not there")
        return read(directory, step, *of, **more)

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
    """Inside, a config may have images of 16 pixels."""
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
        doom(delay)
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
        setattr(owner, name, doomed(getattr(owner, name), moment, count, delay))
    with small_images():
        main.cli()


if __name__ == "__main__":
    main()
