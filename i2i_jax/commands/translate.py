"""Translates images with a trained run: python -m i2i_jax translate --run=RUN --input=FILE_OR_DIR --output=DIR"""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import Config, ConfigError

PNG_CHANNELS = (1, 3, 4)

_RUN = flags.DEFINE_string("run", None, "The folder of the trained run.", required=True)
_INPUT = flags.DEFINE_string("input", None, "An image, or a folder of images; inputs alone, without their targets.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The folder to write to; open its index.html.", required=True)
_SAMPLES = flags.DEFINE_integer("samples", 1, "Translations of each input.", lower_bound=1)
_SYNC = flags.DEFINE_bool("sync", False, "Give all inputs the same latents, so that column i has one style.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the latents and of dropout.", lower_bound=0)
_STYLE = flags.DEFINE_string("style", None, "A target image whose latent is used for all inputs.")
_SIZE = flags.DEFINE_integer("size", None, "Resize inputs to this square first, as training did to data.load_size.", lower_bound=1)
_STEP = flags.DEFINE_string("step", None, "The checkpoint: a step or `best` (default: the newest).")


class Job(NamedTuple):
    """One input file and the files of its translations."""

    source: Path
    shown: Path
    outputs: list[Path]


def main(argv: Sequence[str]) -> None:
    import jax
    import jax.numpy as jnp
    from tqdm import tqdm

    from i2i_jax import build, logs, page, sampling
    from i2i_jax.data import augment, images, loader

    config = build.read_config(_RUN.value)
    step = app.checkpoint(_STEP.value)
    jobs = _jobs(Path(_INPUT.value), Path(_OUTPUT.value), samples=_SAMPLES.value, config=config)
    read: dict[str, Any] = {"channels": config.data.input_channels, "max_pixels": config.data.max_pixels}
    _refuse_unreadable(jobs, read)
    game, state = build.load(_RUN.value, step=step)
    style = _style(config, game, state) if _STYLE.value else None
    key = jax.random.key(_SEED.value)
    run = jax.jit(lambda state, image, z, key: sampling.translate(game.networks, state, image, z, key, mode=build.mode(config)))
    for job in tqdm(jobs, unit="image", disable=len(jobs) == 1):
        image = images.read(job.source, **read)
        image = loader.resize(image, _SIZE.value) if _SIZE.value else image
        z_key, dropout_key = jax.random.split(key if _SYNC.value else _own(key, job.source))
        z = sampling.latents(z_key, 1, _SAMPLES.value, game.networks.latent_dim)
        z = z if style is None else jnp.broadcast_to(style, z.shape)
        found = run(state, augment.scale(image[None]), z, dropout_key)
        for path, output in zip(job.outputs, augment.to_uint8(found[0]), strict=True):
            logs.atomic_write(path, _encoded(output))
        logs.atomic_write(job.shown, _encoded(augment.to_uint8(augment.scale(image))))
    shown_style = Path(_STYLE.value).resolve() if _STYLE.value else None
    rows = [page.Translated(job.shown, job.outputs, shown_style) for job in jobs]
    page.write_translation(_OUTPUT.value, rows, title=f"Translations by {_RUN.value}")
    print(f"{len(jobs)} translated: open {Path(_OUTPUT.value) / 'index.html'}")


def _own(key, source: Path):
    """A key that goes with the name of the file: what becomes of an image does not depend on the others of its folder."""
    import jax

    return jax.random.fold_in(key, zlib.crc32(os.fsencode(source.name)))


def _jobs(source: Path, output: Path, *, samples: int, config: Config) -> list[Job]:
    """The work to do, outputs named after their inputs. Raises ConfigError where there is nothing to translate, or where
    an output would take the place of an input.
    """
    from i2i_jax.data import images

    if source.is_dir():
        files = sorted(f for f in source.iterdir() if f.suffix.lower() in images.EXTENSIONS and not f.name.startswith("."))
    elif source.is_file():
        files = [source]
    else:
        raise ConfigError(f"--input: there is no {source}")
    if not files:
        raise ConfigError(f"--input: {source} has no image ({', '.join(images.EXTENSIONS)})")
    clash = len({f.stem for f in files}) < len(files)
    names = [f.name if clash else f.stem for f in files]
    suffixes = [f"_{i + 1:03d}" for i in range(samples)] if samples > 1 else [""]
    shown_as, written_as = (".png" if c in PNG_CHANNELS else ".tif" for c in (config.data.input_channels, config.data.target_channels))
    jobs = [
        Job(file, output / "inputs" / (name + shown_as), [output / (name + suffix + written_as) for suffix in suffixes])
        for file, name in zip(files, names, strict=True)
    ]
    if lost := {f.resolve() for f in files} & {f.resolve() for job in jobs for f in (job.shown, *job.outputs)}:
        raise ConfigError(f"--output: {min(lost)} is an input: name another folder")
    return jobs


def _refuse_unreadable(jobs: list[Job], read: dict) -> None:
    """Raises ImageError that names the first unreadable input, before anything is written."""
    from i2i_jax.data import images

    for job in jobs:
        images.size(job.source, **read)


def _encoded(pixels) -> bytes:
    """uint8 [h, w, c] as PNG; as TIFF where PNG has no such number of channels."""
    import io

    import tifffile
    from PIL import Image

    file = io.BytesIO()
    if pixels.shape[2] in PNG_CHANNELS:
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    else:
        tifffile.imwrite(file, pixels, planarconfig="contig", photometric="minisblack")
    return file.getvalue()


def _style(config, game, state):
    """The mean latent of the style image, resized to the size that the encoder was trained at."""
    from i2i_jax import sampling
    from i2i_jax.data import augment, images, loader

    if "encoder" not in state.params:
        raise ConfigError(f"--style: {config.objective} has no encoder")
    image = images.read(Path(_STYLE.value or ""), channels=config.data.target_channels, max_pixels=config.data.max_pixels)
    return sampling.encode(game.networks, state, augment.scale(loader.resize(image, config.data.crop_size)[None])).mean[0]


def cli() -> None:
    app.run(main)
