"""Kills and stops trainings at all moments, lets the same command go on, and compares with a training that nobody disturbed.

    python benchmarks/faults.py [--kills=100 --terms=30 --interrupts=20]

pix2pix with dropout and BicycleGAN, tiny, on one CPU device. A fault is survived if the run that it hit ends with the same
parameters, optimizers, rows of metrics.jsonl and sample grids, bit for bit, and if SIGTERM and Ctrl-C end it with status 0.
"""

import sys
import tempfile
from pathlib import Path

import campaign
import timing
from absl import app, flags

SYSTEMS = ("pix2pix", "bicycle")
STEPS = 60

_KILLS = flags.DEFINE_integer("kills", 100, "Kills, dealt to all moments.", lower_bound=0)
_TERMS = flags.DEFINE_integer("terms", 30, "Stops by SIGTERM.", lower_bound=0)
_INTERRUPTS = flags.DEFINE_integer("interrupts", 20, "Stops by Ctrl-C.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")


def shared(total: int, among: int, number: int) -> int:
    """What one of so many gets of a total."""
    return total // among + (number < total % among)


def main(argv: list[str]) -> None:
    kills = [campaign.victim.START_UP, *campaign.victim.MOMENTS]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, system in enumerate(SYSTEMS):
            counts = {moment: shared(shared(_KILLS.value, len(SYSTEMS), number), len(kills), i) for i, moment in enumerate(kills)}
            counts["SIGTERM"] = shared(_TERMS.value, len(SYSTEMS), number)
            counts["Ctrl-C"] = shared(_INTERRUPTS.value, len(SYSTEMS), number)
            found, complaints = campaign.campaign(system, counts, Path(folder) / system, steps=STEPS, seed=_SEED.value)
            results += found
            print(*complaints, sep="\n", file=sys.stderr, flush=True)
    timing.write("faults", [[*fault, ended.seconds, good] for fault, ended, good in results], campaign.table(results))


if __name__ == "__main__":
    app.run(main)
