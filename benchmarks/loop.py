"""The cost of a run's logs, checkpoints, samples and evaluations.

    python benchmarks/loop.py [--steps=1500]

Trains configs/bicycle.py on `shapes` once, with intervals that rarely coincide. Training is blocked from the arrival of a logged step's
losses until the next step is called. Background writes also slow the steps that follow: their time is compared with that of as many
steps after a plain log. Shares are for the config's own intervals. The first event of each kind compiles and is not counted.
"""

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import tables
import timing
from absl import flags

from i2i_jax import presets, training
from i2i_jax.commands import app
from i2i_jax.config import Config, override
from i2i_jax.objectives import Losses
from i2i_jax.train_state import TrainState
from i2i_jax.training import loop, report, speed

_STEPS = flags.DEFINE_integer("steps", 1500, "Training steps.", lower_bound=500)

OWN = {"log_every": 30, "checkpoint_every": 120, "sample_every": 150, "eval_every": 210}  # all but the first also log


class Event(NamedTuple):
    """A logged step: the intervals that ended there, and times in seconds."""

    names: tuple[str, ...]
    held_up: float
    until_next: float  # from its end to the arrival of the next event's losses


def events(config: Config) -> list[Event]:
    """The logged steps of one training run, but the last."""
    arrived, called, call, terms = [], [], speed.Speed.__call__, report.terms

    def timed_call(*arguments) -> tuple[TrainState, Losses]:
        called.append(time.perf_counter())
        return call(*arguments)

    def timed_terms(losses: object) -> dict[str, float]:
        values = terms(losses)
        arrived.append((len(called), time.perf_counter()))
        return values

    with (
        tempfile.TemporaryDirectory() as workdir,
        mock.patch.object(speed.Speed, "__call__", timed_call),
        mock.patch.object(loop, "terms", timed_terms),
    ):
        training.train(config, Path(workdir))
    names = {step: tuple(name for name, every in OWN.items() if step % every == 0) for step, _ in arrived}
    return [Event(names[step], called[step] - arrival, after - called[step]) for (step, arrival), (_, after) in itertools.pairwise(arrived)]


def main(argv: list[str]) -> None:
    config = presets.bicycle_family("bicycle_gan", "shapes")
    intervals = {name: getattr(config.train, name) for name in OWN}
    logged = events(override(config, {f"train.{name}": every for name, every in OWN.items()} | {"train.steps": _STEPS.value}))
    logs = [event for event in logged if event.names == ("log_every",)][1:]
    bare = statistics.median(event.until_next for event in logs)
    results = {}
    for name, every in intervals.items():
        own = [event for event in logged if set(event.names) == {"log_every", name}][1:]
        held_up, slower = [event.held_up for event in own], [event.until_next - bare for event in own]
        lost = statistics.median(map(sum, zip(held_up, slower, strict=True)))
        share = lost / (every * bare / OWN["log_every"])
        results[name] = {"held_up": timing.spread(held_up), "slower": timing.spread(slower), "every": every, "share": share}
    rows = [
        [name, cost["every"], timing.shown(cost["held_up"], unit=1e-3), timing.shown(cost["slower"], unit=1e-3), f"{cost['share']:.1%}"]
        for name, cost in results.items()
    ]
    step_ms = 1e3 * bare / OWN["log_every"]
    head = ["option", "every N steps", "blocks training, ms", "slows the next steps by, ms", f"share of steps of {step_ms:.1f} ms"]
    timing.write("loop", {"step_seconds": bare / OWN["log_every"], **results}, tables.lines(head, rows))


if __name__ == "__main__":
    app.start(main)
