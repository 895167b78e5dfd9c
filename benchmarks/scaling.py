"""How communication and FLOPs grow with the number of devices, read from compiled training steps; and how long a run takes to start.

    python benchmarks/scaling.py [--parts=program,clock,start] [--systems=bicycle,pix2pix] [--dataset=shapes] [--devices=1,2,4,8]

`program`: FLOPs and collectives of the step on virtual CPU devices, with equally many pairs on each; `--dataset=facades` compiles the
full size. `clock`: the time of such steps in one process and in two. Virtual devices share this machine's cores, so this measures the
overhead of many devices and says nothing about accelerators: for those, use `program`. `start`: the time until the first step of a new
run and of a resumed one. Prints tables and writes benchmarks/results/scaling_DATASET.json and .md.
"""

import json
import os
import re
import runpy
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lists
import tables
import timing
from absl import flags
from compiled import collectives

from i2i_jax import config as configs
from i2i_jax.commands import app

_PARTS = flags.DEFINE_list("parts", None, "Parts to measure: program, clock, start (default: all).")
_SYSTEMS = flags.DEFINE_list("systems", ["bicycle", "pix2pix"], "Names of files in configs/.")
_DATASET = flags.DEFINE_string("dataset", "shapes", "Dataset whose sizes are used: shapes is the quickstart's, facades the papers'.")
_DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "8"], "Numbers of devices for `program`, at most 8.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Timed steps.", lower_bound=1)
_WORKER = flags.DEFINE_list("worker", None, "Internal: SYSTEM,DEVICES,PROCESSES,PROCESS,PORT.")

ROOT = Path(__file__).parents[1]
PAIRS = 2  # on each device
LAYOUTS = [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 2), (8, 2)]  # (devices, processes)
STARTS = [("empty cache, s", "run"), ("another run, s", "another"), ("resumed run, s", "run")]  # (column, folder)

Row = dict[str, Any]


def config_of(system: str, devices: int) -> configs.Config:
    config = runpy.run_path(str(ROOT / "configs" / f"{system}.py"))["get_config"](_DATASET.value)
    config.data.batch_size = PAIRS * devices
    return config


def lowered(config: configs.Config, devices: int) -> Any:
    """The training step on the first `devices` devices, lowered but not run."""
    import batches
    import jax

    from i2i_jax import build
    from i2i_jax.devices import parallel
    from i2i_jax.training.pieces import training_step

    mesh, game = parallel.make_mesh(jax.devices()[:devices]), build.game(config)
    state = jax.eval_shape(game.init, jax.random.key(0), build.example_batch(config))
    raw = batches.raw_batch(config, range(config.data.batch_size))
    return training_step(config, build.game(config), mesh).lower(state, raw, jax.random.key(0))


def state_bytes(config: configs.Config) -> int:
    import jax

    from i2i_jax import build

    state = jax.eval_shape(build.game(config).init, jax.random.key(0), build.example_batch(config))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def program() -> Iterator[Row]:
    for system in _SYSTEMS.value:
        for devices in lists.whole_numbers(_DEVICES, 1, 8):
            config = config_of(system, devices)
            step = lowered(config, devices)
            found = collectives(step.compile().as_text())
            yield {
                "system": system,
                "devices": devices,
                "GFLOP per device": step.cost_analysis()["flops"] / 1e9,
                "collectives": ", ".join(kind for kind, _ in found) or "none",
                "MB all-reduced per device": sum(size for _, size in found) / 1e6,
                "MB of state": state_bytes(config) / 1e6,
            }


def clock() -> Iterator[Row]:
    """Times each layout in its own processes, so that layouts do not disturb each other."""
    for system in _SYSTEMS.value:
        alone = None
        for devices, processes in LAYOUTS:
            seconds = _step_seconds(system, devices, processes)
            alone = alone or seconds
            times = {"s per step": seconds, "relative to one device": seconds / alone}
            yield {"system": system, "devices": devices, "processes": processes, **times}


def _step_seconds(system: str, devices: int, processes: int) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices // processes}"}
    common = [sys.executable, __file__, f"--dataset={_DATASET.value}", f"--rounds={_ROUNDS.value}"]
    started = [
        subprocess.Popen(
            [*common, f"--worker={system},{devices},{processes},{number},{port}"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for number in range(processes)
    ]
    first, *_ = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"{system} on {devices} devices in {processes} processes failed: see its error above")
    return json.loads(first.splitlines()[-1])


def worker(system: str, devices: int, processes: int, number: int, port: int) -> None:
    """Prints the median seconds of a step."""
    from i2i_jax.devices.processes import say, together

    explicit = (f"127.0.0.1:{port}", processes, number) if processes > 1 else ()
    with together(*explicit, distributed=False):
        say(json.dumps(statistics.median(_timed_steps(config_of(system, devices)))))


def _timed_steps(config: configs.Config) -> list[float]:
    import batches
    import jax

    from i2i_jax import build
    from i2i_jax.devices import parallel
    from i2i_jax.training.pieces import training_step

    mesh, game = parallel.make_mesh(), build.game(config)
    batch = parallel.global_batch(batches.raw_batch(config, parallel.local_rows(config.data.batch_size, mesh)), mesh)
    key, step = jax.random.key(0), training_step(config, build.game(config), mesh)
    state = parallel.jit_replicated(partial(game.init, batch=build.example_batch(config)), key, mesh=mesh)

    def run() -> None:
        nonlocal state
        state, losses = step(state, batch, key)
        jax.block_until_ready((state, losses))

    run()
    return [timing.seconds(run) for _ in range(_ROUNDS.value)]


def start() -> Iterator[Row]:
    for system in _SYSTEMS.value:
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled", "XLA_FLAGS": ""}
            starts = {name: _until_a_step(system, f"{folder}/{run}", environment) for name, run in STARTS}
            yield {"system": system, **starts, "of which reading weights, s": timing.seconds(lambda folder=folder: _load(f"{folder}/run"))}


def _until_a_step(system: str, workdir: str, environment: dict[str, str]) -> float:
    """Seconds until a run has logged its first step; it is then stopped, and saves a checkpoint."""
    options = ["--config.train.log_every=1", "--config.eval.metrics=l1", "--config.eval.best_metric=l1"]
    command = [sys.executable, "-m", "i2i_jax.main", f"--config={ROOT}/configs/{system}.py", f"--workdir={workdir}", *options]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout or ():
            if re.match(r" *\d+/", line):
                elapsed = time.perf_counter() - begun
                process.terminate()
                process.communicate()  # wait for the checkpoint
                return elapsed
    sys.exit(f"{system} failed: see its error above")


def _load(run: str) -> None:
    import jax

    from i2i_jax import build

    jax.block_until_ready(build.load(run)[1])


PARTS: dict[str, Callable[[], Iterable[Row]]] = {"program": program, "clock": clock, "start": start}


def main(_: list[str]) -> None:
    if _WORKER.value:
        system, *numbers = _WORKER.value
        return worker(system, *map(int, numbers))
    measured = {part: list(PARTS[part]()) for part in lists.names(_PARTS, PARTS)}
    table = "\n\n".join(f"### {part}\n\n{markdown(rows)}" for part, rows in measured.items())
    timing.write(f"scaling_{_DATASET.value}", {"pairs on each device": PAIRS, **measured}, table)


def markdown(rows: list[Row]) -> str:
    """A Markdown table of rows with equal keys; floats with three significant digits."""
    return tables.lines([*rows[0]], [[f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()] for row in rows])


if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    app.start(main)
