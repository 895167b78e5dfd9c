"""Translates images with a trained run: python -m i2i_jax translate --run=RUN --input=FILE_OR_DIR --output=DIR

i2i translate --run=RUN --input=photo.jpg --output=OUT --samples=5
i2i translate --run=RUN --input=PHOTOS --output=OUT --samples=5 --sync       column i has one style
i2i translate --run=RUN --input=PHOTOS --output=OUT --style=target.jpg       the style of an image
i2i translate --run=RUN --input=PHOTOS --output=OUT --samples=5 --interpolate=mp4
"""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from i2i_jax.commands import app
from i2i_jax.config import WITHOUT_LATENT, Config, ConfigError

PNG_CHANNELS = (1, 3, 4)

_RUN = flags.DEFINE_string("run", None, "The trained run: its folder, packed in a file, or hf://USER/NAME.", required=True)
_INPUT = flags.DEFINE_string("input", None, "An image, or a folder of images: inputs alone, or --pairs.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The folder to write to; open its index.html.", required=True)
_SAMPLES = flags.DEFINE_integer("samples", 1, "Translations of each input.", lower_bound=1)
_SYNC = flags.DEFINE_bool("sync", False, "Give all inputs the same latents, so that column i has one style.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the latents and of dropout.", lower_bound=0)
_STYLE = flags.DEFINE_string("style", None, "A target image whose latent is used for all inputs.")
_SIZE = flags.DEFINE_integer("size", None, "Resize inputs to this square first, as training did to data.load_size.", lower_bound=1)
_INTERPOLATE = flags.DEFINE_enum(
    "interpolate", None, ["mp4", "gif", "webp"], "Write a film instead: a walk through the --samples of --sync, the same for all inputs."
)
_FRAMES = flags.DEFINE_integer("frames", 25, "Of --interpolate: pictures from a sample to the next; 25 are a second.", lower_bound=1)
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", None, "Refuse an image of more pixels than this (default: the run's).", lower_bound=1)
_TILE = flags.DEFINE_integer("tile", None, "Translate in overlapping squares of this many pixels: for images beyond memory.", lower_bound=1)
_PAIRS = flags.DEFINE_bool(
    "pairs",
    None,
    "The inputs are side-by-side pairs, as the run was trained on: translate the input's half of each, or with --nopairs all.",
)
_STEP = flags.DEFINE_string("step", None, "The checkpoint: a step or `best` (default: the newest).")


class Job(NamedTuple):
    """One input file and the files of its translations."""

    source: Path
    shown: Path
    outputs: list[Path]


def main(argv: Sequence[str]) -> None:
    import numpy as np
    from tqdm import tqdm

    from i2i_jax import build
    from i2i_jax.inference import model, translation

    config = build.read_config(_RUN.value)
    config.data.max_pixels = _MAX_PIXELS.value or config.data.max_pixels
    _refuse_standstill(config)
    step = app.checkpoint(_STEP.value)
    jobs = _jobs(Path(_INPUT.value), Path(_OUTPUT.value), samples=_SAMPLES.value, config=config)
    sizes = _sizes(jobs, config)
    _refuse_whole_pairs(jobs, sizes, config)
    trained = model.load(_RUN.value, step=step)
    broken: dict[Path, Exception] = {}
    sources = [_source(*of, trained.networks.generator, config, broken) for of in zip(jobs, sizes, strict=True)]
    if _INTERPOLATE.value:
        _film(trained, sources, broken)
        return
    style = _style(trained, config) if _STYLE.value else None
    latents = None if style is None else lambda key: np.tile(style, (_SAMPLES.value, 1))
    with tqdm(total=len(jobs), unit="image", disable=len(jobs) == 1) as progress:
        for _ in translation.run(
            trained.networks, trained.state, build.mode(config), sources,
            samples=_SAMPLES.value, seed=_SEED.value, sync=_SYNC.value, latents=latents,
        ):  # fmt: skip
            progress.update()
    _finish([job for job in jobs if job.source not in broken], broken)


def _refuse_standstill(config: Config) -> None:
    """Raises ConfigError where samples would be equal, a film would not move, or an option would do nothing."""
    varies = config.objective not in WITHOUT_LATENT or (config.model.dropout and config.sampling.dropout)
    if _SAMPLES.value > 1 and not varies:
        raise ConfigError(f"--samples: {config.objective} without dropout makes one image of an input: leave it out")
    if not _INTERPOLATE.value:
        if flags.FLAGS["frames"].present:
            raise ConfigError("--frames is of --interpolate: leave it out, or name a film")
        return
    if config.objective in WITHOUT_LATENT:
        raise ConfigError(f"--interpolate: {config.objective} has no latent to walk through")
    if _SAMPLES.value < 2 or _STYLE.value:
        raise ConfigError("--interpolate walks from sample to sample: give --samples=2 or more, and no --style")


def _film(trained: Any, sources: list[Any], broken: dict[Path, Exception]) -> None:
    """Writes OUTPUT/interpolation.mp4, or as it is asked for. Raises ImageError where an input cannot be read after all."""
    from tqdm import tqdm

    from i2i_jax import build
    from i2i_jax.inference import video

    path = Path(_OUTPUT.value or "") / f"interpolation.{_INTERPOLATE.value}"
    video.check(path, inputs=len(sources))
    options = {"samples": _SAMPLES.value, "seed": _SEED.value, "frames": _FRAMES.value}
    films = video.walked(trained.networks, trained.state, build.mode(trained.config), sources, **options)
    if broken:
        raise broken[min(broken)]
    video.write(path, iter(tqdm(video.grid(films), total=len(films[0].outputs), unit="frame", disable=None)))
    print(f"written: {path}")


def _sizes(jobs: list[Job], config: Config) -> list[tuple[int, int]]:
    """Height and width of every input. Raises ImageError that names the first unreadable one, before anything is written."""
    from tqdm import tqdm

    from i2i_jax.data import images

    reading = {"channels": config.data.input_channels, "max_pixels": config.data.max_pixels}
    files = tqdm([job.source for job in jobs], "checking", unit="image", delay=2, leave=False, disable=None)
    found = [images.size(file, **reading) for file in files]
    if not _PAIRS.value:
        return found
    for job, (_, width) in zip(jobs, found, strict=True):
        if width % 2:
            raise images.ImageError(f"{job.source}: {images.odd_width(width)}")
    return [(height, width // 2) for height, width in found]


def _refuse_whole_pairs(jobs: list[Job], sizes: list[tuple[int, int]], config: Config) -> None:
    """Raises ConfigError where an input looks like one of the side-by-side pairs that the run was trained on."""
    if _PAIRS.value is not None:
        return
    from i2i_jax.data import pix2pix, splits

    trained_on = splits.read(_RUN.value)
    if trained_on is not None and not trained_on.side_by_side:
        return
    tall, wide = (trained_on and trained_on.size) or (1, 1)
    like_pairs = [
        job.source for job, (height, width) in zip(jobs, sizes, strict=True) if abs(width * tall / (height * 2 * wide) - 1) < 0.01
    ]
    half = "left" if config.data.direction == "AtoB" else "right"
    choice = f"--pairs translates the {half} half of each, --nopairs all of it"
    if like_pairs and (trained_on or config.data.name in pix2pix.SETS):
        number = f" and {len(like_pairs) - 1} others have" if len(like_pairs) > 1 else " has"
        raise ConfigError(f"--input: {like_pairs[0]}{number} the shape of the side-by-side pairs that this run was trained on: {choice}")
    if like_pairs and config.data.name == "folder":
        print(f"{like_pairs[0]} is twice as wide as high; if it is a side-by-side pair, {choice}")


def _source(job: Job, size: tuple[int, int], generator: Any, config: Config, broken: dict[Path, Exception]) -> Any:
    """What is to be done, with latents that go with the file's name. Why an image cannot be read after all is put into `broken`."""
    from i2i_jax.data import images, loader
    from i2i_jax.inference import tiling, translation
    from i2i_jax.pages import grids
    from i2i_jax.storage import files

    how: dict[str, Any] = {"channels": config.data.input_channels, "max_pixels": config.data.max_pixels}
    by_tiles = _TILE.value and not (_SIZE.value or _INTERPOLATE.value or _PAIRS.value)

    def read() -> Any:
        try:
            if by_tiles and (tiled := images.tiled(job.source, **how)):
                assert tiled.thinned is not None  # made of every tile: what is damaged is known before anything is translated
                return tiled
            image = _input_half(job.source, config) if _PAIRS.value else images.read(job.source, **how)
        except images.ImageError as error:
            broken[job.source] = error
            return None
        return loader.resize(image, _SIZE.value) if _SIZE.value else image

    def write(image: Any, outputs: Any) -> None:
        shown = image.thinned if isinstance(image, images.Tiled) else image
        for path, pixels in zip((*job.outputs, job.shown), (*outputs, grids.to_8_bits(shown)), strict=True):
            files.atomic_write(path, _encoded(pixels))

    size = (_SIZE.value, _SIZE.value) if _SIZE.value else size
    grid = tiling.grid(*size, size_multiple=generator.size_multiple, receptive_radius=generator.receptive_radius, tile=_TILE.value)
    return translation.Source(zlib.crc32(os.fsencode(job.source.name)), grid, read, write)


def _input_half(file: Path, config: Config) -> Any:
    from i2i_jax.data import images

    channels, data = config.data.input_channels, config.data
    left, right = images.read_halves(file, channels=(channels, channels), max_pixels=data.max_pixels)
    return left if data.direction == "AtoB" else right


def _finish(done: list[Job], broken: dict[Path, Exception]) -> None:
    """Writes the page of what there is. Raises ImageError for what there is not."""
    from i2i_jax.data import images
    from i2i_jax.pages.translation import Translated, write_translation

    if done:
        style = Path(_STYLE.value).resolve() if _STYLE.value else None
        rows = [Translated(job.shown, job.outputs, style) for job in done]
        write_translation(_OUTPUT.value, rows, title=f"Translations by {_RUN.value}")
        print(f"{len(done)} translated: open {Path(_OUTPUT.value) / 'index.html'}")
    if broken:
        others = f"; and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise images.ImageError(f"{broken[min(broken)]}{others}")


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
    folders = {folder: folder.resolve() for folder in (output, output / "inputs")}
    written = {folders[f.parent] / f.name for job in jobs for f in (job.shown, *job.outputs)}
    if lost := written & {f.resolve() for f in files}:
        raise ConfigError(f"--output: {min(lost)} is an input: name another folder")
    return jobs


def _encoded(pixels) -> bytes:
    """uint8 [h, w, c] as PNG; as TIFF where PNG has no such number of channels."""
    import io

    import tifffile
    from PIL import Image

    file = io.BytesIO()
    if pixels.shape[2] in PNG_CHANNELS:
        # zlib's quickest level takes a third of the time of its usual one, for a few percent more bytes.
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "PNG", compress_level=1)
    else:
        tifffile.imwrite(file, pixels, planarconfig="contig", photometric="minisblack")
    return file.getvalue()


def _style(trained: Any, config: Config) -> Any:
    """The mean latent of the style image."""
    from i2i_jax.data import images

    data = config.data
    try:
        return trained.encode(images.read(Path(_STYLE.value or ""), channels=data.target_channels, max_pixels=data.max_pixels))
    except ConfigError as error:
        raise ConfigError(f"--style: {error}") from None


def cli() -> None:
    app.run(main, less_memory="--tile=N translates large images in squares of N pixels; fewer --samples need less too")
