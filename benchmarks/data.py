"""Pairs per second from disk to device, stage by stage, and the share of training time spent waiting for data.

    python benchmarks/data.py [--data=DIR] [--threads=1,2,4] [--config=FILE --config.SECTION.OPTION=VALUE ...]

Measures the embedded dataset `shapes` and the side-by-side pairs in DIR (default: generated JPEGs of 256 x 512 pixels), then trains the
config for a few hundred steps (default: configs/bicycle.py on `shapes`). Prints Markdown tables and writes benchmarks/results/data.json.
"""

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import imagecodecs
import jax
import lists
import numpy as np
import tables
import timing
from absl import flags
from ml_collections import config_flags
from PIL import Image

from i2i_jax import training
from i2i_jax.commands import app
from i2i_jax.config import Config, ConfigError, override
from i2i_jax.data import augment, folder, images, loader, pixel_cache, shapes
from i2i_jax.data.pairs import SideBySide
from i2i_jax.devices import parallel
from i2i_jax.storage import cache

_DATA = flags.DEFINE_string("data", None, "A folder of side-by-side pairs; default: generated.")
_LOAD_SIZE = flags.DEFINE_integer("load_size", 286, "Side in pixels that the folder's images are resized to before a crop to 256.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Pairs per batch.")
_THREADS = flags.DEFINE_list("threads", ["1", "2", "4"], "Numbers of threads.")
_PAIRS = flags.DEFINE_integer("pairs", 400, "Pairs that each stage is timed on.")
_STEPS = flags.DEFINE_integer("steps", 300, "Training steps to time; 0: none.")
_CONFIG = config_flags.DEFINE_config_file("config", str(Path(__file__).parents[1] / "configs" / "bicycle.py"), "Config to train.")

ROUNDS = 3
WARM_UP = 20  # training steps before the clock starts: compilation, and the loader's buffers


def stages(pairs: SideBySide, load_size: int, threads: int) -> dict[str, dict[str, float]]:
    """Pairs per second through each stage alone, and through all of them together, as in training."""
    indices = [i % len(pairs) for i in range(_PAIRS.value)]
    batch = loader.fixed(pairs, indices[: _BATCH_SIZE.value], size=load_size)
    batches = [batch] * (_PAIRS.value // _BATCH_SIZE.value)
    mesh = parallel.make_mesh(jax.local_devices()[:1])
    on_device = parallel.global_batch(batch, mesh)
    crop_size = min(load_size, 256)
    crop = jax.jit(partial(augment.augment, key=jax.random.key(0), crop_size=crop_size, flip=True))
    with ThreadPoolExecutor(threads) as pool:
        files, read = _timed(lambda i: _bytes(pairs.load(i)), indices, pool.map)
        _, decode = _timed(partial(images.read, channels=3), files, pool.map)
        least = {"decode by imagecodecs": _timed(imagecodecs.jpeg8_decode, files, pool.map)[1]} if files[0][:2] == b"\xff\xd8" else {}
        halves, split = _timed(partial(images.read_halves, channels=(3, 3)), files, pool.map)
        _, resize = _timed(lambda pair: [loader.resize(image, load_size) for image in pair], halves, pool.map)
        _, stack = _timed(lambda batch: loader._stack([*zip(*batch[:2], strict=True)], batch.row), batches, pool.map)
    _, move = _timed(lambda batch: jax.block_until_ready(parallel.global_batch(batch, mesh)), batches, map)
    _, augmented = _timed(lambda batch: jax.block_until_ready(crop(batch)), [on_device] * len(batches), map)
    rates: dict[str, dict[str, float]] = {"read": read, "decode": decode, **least, "decode and split": split, "resize": resize}
    rates |= {name: _of_pairs(batch) for name, batch in {"stack": stack, "host to device": move, "augment": augmented}.items()}
    return rates | loading(
        partial(loader.batches, pairs, load_size=load_size, batch_size=_BATCH_SIZE.value, seed=0, threads=threads), pairs
    )


def _of_pairs(batches: dict[str, float]) -> dict[str, float]:
    """Batches per second, and the CPU time of one, as pairs."""
    count = _BATCH_SIZE.value
    return {name: value / count if name == "cpu_us" else value * count for name, value in batches.items()}


def loading(through: Callable[..., Iterator[loader.RawBatch]], pairs: SideBySide) -> dict[str, dict[str, float]]:
    """Pairs per second from the files, from the disk cache and from memory to a batch."""
    steps = -(-len(pairs) // _BATCH_SIZE.value)  # of an epoch
    rates = {"files to batch": _spread(through(cache_gb=0.0))}
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, XDG_CACHE_HOME=folder):
        disk = partial(through, cache_gb=0.0, disk_cache_gb=1e3)
        _skip(disk(), steps)
        cold = []
        for _ in range(ROUNDS):
            gc.collect()  # ends the threads that read ahead, and with them the memory map
            _evict(cache.folder(pixel_cache.FOLDER))
            cold.append(_rate(disk(), steps))
        rates["disk cache to batch, none of it in memory"] = _spread_of(cold)
        rates["disk cache to batch"] = _spread(_skip(disk(), steps))
    return rates | {"memory to batch": _spread(_skip(through(cache_gb=1e3), 2 * steps))}


def _skip(batches: Iterator[loader.RawBatch], count: int) -> Iterator[loader.RawBatch]:
    for _ in range(count):
        next(batches)
    return batches


def _rate(batches: Iterator[loader.RawBatch], count: int) -> tuple[float, float]:
    """Pairs per second, and microseconds of CPU time per pair in all threads, which other work on the machine affects less."""
    start, start_of_cpu = time.perf_counter(), time.process_time()
    _skip(batches, count)
    pairs = count * _BATCH_SIZE.value
    return pairs / (time.perf_counter() - start), 1e6 * (time.process_time() - start_of_cpu) / pairs


def _spread(batches: Iterator[loader.RawBatch]) -> dict[str, float]:
    next(batches)
    return _spread_of([_rate(batches, _PAIRS.value // _BATCH_SIZE.value) for _ in range(ROUNDS)])


def _spread_of(rounds: list[tuple[float, float]]) -> dict[str, float]:
    rates, cpu = zip(*rounds, strict=True)
    return timing.spread(rates) | {"cpu_us": statistics.median(cpu)}


def _evict(folder: Path) -> None:
    """Removes the folder's files from the system's page cache."""
    for file in folder.iterdir():
        with file.open("rb") as content:
            os.fsync(content.fileno())
            os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def generate(root: Path, count: int) -> Path:
    """Writes side-by-side JPEGs of 256 x 512 pixels: smooth noise, of which a file takes about as many bytes as of a facade."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (32, 64, 3), np.uint8))
        coarse.resize((512, 256), Image.Resampling.BICUBIC).save(root / f"{i:04d}.jpg", quality=90)
    return root


def _bytes(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _timed(function: Callable, items: list, mapped: Callable[[Callable, Iterable], Iterable]) -> tuple[list, dict[str, float]]:
    """Returns the results, and the number of items per second with the CPU time of one, over rounds."""
    rounds, results = [], []
    for _ in range(ROUNDS):
        start, start_of_cpu = time.perf_counter(), time.process_time()
        results = list(mapped(function, items))
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_of_cpu
        rounds.append((len(items) / seconds, 1e6 * cpu / len(items)))
    return results, _spread_of(rounds)


def waiting(config: Config) -> dict[str, float]:
    """Milliseconds per training step, and how many of them are spent waiting for the next batch."""
    never = dict.fromkeys(("train.sample_every", "train.checkpoint_every", "train.eval_every"), 10**9)
    override(config, {"train.steps": WARM_UP + _STEPS.value, **never})
    waits: list[tuple[float, float]] = []
    batches = loader.batches

    def timed(*args, **options) -> Iterator[loader.RawBatch]:
        inner = batches(*args, **options)
        while True:
            start = time.perf_counter()
            batch = next(inner)
            waits.append((start, time.perf_counter()))
            yield batch

    with tempfile.TemporaryDirectory() as workdir, mock.patch.object(loader, "batches", timed):
        training.train(config, workdir)
    timed_waits = waits[WARM_UP:]
    step = (timed_waits[-1][1] - timed_waits[0][1]) / (len(timed_waits) - 1)
    wait = statistics.mean(end - start for start, end in timed_waits[1:])
    return {"step_ms": 1e3 * step, "waiting_ms": 1e3 * wait, "share": wait / step}


def main(argv: list[str]) -> None:
    threads = lists.whole_numbers(_THREADS, 1)
    sets: dict[str, tuple[SideBySide, int]] = {"shapes": (shapes.pairs("train"), shapes.SIZE)}
    with tempfile.TemporaryDirectory() as generated:
        path = Path(_DATA.value) if _DATA.value else generate(Path(generated), _PAIRS.value)
        pairs = folder.pairs(path, "train")
        if not isinstance(pairs, SideBySide):
            raise ConfigError(f"--data: {_DATA.value} has no side-by-side pairs")
        sets[path.name if _DATA.value else "generated"] = (pairs, _LOAD_SIZE.value)
        found = {name: {n: stages(pairs, size, n) for n in threads} for name, (pairs, size) in sets.items()}
    results: dict[str, Any] = {"batch_size": _BATCH_SIZE.value, "pairs": _PAIRS.value, "pairs_per_second": found}
    written = [_rates(name, rates, sets[name][1]) for name, rates in found.items()]
    if _STEPS.value:
        results["training"] = {"objective": _CONFIG.value.objective, "data": _CONFIG.value.data.name} | waiting(_CONFIG.value)
        row = [f"{x:.3g}" if isinstance(x, float) else x for x in results["training"].values()]
        written.append(tables.lines(list(results["training"]), [row]))
    timing.write("data", results, "\n\n".join(written))


def _rates(name: str, rates: dict[int, dict[str, Any]], size: int) -> str:
    threads = list(rates)
    head = [f"{name} to {size} pixels: pairs per second", *(f"{n} thread{'s' * (n != 1)}" for n in threads)]
    return tables.lines(head, [[stage, *(_shown(rates[n][stage]) for n in threads)] for stage in rates[threads[0]]])


def _shown(rate: dict[str, float]) -> str:
    return f"{rate['median']:,.0f} ({rate['lowest']:,.0f} to {rate['highest']:,.0f}), {rate['cpu_us']:,.0f} µs of CPU each"


if __name__ == "__main__":
    app.start(main)
