"""Trains every system on `shapes` in float32 and in bfloat16, and checks every logged step for NaN and Inf.

python benchmarks/numerics.py [--steps=2000 --width=8]
"""

import math
import tempfile
from functools import partial
from pathlib import Path

import tables
import timing
from absl import flags

from i2i_jax import presets, training
from i2i_jax.commands import app
from i2i_jax.config import OBJECTIVES, OPTIONS, Config, override
from i2i_jax.storage import metrics_file

_STEPS = flags.DEFINE_integer("steps", 2000, "Training steps of each run.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 8, "Channels of each network's first layer.", lower_bound=1)


def config_of(objective: str, dtype: str, steps: int, width: int) -> Config:
    config = presets.pix2pix("shapes") if objective == "pix2pix" else presets.bicycle_family(objective, "shapes")
    never = dict.fromkeys((f"train.{name}" for name in ("sample_every", "checkpoint_every", "eval_every")), 10**9)
    measured = {"eval.metrics": "l1", "eval.best_metric": "l1", "eval.inputs": 20, "eval.samples": 2}
    chosen = {"model.dtype": dtype, "model.width": width, "train.steps": steps, "train.log_every": 20}
    return override(config, never | measured | chosen)


def outcome(objective: str, dtype: str, steps: int, width: int) -> dict[str, str]:
    """Trains one run and returns its last figures, or what was not finite."""
    with tempfile.TemporaryDirectory() as workdir:
        try:
            training.train(config_of(objective, dtype, steps, width), workdir)
        except training.Diverged as diverged:
            return {"ended": str(diverged)}
        rows = [row for line in (Path(workdir) / "metrics.jsonl").read_bytes().splitlines() if (row := metrics_file.parse_row(line))]
    finite = all(math.isfinite(float(value)) for row in rows for value in row.values())
    return {"ended": f"{rows[-1]['step']} steps, {'all' if finite else 'not all'} finite", "l1": f"{rows[-1]['eval/l1']:.3f}"}


def main(argv: list[str]) -> None:
    systems = [objective for objective in OBJECTIVES if objective != "segmenter"]
    jobs = [(system, dtype, _STEPS.value, _WIDTH.value) for system in systems for dtype in OPTIONS["model.dtype"].choices]
    found = {job[:2]: timing.alone(partial(outcome, *job)) for job in jobs}
    rows = [[system, dtype, end["ended"], end.get("l1", "–")] for (system, dtype), end in found.items()]
    table = tables.lines(["system", "dtype", "ended after", "L1 to the target"], rows)
    timing.write("numerics", {" ".join(key): end for key, end in found.items()}, table)


if __name__ == "__main__":
    app.start(main)
