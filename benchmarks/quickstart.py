"""The quickstart's claim, measured: modes recovered and valid share of BicycleGAN and of pix2pix+noise at the same budget.

    python benchmarks/quickstart.py [--seeds=0,1,2] [--systems=bicycle_gan,pix2pix_noise] [--workdir=runs/quickstart]

Trains each system and seed by its config on `shapes` (a run that was stopped goes on), then takes 32 samples of each of 100 test
inputs that no training saw. Prints a Markdown table and writes benchmarks/results/quickstart.json.
"""

import json
import os
import platform
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from i2i_jax import build, evaluation, presets, training

_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the runs.")
_SYSTEMS = flags.DEFINE_list("systems", ["bicycle_gan", "pix2pix_noise"], "Systems of the BicycleGAN family.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "Where the runs are kept.")
FIGURES = ("modes", "valid", "total_variation")


def measure(system: str, seed: int, workdir: Path) -> dict[str, float]:
    """Trains one run to its end and measures it on the test split."""
    config = presets.bicycle_family(system, "shapes")
    config.train.seed = seed
    training.train(config, workdir)
    minutes = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["time"] / 60  # over all resumptions
    game, state = build.load(workdir)
    cases = evaluation.cases(
        game.networks, build.mode(config), build.pairs(config, "test"), size=config.data.crop_size, inputs=100, samples=32
    )
    return evaluation.evaluate(cases(state), known_modes=True) | {"minutes": minutes, "steps": config.train.steps}


def main(argv: list[str]) -> None:
    results = {
        system: [measure(system, int(seed), Path(_WORKDIR.value) / f"{system}_{seed}") for seed in _SEEDS.value]
        for system in _SYSTEMS.value
    }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}, jax {jax.__version__}"
    path = Path(__file__).parent / "results" / "quickstart.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "seeds": _SEEDS.value, "results": results}, indent=2) + "\n")
    print(machine, "", "| system | steps | " + " | ".join(FIGURES) + " | minutes |", "|---|---|---|---|---|---|", sep="\n")
    for system, runs in results.items():
        print(f"| {system} | {runs[0]['steps']} | " + " | ".join(_spread(runs, name) for name in (*FIGURES, "minutes")) + " |")


def _spread(runs: list[dict[str, float]], name: str) -> str:
    values = [run[name] for run in runs]
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    app.run(main)
