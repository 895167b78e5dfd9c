"""Runs that are killed or stopped at all stages and resumed by the same command, compared with an uninterrupted run."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import crash_target
import jax
import numpy as np
import tables

from i2i_jax import build
from i2i_jax.storage import checkpoints, metrics_file

ROOT = Path(__file__).parents[1]
OPTIONS = {
    "model.width": 2, "model.generator": "unet_64", "model.encoder": "conv_64", "model.discriminator_layers": 1,
    "model.discriminator_scales": 2, "data.load_size": 18, "data.crop_size": 16, "data.batch_size": 2,
    "train.log_every": 1, "train.sample_every": 4,
    "train.checkpoint_every": 3, "train.eval_every": 6, "train.keep": 2, "train.samples": 2, "eval.inputs": 2, "eval.samples": 2,
    "eval.metrics": "l1,psnr", "eval.best_metric": "psnr",
}  # fmt: skip
FIRST = "dataset preparation"
SIGNALS = {"SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}


class Fault(NamedTuple):
    """A kill after `delay` seconds from the `count`-th time at `moment`; a signal is sent after step `count`."""

    moment: str
    count: int
    delay: float


class Ended(NamedTuple):
    """How a process ended. `hit`: the fault came before the end. `good`: the process ended as it should."""

    hit: bool
    good: bool
    finished: bool
    seconds: float
    output: str


Result = tuple[Fault, Ended, bool]  # the last: whether the run survived it


class Place(NamedTuple):
    """Config and folder of a run, and the compilation cache that all runs share."""

    system: str
    steps: int
    folder: Path
    compiled: Path

    def start(self, fault: Fault | None, *more: str, stderr: int | None = subprocess.STDOUT) -> subprocess.Popen[str]:
        """Starts the training command with `more` options; the process injects the fault itself unless it is a signal from outside."""
        internal = fault and fault.moment in (crash_target.START_UP, *crash_target.MOMENTS, *crash_target.STORAGE)
        injected = [fault.moment, str(fault.count), str(fault.delay)] if fault and internal else ["", "0", "0"]
        options = [
            f"--config.{name}={value}"
            for name, value in (OPTIONS | {"train.steps": self.steps, "data.prepared_dir": self.folder / "data"}).items()
        ]
        command = [sys.executable, str(ROOT / "benchmarks" / "crash_target.py"), *injected, f"--config={ROOT / 'configs' / self.system}.py"]
        environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(self.compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        command.append(f"--workdir={self.folder / 'run'}")
        return subprocess.Popen([*command, *options, *more], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)

    def run(self, fault: Fault | None) -> Ended:
        """Runs the command once, until it finishes or the fault ends it."""
        process = self.start(fault)
        begun, head = time.perf_counter(), ""
        if fault and fault.moment in SIGNALS:
            head = _until_step(process, fault.count)
            time.sleep(fault.delay)
            begun = time.perf_counter()
            process.send_signal(SIGNALS[fault.moment])
        out, _ = process.communicate()
        return _ended(process.returncode, head + out, fault, time.perf_counter() - begun)


def _until_step(process: subprocess.Popen[str], count: int) -> str:
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if sum(bool(re.match(r" *\d+/", line)) for line in lines) == count:
            break
    return "".join(lines)


def _ended(code: int, output: str, fault: Fault | None, seconds: float) -> Ended:
    finished = bool(re.search("^(done: open|nothing to do)", output, re.MULTILINE))
    stopped = bool(re.search("^stopped after step", output, re.MULTILINE))
    if fault and fault.moment in SIGNALS:
        return Ended(stopped, code == 0 and (finished or stopped), finished and not stopped, seconds, output)
    killed = code == -signal.SIGKILL
    return Ended(killed, killed or (code == 0 and finished), finished and not killed, seconds, output)


def record(place: Place) -> dict[str, Any]:
    """Everything that a finished run writes and that must be equal in every other run."""
    run = place.folder / "run"
    with crash_target.small_images():
        config = build.read_config(run)
        game = crash_target.shallow(build.game(config))
    template = jax.eval_shape(game.init, jax.random.key(0), build.example_batch(config))
    state = checkpoints.restore_for_inference(run / "checkpoints", template)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "parameters and optimizers": [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)],
        "rows": [{name: value for name, value in row.items() if name not in metrics_file.TIMING} for row in rows],
        "steps": [row["step"] for row in rows] == list(range(1, place.steps + 1)) and int(state.step) == place.steps,
        "grids": {path.name: path.read_bytes() for path in (run / "samples").iterdir()},
    }


def run_with_faults(place: Place, faults: list[Fault], expected: dict[str, Any]) -> tuple[list[tuple[Fault, Ended]], list[str]]:
    """One run with faults, from the last in the list on, until it finishes: the faults that hit, and how it differs from `expected`."""
    hit, wrong = [], []
    while faults:
        fault = faults.pop()
        ended = place.run(fault)
        if ended.hit:
            hit.append((fault, ended))
        else:
            faults.insert(0, fault._replace(count=max(1, fault.count // 2)))  # it came too late: try it earlier in another run
        if not ended.good:
            wrong.append(f"{fault}: {ended.output[-2000:]}")
        if ended.finished:
            break
    last = place.run(None)
    if not last.finished:
        return hit, [*wrong, last.output[-2000:]]
    found = record(place)
    return hit, wrong + [f"{name} differ" for name in expected if found[name] != expected[name]]


def draw_faults(counts: dict[str, int], seconds_to_start: float, rng: random.Random) -> list[Fault]:
    """`counts[moment]` faults of each moment, with random counts and delays, in random order."""
    moments = [moment for moment, count in counts.items() for _ in range(count)]
    rng.shuffle(moments)
    occurrences = {crash_target.DELETION: 40, FIRST: 36, "renaming a finished file": 20, "step": 12}
    durations = {crash_target.START_UP: seconds_to_start} | {moment: longest for moment, (_, _, longest) in crash_target.MOMENTS.items()}
    return [Fault(m, rng.randint(1, occurrences.get(m, 3)), rng.uniform(0, durations.get(m, 0.1))) for m in moments]


def campaign(system: str, counts: dict[str, int], folder: Path, *, steps: int, seed: int) -> Iterator[tuple[list[Result], list[str]]]:
    """Yields for each run of the system the faults that hit, with how they ended and whether it survived them, and what went wrong."""
    places = (Place(system, steps, folder / str(number), folder / "compiled") for number in itertools.count())
    undisturbed = next(places)
    assert undisturbed.run(None).finished, "the undisturbed run"
    expected = record(undisturbed)
    assert expected["steps"], "the undisturbed run's rows"
    begun = time.perf_counter()
    next(places).run(Fault("SIGTERM", 1, 0))
    drawn = draw_faults(counts, time.perf_counter() - begun, random.Random(seed))
    first, others = ([fault for fault in drawn if (fault.moment == FIRST) == at_first] for at_first in (True, False))
    while first or others:
        others += first[:1]  # the dataset is prepared only at the beginning of a run
        first = first[1:]
        hit, wrong = run_with_faults(next(places), others, expected)
        yield [(fault, ended, not wrong) for fault, ended in hit], wrong


def table(results: Sequence[Result]) -> str:
    names = {moment: f"kill -9: {moment}" for moment in (crash_target.START_UP, *crash_target.MOMENTS)} | {name: name for name in SIGNALS}
    by_name = {name: [good for fault, _, good in results if fault.moment == moment] for moment, name in names.items()}
    by_name["all"] = [good for _, _, good in results]
    rows = [[name, str(len(good)), str(sum(good)), str(good.count(False))] for name, good in by_name.items()]
    slowest = {name: max((ended.seconds for fault, ended, _ in results if fault.moment == name), default=0.0) for name in SIGNALS}
    ends = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest.items())
    return tables.lines(["fault", "tried", "survived", "lost"], rows) + f"\n\nLongest time from the signal to the process's end: {ends}."
