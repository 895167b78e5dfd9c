"""The figures of a run while it trains: console lines, metrics.jsonl and TensorBoard."""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, SupportsFloat, runtime_checkable

from tqdm import tqdm

from i2i_jax.pages.formats import hours, short
from i2i_jax.storage.files import writing
from i2i_jax.storage.metrics_file import SPEED, as_json, keep_until
from i2i_jax.training.tensorboard import TensorBoard


@runtime_checkable
class Writer(Protocol):
    """A further destination for the figures of a run, such as TensorBoard or Weights & Biases."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class RunLog(AbstractContextManager["RunLog"]):
    """Writes the figures of a run, at increasing steps, to the console, RUN/metrics.jsonl and RUN/tensorboard.

    A row of metrics.jsonl is {"step", "time", the values, "steps_per_second"}: `time` is the seconds of training over all starts
    of the run; a value that is not finite is a string (see `as_json`). Rows after `start_step`, and a last row torn by a kill, are
    dropped first: an interrupted run ends with the rows of an uninterrupted one, apart from those in `TIMING`.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        total_steps: int,
        start_step: int,
        batch_size: int | None = None,
        also: Sequence[Writer] = (),
    ):
        """Opens the logs.

        Args:
            workdir: the run's folder.
            total_steps: the last step of the run.
            start_step: the step that the run resumes after; 0 for a new run.
            batch_size: pairs per step over all devices; adds images per second to the console line.
            also: further writers that receive every figure.
        """
        self._total_steps, self._batch_size = total_steps, batch_size
        self._path = Path(workdir) / "metrics.jsonl"
        last_row = keep_until(self._path, start_step)
        self._metrics = self._path.open("a", encoding="utf-8")
        self._writers = [TensorBoard(Path(workdir) / "tensorboard", start_step=start_step), *also]
        now = time.perf_counter()
        self._started = now - last_row.get("time", 0.0)
        self._previous, self._warm = (start_step, now), None

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)
            with writing(self._path):
                self._metrics.close()

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Writes the figures after `step` steps; names are PLAYER/TERM, eval/FIGURE, one of SPEED or a plain word. Raises OSError."""
        now = time.perf_counter()
        rate = _rate(self._previous, (step, now))
        terms = {name: float(value) for name, value in values.items()}
        numbers = {"time": round(now - self._started, 3), **terms, "steps_per_second": float(f"{rate:.5g}")}
        row = json.dumps({"step": step} | {name: as_json(value) for name, value in numbers.items()}) + "\n"
        with writing(self._path):
            self._metrics.write(row)
            self._metrics.flush()  # to the operating system, before any checkpoint of this step
        for writer in self._writers:
            writer.write(step, {name: value for name, value in numbers.items() if name != "time"})
        with tqdm.external_write_mode():
            print(self._line(step, terms, rate, _rate(self._warm or self._previous, (step, now))), flush=True)
        self._previous = (step, now)
        self._warm = self._warm or (step, now)  # the first interval is mostly compilation: the time left is estimated without it

    def _line(self, step: int, values: Mapping[str, float], rate: float, mean_rate: float) -> str:
        total = str(self._total_steps)
        images = "" if self._batch_size is None else f" {short(rate * self._batch_size)} images/s"
        left = hours((self._total_steps - step) / mean_rate) if mean_rate else "?"
        speed = f"{short(rate)} steps/s{images}{_of_devices(values)}"
        head = f"{step:{len(total)}}/{total} {100 * step / self._total_steps:5.1f}%  {speed}  {left:>8} left"
        groups: dict[str, list[str]] = {}
        for name, value in ((name, value) for name, value in values.items() if name not in SPEED):
            player, _, term = name.rpartition("/")
            groups.setdefault(player, []).append(f"{term} {short(value)}")
        return " | ".join([head, *(f"{player} {'  '.join(terms)}".lstrip() for player, terms in groups.items())])


def _of_devices(values: Mapping[str, float]) -> str:
    """The share of the time in steps, and the operations of devices whose peak is known, as far as these are in the values."""
    forms = {
        "share_of_peak": "{tflops_per_second:7.4g} TFLOP/s {share_of_peak:4.0%} of peak",
        "share_of_time_in_steps": "{share_of_time_in_steps:4.0%} in steps",
    }
    return "".join(f"  {form.format(**values)}" for name, form in forms.items() if name in values)


def _rate(start: tuple[int, float], end: tuple[int, float]) -> float:
    """Steps per second between two (step, seconds); 0 where no time or no step went by."""
    steps, seconds = end[0] - start[0], end[1] - start[1]
    return steps / seconds if seconds > 0 else 0.0
