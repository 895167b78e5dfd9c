"""Coverage-guided fuzzing of the image, checkpoint and config readers: they may only raise ImageError, CheckpointError or ConfigError.

    python benchmarks/fuzz.py --target=image [--seconds=60]          targets: image, checkpoint, config (extra fuzz)

A crash, a hang, more than 2 GB of memory or any other error stops it and saves the input as crash-HASH in the working directory.
"""

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import atheris
import numpy as np
from absl import flags

with atheris.instrument_imports(include=["i2i_jax", "PIL", "tifffile"]):
    import tifffile
    from PIL import Image

    from i2i_jax import config as configs
    from i2i_jax.commands import app
    from i2i_jax.data import images
    from i2i_jax.storage.checkpoints import CheckpointError, Checkpoints, restore_for_inference

_TARGET = flags.DEFINE_enum("target", "image", ["image", "checkpoint", "config"], "The reader to fuzz.")
_SECONDS = flags.DEFINE_integer("seconds", 60, "Time limit in seconds.", lower_bound=1)

MEMORY, PATIENCE = 2048, 60  # MB, seconds
NOISE = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)


def encoded() -> Iterator[bytes]:
    """Small images in all formats and modes."""
    for format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        for mode in ("RGB", "L") if format in ("JPEG", "WEBP") else ("RGB", "L", "P", "1"):
            file = io.BytesIO()
            Image.fromarray(NOISE).convert(mode).save(file, format)
            yield file.getvalue()
    for options in ({}, {"compression": "zlib"}, {"tile": (16, 16)}, {"planarconfig": "separate"}):
        file = io.BytesIO()
        pixels = np.moveaxis(NOISE, 2, 0) if "planarconfig" in options else NOISE
        tifffile.imwrite(file, pixels.astype(np.uint16), photometric="rgb", **options)
        yield file.getvalue()


def image(data: bytes) -> None:
    for channels in (1, 3):
        try:
            pixels = images.read(data, channels=channels, max_pixels=2**20)
        except images.ImageError as error:
            assert "\n" not in str(error)
        else:
            assert pixels.shape[2] == channels and pixels.size <= channels * 2**20


def config(data: bytes) -> None:
    try:
        assert configs.from_json(configs.to_json(configs.from_json(data.decode(errors="replace"))))
    except configs.ConfigError as error:
        assert "\n" not in str(error)


class DamagedCheckpoint:
    """Restores a checkpoint with one damaged file: the data choose the file, the offset, the new bytes, and whether the file ends there."""

    def __init__(self, folder: Path):
        import jax

        self._folder, self._state = folder, {"params": np.arange(12, dtype=np.float32)}
        kept = Checkpoints(folder, keep=1)
        kept.save(1, jax.device_put(self._state))
        kept.close()
        self._template = {"params": jax.ShapeDtypeStruct((12,), np.float32)}
        self._files = sorted(path for path in (folder / "1").rglob("*") if path.is_file())

    def __call__(self, data: bytes) -> None:
        number, place, ends, patch = (*data[:1], 0)[0], int.from_bytes(data[1:3]), data[3:4] == b"\1", data[4:]
        file = self._files[number % len(self._files)]
        whole = file.read_bytes()
        place %= len(whole) + 1
        file.write_bytes(whole[:place] + patch + (b"" if ends else whole[place + len(patch) :]))
        try:
            restored = restore_for_inference(self._folder, self._template)
            assert "checksums" in str(file) or np.array_equal(restored["params"], self._state["params"]), file
        except CheckpointError as error:
            assert "\n" not in str(error)
        finally:
            file.write_bytes(whole)


def main(argv: Sequence[str]) -> None:
    corpus, folder = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    damaged = DamagedCheckpoint(folder) if _TARGET.value == "checkpoint" else None
    target: Callable[[bytes], None] = damaged or {"image": image, "config": config}[_TARGET.value]
    seeds = [bytes(8)] if damaged else encoded() if _TARGET.value == "image" else [configs.to_json(configs.Config()).encode()]
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    limits = [f"-max_total_time={_SECONDS.value}", f"-rss_limit_mb={MEMORY}", f"-timeout={PATIENCE}", "-print_final_stats=1"]
    atheris.Setup([argv[0], *limits, str(corpus)], target)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(corpus), shutil.rmtree(folder)


if __name__ == "__main__":
    app.start(main)
