"""Images per second and peak memory of `python -m i2i_jax translate`, by the number of images in the folder.

    python benchmarks/translate.py [--run=RUN] [--images=100,1000,10000] [--samples=1]

Without --run, a run of configs/bicycle.py is trained for two steps. Prints a Markdown table and writes benchmarks/results/translate.json.
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import lists
import numpy as np
import tables
import timing
from absl import flags
from PIL import Image

from i2i_jax import presets, training
from i2i_jax.commands import app
from i2i_jax.config import override

_RUN = flags.DEFINE_string("run", None, "The folder of a trained run.")
_IMAGES = flags.DEFINE_list("images", ["100", "1000", "10000"], "Numbers of images.")
_SIZE = flags.DEFINE_integer("size", 64, "Side of the images in pixels.")
_SAMPLES = flags.DEFINE_integer("samples", 1, "Translations of each image.")


def trained(folder: Path) -> Path:
    """Trains a run of the quickstart's size for two steps: its quality does not affect the timing."""
    options = {"train.steps": 2, "eval.inputs": 1, "eval.samples": 2, "train.samples": 1}
    training.train(override(presets.bicycle_family("bicycle_gan", "shapes"), options), folder)
    return folder


def make_images(folder: Path, count: int) -> Path:
    """Writes images of smooth noise, which PNG compresses about as well as photos."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        image = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((_SIZE.value, _SIZE.value), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:05d}.png")
    return folder


def measure(run: Path, images: Path, output: Path) -> tuple[float, float]:
    """Returns the seconds and the peak resident memory in MB."""
    command = ["translate", f"--run={run}", f"--input={images}", f"--output={output}", f"--samples={_SAMPLES.value}"]
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "i2i_jax", *command], stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - start, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main(argv: list[str]) -> None:
    counts, rows = lists.whole_numbers(_IMAGES, 1), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # In another process: on Linux, the peak memory of child processes includes what this process held.
        run = Path(_RUN.value) if _RUN.value else timing.alone(partial(trained, folder / "run"))
        single = make_images(folder / "one", 1)
        measure(run, single, folder / "compiled")
        starting, _ = measure(run, single, folder / "started")
        for count in counts:
            seconds, memory = measure(run, make_images(folder / f"{count}", count), folder / f"{count}_out")
            rows.append({"images": count, "seconds": seconds, "images_per_second": count / (seconds - starting), "peak_memory_mb": memory})
    head = ["images", "seconds", f"images per second, without {starting:.1f} s of start-up", "peak memory, MB"]
    table = tables.lines(head, [[f"{value:,.0f}" for value in row.values()] for row in rows])
    timing.write("translate", {"size": _SIZE.value, "samples": _SAMPLES.value, "seconds_to_start": starting, "folders": rows}, table)


if __name__ == "__main__":
    app.start(main)
