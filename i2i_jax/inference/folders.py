"""Translates an image, or a folder of images, into a folder with a page that shows the results."""

import dataclasses
import functools
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from i2i_jax import build
from i2i_jax.config import WITHOUT_LATENT, Config, ConfigError
from i2i_jax.data import concatenated, images, labels, loader, values
from i2i_jax.inference import band_files, image_files, jobs, model, size_change, tiling, translation, video
from i2i_jax.inference.jobs import Job, Size
from i2i_jax.pages import grids
from i2i_jax.pages.translation import Translated, write_translation
from i2i_jax.storage import files

STREAMED = 2**26  # samples of pixels: larger outputs are written in bands while they are computed

Unreadable = dict[Path, images.ImageError]  # inputs that turned out to be damaged, and why
Clipped = dict[Path, values.Counts]  # inputs with values outside data.input_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What is translated, by which run, and where the results are written.

    Attributes:
        run: the trained run: its folder, a packed file, hf://USER/NAME, or the name of a model in the package.
        input: an image, a folder of images or a list of inputs, see `jobs.plan`; or a film, which `film.translate` translates.
        output: the folder to write to, created if it does not exist; of a film, the .mp4 file to write.
        step: the checkpoint; defaults to the newest.
        samples: translations of each input.
        sync: whether all inputs get the same latents and dropout.
        seed: seed of the latents and of dropout.
        style: a target image whose latent is used instead of random ones.
        size: resize the inputs to a square of this many pixels first; for runs with `data.resize` width or pad, this takes the place of
            `data.load_size`, and outputs have the size of their inputs.
        tile: translate in overlapping square tiles of this many pixels.
        max_pixels: refuse larger images; defaults to the run's `data.max_pixels`.
        pairs: whether the inputs are side-by-side pairs, of which the input half is translated; if None, images that look like pairs
            are refused.
        video: write a video instead of images: mp4, gif or webp.
        frames: of a video, frames from one sample to the next.
    """

    run: str
    input: Path
    output: Path
    step: int | Literal["best"] | None = None
    samples: int = 1
    sync: bool = False
    seed: int = 0
    style: Path | None = None
    size: int | None = None
    tile: int | None = None
    max_pixels: int | None = None
    pairs: bool | None = None
    video: str | None = None
    frames: int = 25


def translate(request: Request) -> None:
    """Translates all inputs, writes a page of them and prints where it is.

    The header of every input is checked before anything is written. If the pixels of an input turn out to be damaged, all others
    are translated, then ImageError is raised.

    Raises:
        ConfigError: if the run does not exist, or the request does not fit it.
        ImageError: if an input or the style image cannot be used.
        CheckpointError, PackedError, HubError: if the run cannot be loaded.
        VideoError, MissingExtra: if the video cannot be written.
    """
    config = build.read_config(request.run)
    config.data.max_pixels = request.max_pixels or config.data.max_pixels
    _check_request(request, config)
    same_size = not (square_side(request, config) or request.pairs or request.video)
    target_type = build.target_type(request.run)
    options = {"samples": request.samples, "config": config, "same_size": same_size, "target_type": target_type}
    planned = jobs.plan(request.input, request.output, **options)
    sizes = jobs.read_sizes(planned, config, pairs=bool(request.pairs))
    if request.pairs is None:
        jobs.refuse_pairs(planned, sizes, run=request.run, config=config)
    trained = model.load(request.run, step=request.step)
    unreadable: Unreadable = {}
    clipped: Clipped = {}
    sources = [
        _source(request, job, size, trained.networks.generator, config, unreadable, clipped, npy=target_type.npy)
        for job, size in zip(planned, sizes, strict=True)
    ]
    if request.video:
        _write_video(request, trained, sources, unreadable)
    else:
        _write_images(request, trained, sources, config)
        _write_page(request, [job for job in planned if job.source not in unreadable])
    _print_clipped(clipped, len(planned))
    if not request.video:
        _raise_unreadable(unreadable)


def _check_request(request: Request, config: Config) -> None:
    """Raises ConfigError if all samples would be equal, or if a video has nothing to interpolate."""
    is_random = config.objective not in WITHOUT_LATENT or (config.model.dropout and config.sampling.dropout)
    if request.samples > 1 and not is_random:
        raise ConfigError(f"--samples: {config.objective} without dropout has only one translation of an input: leave it out")
    if request.video and config.objective in WITHOUT_LATENT:
        raise ConfigError(f"--interpolate: {config.objective} has no latent to walk through")
    if request.video and (request.samples < 2 or request.style):
        raise ConfigError("--interpolate walks from sample to sample: give --samples=2 or more, and no --style")


def square_side(request: Request, config: Config) -> int | None:
    """The side in pixels of the squares that inputs are resized to, and that outputs are; None if outputs have the size of their inputs."""
    return None if config.data.resize in ("width", "pad") else request.size


def size_change_of(request: Request, config: Config, size: Size) -> size_change.SizeChange:
    """Returns the change of size of an input of this height and width, which is undone in the outputs."""
    side = square_side(request, config)
    size = (side, side) if side else size
    return size_change.of_image(config, size, load_size=request.size)


def tile_grid(request: Request, config: Config, size: Size, generator: Any) -> tiling.Grid:
    """Returns the grid of an input of this height and width, after its change of size. Raises ConfigError if the tile does not fit."""
    height, width = size_change_of(request, config, size).padded
    options = {"size_multiple": generator.size_multiple, "receptive_radius": generator.receptive_radius}
    return tiling.grid(height, width, tile=request.tile, **options)


def _source(
    request: Request, job: Job, size: Size, generator: Any, config: Config, unreadable: Unreadable, clipped: Clipped, *, npy: bool
) -> translation.Source:
    """A source for `translation.run`, its latents keyed by the relative path; an input that cannot be read goes into `unreadable`."""
    target_scale = values.of_config(config.data, "target")

    def read() -> np.ndarray | images.Tiled | None:
        with values.counting() as counts:
            try:
                image = _read(request, job.files, config)
            except images.ImageError as error:
                unreadable[job.source] = error
                return None
            if counts:
                clipped[job.source] = counts
            return image

    def to_preview(pixels: np.ndarray) -> np.ndarray:
        return grids.to_rgb8(values.to_8_bits(target_scale.applied(pixels)))

    def write(image: Any, outputs: np.ndarray) -> None:
        preview = image.thinned if isinstance(image, images.Tiled) else image
        for path, pixels in zip(job.outputs, outputs, strict=False):  # none if `write_bands` has written them
            files.atomic_write(path, image_files.encode(pixels, geo_tags=job.geo_tags, npy=npy))
        for path, pixels in zip(job.output_previews, outputs, strict=False):
            files.atomic_write(path, image_files.encode(to_preview(pixels)))
        files.atomic_write(job.preview, image_files.encode(_shown(preview, job, config)))

    def write_bands(image: Any, bands: Iterator[np.ndarray]) -> None:
        band_files.write(job.outputs, job.output_previews, bands, size=size, to_preview=to_preview, geo_tags=job.geo_tags)
        write(image, np.empty((0, 0, 0, 0), np.uint8))

    grid, change = tile_grid(request, config, size, generator), size_change_of(request, config, size)
    is_large = request.samples * math.prod(size) * config.data.target_channels > STREAMED and not (
        change.changes or request.size or request.video or npy
    )
    key = zlib.crc32(os.fsencode(job.name))
    return translation.Source(key, grid, read, write, size_change=change, write_bands=write_bands if is_large and grid.number > 1 else None)


def _shown(image: np.ndarray, job: Job, config: Config) -> np.ndarray:
    """The preview of an input: of a label map the classes' colours, of several files all of them side by side."""
    if input_labels := labels.of_config(config.data):
        return input_labels.painted(image)
    if len(job.files) == 1:
        return values.to_8_bits(image)
    counts = concatenated.file_channels(job.files, channels=image.shape[2], max_pixels=config.data.max_pixels)
    return np.concatenate([grids.to_rgb8(values.to_8_bits(part)) for part in np.split(image, np.cumsum(counts)[:-1], 2)], 1)


def _read(request: Request, image_paths: Sequence[Path], config: Config) -> np.ndarray | images.Tiled:
    """The image to translate; with --tile, a tiled TIFF is not decoded as a whole. Raises ImageError."""
    data, input_labels, scale = config.data, labels.of_config(config.data), values.of_config(config.data, "input")
    channels, max_pixels, side = data.input_channels, data.max_pixels, square_side(request, config)
    if len(image_paths) > 1:
        image = concatenated.read(image_paths, channels=channels, max_pixels=max_pixels, scale=scale)
        return loader.resize(image, side) if side else image
    (file,) = image_paths
    by_tiles = request.tile and not (request.size or request.video or request.pairs or input_labels or data.resize in ("width", "pad"))
    if by_tiles and (tiled := images.tiled(file, channels=channels, max_pixels=max_pixels, scale=scale)):
        _ = tiled.thinned  # decodes every tile, so that damage is found before anything is translated
        return tiled
    options: dict[str, Any] = {"max_pixels": max_pixels, "labels": input_labels, "scale": scale}
    image = _input_half(file, config) if request.pairs else images.read(file, channels=channels, **options)
    return (loader.resize_labels if input_labels else loader.resize)(image, side) if side else image


def _input_half(file: Path, config: Config) -> np.ndarray:
    """The input of a side-by-side pair. Raises ImageError."""
    data, input_labels = config.data, labels.of_config(config.data)
    a_is_input, other = data.direction == "AtoB", data.target_channels if input_labels else data.input_channels
    channels = (data.input_channels, other) if a_is_input else (other, data.input_channels)
    both = (input_labels, None) if a_is_input else (None, input_labels)
    scale = values.of_config(data, "input")
    scales = (scale, None) if a_is_input else (None, scale)
    left, right = images.read_halves(file, channels=channels, max_pixels=data.max_pixels, labels=both, scales=scales)
    return left if a_is_input else right


def _write_images(request: Request, trained: model.Model, sources: Sequence[translation.Source], config: Config) -> None:
    latents = style_latents(request, trained, config)
    target_scale, target_type = values.of_config(config.data, "target"), build.target_type(request.run)
    with tqdm(total=len(sources), unit="image", disable=len(sources) == 1) as progress:
        for _ in translation.run(
            trained.networks,
            trained.state,
            build.mode(config),
            sources,
            samples=request.samples,
            seed=request.seed,
            sync=request.sync,
            latents=latents,
            convert=functools.partial(target_scale.restored, dtype=target_type.dtype),
        ):
            progress.update()


def style_latents(request: Request, trained: model.Model, config: Config) -> Callable[[Any], np.ndarray] | None:
    """Returns a function that gives the latents [n, d] of the style image, the same for all samples; None without a style image.

    Raises:
        ConfigError: if the run has no encoder.
        ImageError: if the style image cannot be used.
    """
    if request.style is None:
        return None
    try:
        mean = dataclasses.replace(trained, config=config).encode(request.style)
    except ConfigError as error:
        raise ConfigError(f"--style: {error}") from None
    return lambda key: np.tile(mean, (request.samples, 1))


def _write_video(request: Request, trained: model.Model, sources: Sequence[translation.Source], unreadable: Unreadable) -> None:
    path = request.output / f"interpolation.{request.video}"
    video.check(path, inputs=len(sources))
    options = {"samples": request.samples, "seed": request.seed, "frames": request.frames}
    input_labels = labels.of_config(trained.config.data)
    walks = video.walked(trained.networks, trained.state, build.mode(trained.config), sources, input_labels=input_labels, **options)
    if unreadable:
        raise unreadable[min(unreadable)]
    video.write(path, iter(tqdm(video.grid(walks), total=len(walks[0].outputs), unit="frame", disable=None)))
    print(f"written: {path}")


def _write_page(request: Request, finished: Sequence[Job]) -> None:
    if not finished:
        return
    style = request.style.resolve() if request.style else None
    rows = [Translated(job.preview, job.output_previews or job.outputs, style) for job in finished]
    write_translation(request.output, rows, title=f"Translations by {request.run}")
    print(f"{len(finished)} translated: open {request.output / 'index.html'}")


def _print_clipped(clipped: Clipped, total: int) -> None:
    if clipped:
        first = min(clipped)
        ((scale, (outside, size)),) = clipped[first].items()
        print(f"{len(clipped)} of {total} inputs have values outside {scale}, which were clipped to it: {first} {outside} of {size}")


def _raise_unreadable(unreadable: Unreadable) -> None:
    if unreadable:
        others = f"; and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        raise images.ImageError(f"{unreadable[min(unreadable)]}{others}")
