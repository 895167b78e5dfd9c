"""Training steps of the reference configs on the available devices: compile time, step time, FLOPs and memory.

    python benchmarks/step.py [--steps=quickstart,pix2pix_256_1,bicycle_256_2] [--dtype=bfloat16 --rounds=10]

A step is a complete training step: crop, flip and scale on the device, both players, Adam. FLOPs are XLA's count for the program before
compilation, for one device. The peak is that of the accelerator's data sheet; on a CPU it is a large matrix product timed in the same run.
Memory is the compiler's plan: state, batch and temporaries.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import batches
import jax
import jax.numpy as jnp
import lists
import tables
import timing
from absl import flags
from compiled import collectives

from i2i_jax import build, presets
from i2i_jax.commands import app
from i2i_jax.commands.app import collect_seldom
from i2i_jax.config import Config
from i2i_jax.devices import data_sheets, parallel
from i2i_jax.training import operations
from i2i_jax.training.pieces import training_step

Preset = Callable[[str], Config]
bicycle = partial(presets.bicycle_family, "bicycle_gan")


class Reference(NamedTuple):
    """A step to measure: `size` in pixels, `batch` in pairs over all devices."""

    preset: Preset
    dataset: str
    size: int
    batch: int


STEPS = {
    "quickstart": Reference(bicycle, "shapes", 64, 4),
    "pix2pix_256_1": Reference(presets.pix2pix, "facades", 256, 1),
    "pix2pix_256_16": Reference(presets.pix2pix, "facades", 256, 16),
    "bicycle_256_2": Reference(bicycle, "facades", 256, 2),
    "bicycle_256_16": Reference(bicycle, "facades", 256, 16),
    "bicycle_256_64": Reference(bicycle, "facades", 256, 64),
    "bicycle_512_2": Reference(bicycle, "facades", 512, 2),
    "bicycle_1024_2": Reference(bicycle, "facades", 1024, 2),
}
ON_CPU = ("quickstart", "pix2pix_256_1", "bicycle_256_2")  # the others take minutes there

ROUND_SECONDS = 0.5

_STEPS = flags.DEFINE_list("steps", None, f"Steps to measure (default: all; on a CPU {', '.join(ON_CPU)}).")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Number format of the computation.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Timings of each step; each runs as many steps as fit in half a second.", lower_bound=2)
_WIDTH = flags.DEFINE_integer("width", None, "Channels of each network's first layer (default: the config's).", lower_bound=1)
_REMATERIALIZE = flags.DEFINE_bool("rematerialize", False, "Set config.train.rematerialize.")


def config_of(reference: Reference) -> Config:
    config = reference.preset(reference.dataset)
    config.data.load_size = config.data.crop_size = reference.size
    config.data.batch_size, config.model.dtype = reference.batch, _DTYPE.value
    config.model.width = _WIDTH.value or config.model.width
    config.train.rematerialize = _REMATERIALIZE.value
    return config


def measure(reference: Reference, peak: float) -> dict[str, Any]:
    config, mesh, key = config_of(reference), parallel.make_mesh(), jax.random.key(0)
    game = build.game(config)
    state = parallel.jit_replicated(partial(game.init, batch=build.example_batch(config)), key, mesh=mesh)
    batch = parallel.global_batch(batches.raw_batch(config, range(config.data.batch_size)), mesh)
    start = time.perf_counter()
    lowered = training_step(config, build.game(config), mesh).lower(state, batch, key)
    traced = time.perf_counter()
    step = lowered.compile()
    compiled = time.perf_counter()

    def run(steps: int = 1) -> None:
        nonlocal state
        for _ in range(steps):
            state, losses = step(state, batch, key)
        jax.block_until_ready((state, losses))

    run()
    in_a_row = max(1, round(ROUND_SECONDS / timing.seconds(run)))  # as in training, which waits only for logged steps
    seconds = [timing.seconds(partial(run, in_a_row)) / in_a_row for _ in range(_ROUNDS.value)]
    memory, count = step.memory_analysis(), operations.of_device(config, batch, mesh)
    rate = count / statistics.median(seconds)
    return {
        "trace_seconds": traced - start,
        "compile_seconds": compiled - traced,
        "step_seconds": timing.spread(seconds),
        "images_per_second": reference.batch / statistics.median(seconds),
        "operations": count,
        "operations_per_second": rate,
        "share_of_peak": rate / peak,
        "all_reduced_bytes": sum(size for _, size in collectives(step.as_text())),
        "memory_bytes": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
    }


def peak_rate() -> float:
    """Peak operations per second of one device."""
    return data_sheets.peak(jax.devices()[0], _DTYPE.value) or _matrix_product_rate()


def _matrix_product_rate(side: int = 4096) -> float:
    matrix = jnp.ones((side, side), _DTYPE.value)
    product = jax.jit(jnp.dot)
    run = lambda: jax.block_until_ready(product(matrix, matrix))  # noqa: E731
    run()
    return 2 * side**3 / min(timing.seconds(run) for _ in range(5))


def main(argv: list[str]) -> None:
    collect_seldom()  # as every command does
    on_cpu = jax.default_backend() == "cpu"
    names = lists.names(_STEPS, STEPS) if _STEPS.value or not on_cpu else ON_CPU
    peak = peak_rate()
    results = {name: measure(STEPS[name], peak) for name in names}
    head = [
        "step",
        "trace + compile, s",
        "milliseconds",
        "images/s",
        "GFLOP",
        f"share of {peak / 1e9:,.0f} GFLOP/s",
        "memory, GB",
        "all-reduced, MB",
    ]
    rows = [
        [
            name,
            f"{result['trace_seconds']:.1f} + {result['compile_seconds']:.1f}",
            timing.shown(result["step_seconds"], unit=1e-3),
            f"{result['images_per_second']:.3g}",
            f"{result['operations'] / 1e9:.3g}",
            f"{result['share_of_peak']:.0%}",
            f"{result['memory_bytes'] / 1e9:.2f}",
            f"{result['all_reduced_bytes'] / 1e6:.3g}",
        ]
        for name, result in results.items()
    ]
    timing.write(f"step_{jax.default_backend()}_{_DTYPE.value}", results, tables.lines(head, rows))


if __name__ == "__main__":
    app.start(main)
