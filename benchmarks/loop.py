"""What a run's logs, checkpoints, samples and evaluations cost: trainings that differ in one of their intervals, side by side.

    python benchmarks/loop.py [--steps=1000]

Trains configs/bicycle.py on `shapes`. Time is taken from the run's own rows, between step 500 and the last, so that neither start nor
end counts. Each is compared with the training that does nothing but step.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import tables
import timing
from absl import app, flags

from i2i_jax import presets, training
from i2i_jax.config import override

_STEPS = flags.DEFINE_integer("steps", 1000, "Measured steps of each; 1,000 have every interval.", lower_bound=500)

FIRST = 500
NEVER = 10**9
INTERVALS = ("log_every", "checkpoint_every", "sample_every", "eval_every")


def seconds_of(name: str | None, steps: int) -> float:
    """Of the steps after the first 500, where the interval `name` is the config's and the others never end."""
    config = presets.bicycle_family("bicycle_gan", "shapes")
    own = {f"train.{name}": getattr(config.train, name)} if name else {}
    quiet = dict.fromkeys((f"train.{interval}" for interval in INTERVALS), NEVER) | {"train.log_every": FIRST}
    override(config, quiet | own | {"train.steps": FIRST + steps + 1})
    with tempfile.TemporaryDirectory() as workdir:
        training.train(config, workdir)
        rows = [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    at = {row["step"]: row["time"] for row in rows}
    return at[FIRST + steps] - at[FIRST]


def main(argv: list[str]) -> None:
    names = (None, *INTERVALS)
    seconds = {name or "steps alone": timing.alone(partial(seconds_of, name, _STEPS.value)) for name in names}
    bare = seconds["steps alone"]
    rows = [[name, f"{1e3 * x / _STEPS.value:.1f}", f"{x / bare - 1:+.1%}"] for name, x in seconds.items()]
    timing.write("loop", seconds, tables.lines(["interval", "milliseconds a step", "more than steps alone"], rows))


if __name__ == "__main__":
    app.run(main)
