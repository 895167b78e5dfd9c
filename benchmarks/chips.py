"""Training steps compiled for TPUs and GPUs that are not there: whether they fit, what they cost, and what bounds them.

    python benchmarks/chips.py --config=bicycle:facades [--chips=v5e:1x1,v5e:2x4,h100:1,h100:8] [--batch=16 --dtype=float32]
    python benchmarks/chips.py --config=bicycle:facades --chips=h100:8 --largest_batch

Needs the extra `aot`: jax's compilers for TPUs (213 MB) and NVIDIA GPUs (428 MB), which need no chip, driver or CUDA. A step of the
facades' size takes a minute to compile for a GPU, and 4 to 30 minutes for a TPU; `--programs=FOLDER` keeps what was compiled.

Nothing is measured. Figures are of one chip and one step, but images/s of all. Memory is the compiler's plan: state, batch and temporaries.
Operations are XLA's count for the program before compilation. HBM traffic is the sum of the operands and results of all instructions of the
compiled program, but for those that a TPU keeps on the chip; padding is what tiles add to it. The shortest time is that of the operations
at the data sheet's peak or of the traffic at its bandwidth, whichever is longer. All-reduces are not part of it: they begin after the given
share of the step's convolutions, and those during some overlap with them. On a GPU kernels are chosen without being tried.
"""

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import batches
import compiled
import jax
import tables
import timing
import topologies
from absl import flags

from i2i_jax import configs
from i2i_jax.commands import app
from i2i_jax.config import Config, batch_multiple
from i2i_jax.devices import crashes, data_sheets, parallel
from i2i_jax.storage import files
from i2i_jax.training import operations

_CONFIG = flags.DEFINE_string("config", "bicycle:facades", "A predefined config or a Python file, and its dataset.")
_CHIPS = flags.DEFINE_list("chips", ["v5e:1x1", "v5e:2x4", "h100:1", "h100:8"], "TPUs in a grid, or a number of GPUs in one machine.")
_BATCH = flags.DEFINE_integer("batch", None, "Pairs on each chip (default: the config's data.batch_size).", lower_bound=1)
_DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Number format of the computation.")
_LARGEST_BATCH = flags.DEFINE_bool("largest_batch", False, "Instead of --batch: powers of two, up to the first that does not fit.")
_PROGRAMS = flags.DEFINE_string("programs", None, "Folder that keeps compiled programs; those in it are not compiled again.")

MEMORY = {
    "arguments": "argument_size_in_bytes",
    "results": "output_size_in_bytes",
    "aliased": "alias_size_in_bytes",
    "temporaries": "temp_size_in_bytes",
    "code": "generated_code_size_in_bytes",
    "peak": "peak_memory_in_bytes",
}

Row = dict[str, Any]


class Compiled(NamedTuple):
    """A program's text, its bytes of memory by use on each device, and the seconds that it took to compile."""

    text: str
    memory: dict[str, int]
    seconds: float


def compile_or_read(chips: str, lowered: Any, folder: str | None) -> Compiled:
    """Compiles a program for chips, or reads it from `folder` if the same compiler has compiled it for them before."""
    versions = [importlib.metadata.version(package) for package in ("jax", topologies.compiler_of(chips))]
    name = hashlib.sha256(json.dumps([chips, lowered.as_text(), *versions]).encode()).hexdigest()[:16]
    kept = Path(folder, f"{name}.json") if folder else None
    if kept and kept.exists():
        return Compiled(**json.loads(kept.read_text()))
    start = time.perf_counter()
    step = lowered.compile()
    seconds = time.perf_counter() - start
    stats = step.memory_analysis()
    found = Compiled(step.as_text(), {use: getattr(stats, field) for use, field in MEMORY.items()}, seconds)
    if kept:
        files.atomic_write(kept, json.dumps(found._asdict()).encode())
    return found


def compiled_step(chips: str, pairs: int) -> Row:
    """The figures of the step with `pairs` pairs on each chip; without those of the program if the compiler runs out of memory."""
    mesh = parallel.make_mesh(topologies.devices(chips))
    device = mesh.devices.flat[0]
    row = {"chips": chips, "pairs": pairs, "fits": False}
    config = config_of(pairs * mesh.size)
    raw = jax.eval_shape(lambda: batches.raw_batch(config, range(config.data.batch_size)))
    try:
        step = compile_or_read(chips, operations.traced(config, mesh, raw).lower(), _PROGRAMS.value)
    except jax.errors.JaxRuntimeError as error:
        if not crashes.out_of_memory(error):
            raise
        return row
    row |= figures_of(step) | {"operations": operations.of_device(config, raw, mesh)}
    share = step.memory["peak"] / data_sheets.MEMORIES[device.device_kind]
    times = {
        "arithmetic": row["operations"] / data_sheets.peak(device, _DTYPE.value),
        "HBM": row["hbm_bytes"] / data_sheets.BANDWIDTHS[device.device_kind],
    }
    bound = max(times, key=times.__getitem__)
    images = pairs * mesh.size / times[bound]
    return row | {"fits": share <= 1, "share_of_memory": share, "seconds": times, "bound": bound, "images_per_second": images}


def figures_of(step: Compiled) -> Row:
    """What the compiler and its program say about a step."""
    program = compiled.parse(step.text)
    traffic, copies = compiled.hbm_traffic(program), compiled.copies(program)
    return {
        "compile_seconds": step.seconds,
        "memory_bytes": step.memory,
        "hbm_bytes": traffic.bytes,
        "padding_bytes": traffic.padding,
        "layout_copies_bytes": [copy.bytes for copy in copies if copy.changes_layout],
        "other_copies_bytes": [copy.bytes for copy in copies if not copy.changes_layout],
        "collectives": [collective._asdict() for collective in compiled.placed_collectives(program)],
        "donated_arrays": compiled.donated(step.text),
    }


def config_of(batch_size: int) -> Config:
    config = configs.read(_CONFIG.value)
    config.data.batch_size, config.model.dtype = batch_size, _DTYPE.value
    return config


def rows() -> Iterator[Row]:
    config = configs.read(_CONFIG.value)
    for chips in _CHIPS.value:
        if not _LARGEST_BATCH.value:
            yield compiled_step(chips, _BATCH.value or config.data.batch_size)
            continue
        pairs, fits = batch_multiple(config), True
        while fits:
            row = compiled_step(chips, pairs)
            pairs, fits = 2 * pairs, row["fits"]
            yield row


HEAD = (
    "chips", "pairs a chip", "memory, GB", "GFLOP", "HBM traffic, GB", "of it padding", "layout copies, MB", "other copies, MB",
    "all-reduces, MB", "begin after convolutions", "during some, MB", "bound by", "at least, ms", "images/s at most",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    if "bound" not in row:
        return [row["chips"], str(row["pairs"]), "does not fit", *["–"] * (len(HEAD) - 3)]
    collectives, copies = row["collectives"], (row["layout_copies_bytes"], row["other_copies_bytes"])
    return [
        row["chips"],
        str(row["pairs"]),
        f"{row['memory_bytes']['peak'] / 1e9:.2f} ({row['share_of_memory']:.0%}{'' if row['fits'] else ': does not fit'})",
        f"{row['operations'] / 1e9:.3g}",
        f"{row['hbm_bytes'] / 1e9:.2f}",
        f"{row['padding_bytes'] / row['hbm_bytes']:.0%}",
        *(f"{len(sizes)}: {sum(sizes) / 1e6:,.0f}" for sizes in copies),
        f"{len(collectives)}: {sum(x['bytes'] for x in collectives) / 1e6:,.0f}" if collectives else "none",
        " to ".join(dict.fromkeys(f"{collectives[i]['start']:.0%}" for i in (0, -1))) if collectives else "–",
        f"{sum(x['bytes'] for x in collectives if x['done'] > x['start']) / 1e6:,.0f}" if collectives else "–",
        row["bound"],
        f"{1e3 * row['seconds'][row['bound']]:.2f}",
        f"{row['images_per_second']:,.0f}",
    ]


def main(argv: list[str]) -> None:
    jax.config.update("jax_platforms", "cpu")  # the plugins find no chips
    found = list(rows())
    title = f"**Compiled, not measured**: a training step of {_CONFIG.value} in {_DTYPE.value}"
    batch = ["largest"] if _LARGEST_BATCH.value else [str(_BATCH.value)] if _BATCH.value else []
    name = "_".join(["chips", *Path(_CONFIG.value).name.split(":"), *batch, _DTYPE.value])
    packages = sorted({topologies.compiler_of(chips) for chips in _CHIPS.value})
    timing.write(name, {"compiled, not measured": found}, f"{title}\n\n{tables.lines(HEAD, [*map(cells, found)])}", *packages)


if __name__ == "__main__":
    app.start(main)
