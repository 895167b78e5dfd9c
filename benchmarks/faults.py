"""Kills and stops training runs at all stages, resumes them with the same command, and compares with an uninterrupted run.

    python benchmarks/faults.py [--kills=100 --terms=30 --interrupts=20]
    python benchmarks/faults.py --processes=2 [--faults=40]

The runs are tiny pix2pix with dropout and BicycleGAN runs on one CPU device. A run survives a fault if it ends with the same
parameters, optimizer states, rows of metrics.jsonl and sample grids, bit for bit, and if SIGTERM and Ctrl-C end it with status 0.
With two processes, one of them is killed, stopped, gets a storage fault or another config: both must end within a minute, with one line
each. The table is written after every run, so an interrupted benchmark keeps its results.
"""

import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import campaign
import timing
import together
from absl import flags

from i2i_jax.commands import app

SYSTEMS = ("pix2pix", "bicycle")
STEPS = 60

_KILLS = flags.DEFINE_integer("kills", 100, "Kills, spread over all moments.", lower_bound=0)
_TERMS = flags.DEFINE_integer("terms", 30, "Stops by SIGTERM.", lower_bound=0)
_INTERRUPTS = flags.DEFINE_integer("interrupts", 20, "Stops by Ctrl-C.", lower_bound=0)
_PROCESSES = flags.DEFINE_integer("processes", 1, "Processes that train one run together.", lower_bound=1, upper_bound=2)
_FAULTS = flags.DEFINE_integer("faults", 40, "With --processes=2: faults of one of the two.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the moments and delays.")


def shared(total: int, among: int, number: int) -> int:
    """The share of `total` for number `number` of `among`; shares differ by at most one."""
    return total // among + (number < total % among)


def counts(number: int) -> dict[str, int]:
    """How many faults of each kind one system gets."""
    moments = [campaign.crash_target.START_UP, *campaign.crash_target.MOMENTS]
    kills = shared(_KILLS.value, len(SYSTEMS), number)
    stops = {"SIGTERM": _TERMS.value, "Ctrl-C": _INTERRUPTS.value}
    return {moment: shared(kills, len(moments), i) for i, moment in enumerate(moments)} | {
        name: shared(total, len(SYSTEMS), number) for name, total in stops.items()
    }


def of_two_processes() -> None:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for found, complaints in together.run("pix2pix", _FAULTS.value, Path(folder), steps=STEPS, seed=_SEED.value):
            results.extend(found)
            print(*complaints, sep="\n", end="", file=sys.stderr, flush=True)
            written = [[*fault, ended.seconds, good] for fault, ended, good in results]
            timing.write("faults_of_two_processes", written, together.table(results))
    if not all(good for *_, good in results):
        sys.exit("some faults were not survived")


def main(argv: list[str]) -> None:
    if _PROCESSES.value == 2:
        of_two_processes()
        return
    results, one_at_a_time = [], threading.Lock()

    def run_system(number: int) -> None:
        system = SYSTEMS[number]
        runs = campaign.campaign(system, counts(number), Path(folder) / system, steps=STEPS, seed=_SEED.value + number)
        for found, complaints in runs:
            with one_at_a_time:
                results.extend(found)
                print(*complaints, sep="\n", end="", file=sys.stderr, flush=True)
                written = [[*fault, ended.seconds, good] for fault, ended, good in results]
                timing.write("faults", written, campaign.table(results))

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        list(pool.map(run_system, range(len(SYSTEMS))))
    if not all(good for *_, good in results):
        sys.exit("some faults were not survived")


if __name__ == "__main__":
    app.start(main)
