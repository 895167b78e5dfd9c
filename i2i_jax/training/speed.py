"""How fast the devices take a run's steps: a thread waits for each of them, so that training need not."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from i2i_jax.config import Config
from i2i_jax.data.loader import RawBatch
from i2i_jax.devices import data_sheets
from i2i_jax.objectives import Losses
from i2i_jax.train_state import TrainState
from i2i_jax.training import operations

PATIENCE = 5.0  # seconds to wait for the step under way if training ends with an error


class Speed(contextlib.AbstractContextManager):
    """A training step that is timed. Like the step itself, a call returns once the devices have their work.

    Devices compute one step after another: a step takes from its call, or from the end of the one before, to the arrival of its losses.
    """

    def __init__(self, step_fn: Callable[..., tuple[TrainState, Losses]], config: Config, mesh: Mesh):
        """Times `step_fn`, the training step of the config, mapped over the mesh."""
        self._step_fn, self._config, self._mesh = step_fn, config, mesh
        self._peak = data_sheets.peak(mesh.devices.flat[0], config.model.dtype)
        self._operations, self._compiled, self._failed = None, False, False
        self._began, self._steps, self._seconds = time.perf_counter(), 0, 0.0
        self._under_way: queue.Queue[tuple[float, Losses] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __call__(self, state: TrainState, batch: RawBatch, key: jax.Array) -> tuple[TrainState, Losses]:
        if not self._compiled:
            self._operations = operations.of_compiled(self._step_fn, self._config, self._mesh, state, batch, key)
            self._compiled = True
        called = time.perf_counter()
        state, losses = self._step_fn(state, batch, key)
        self._under_way.put((called, losses))
        return state, losses

    def _watch(self) -> None:
        """Counts the steps that end, and adds up their seconds."""
        ended = 0.0
        while step := self._under_way.get():
            if not self._failed:
                with contextlib.suppress(Exception):  # the loop raises it when it asks for the losses
                    jax.block_until_ready(step[1])
            called, ended = max(step[0], ended), time.perf_counter()
            self._steps, self._seconds = self._steps + 1, self._seconds + ended - called
            self._under_way.task_done()

    def figures(self) -> dict[str, float]:
        """What is known of the steps since the last call, by the names of `metrics_file.SPEED`. Waits for the steps under way."""
        self._under_way.join()
        now = time.perf_counter()
        rates = _rates(self._steps * (self._operations or 0), self._seconds, now - self._began, self._peak)
        self._began, self._steps, self._seconds = now, 0, 0.0
        known = rates | _memory(self._mesh.local_devices)
        return {name: float(f"{value:.4g}") for name, value in known.items()}

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._failed = error is not None
        self._under_way.put(None)
        self._thread.join(PATIENCE if error else None)


def _rates(done: float, seconds: float, whole: float, peak: float | None) -> dict[str, float]:
    """Rates of the operations `done` by a device in `seconds` of steps, out of `whole` seconds."""
    if not seconds:
        return {}
    rate = done / seconds
    rates = {"share_of_time_in_steps": seconds / whole} | ({"tflops_per_second": rate / 1e12} if rate else {})
    return rates | ({"share_of_peak": rate / peak} if rate and peak else {})


def _memory(devices: Sequence[Any]) -> dict[str, float]:
    """Gigabytes in use, and at most in use since the process began, on the device that needs most; CPUs do not tell."""
    stats = [found for device in devices if (found := device.memory_stats())]
    names = {"device_memory_gb": "bytes_in_use", "device_memory_peak_gb": "peak_bytes_in_use"}
    used = {name: [found[key] for found in stats if key in found] for name, key in names.items()}
    return {name: max(values) / 1e9 for name, values in used.items() if values}
