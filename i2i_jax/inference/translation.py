"""Translates many images: reads them, translates them in batches on all devices and writes them, all at the same time."""

import dataclasses
import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, cast

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Num

from i2i_jax import models, sampling
from i2i_jax.data import augment, images
from i2i_jax.devices import parallel
from i2i_jax.inference import tiling
from i2i_jax.inference.size_change import SizeChange
from i2i_jax.train_state import TrainState

BATCH_PIXELS = 2**18  # output pixels per device and batch
AHEAD_PIXELS = 2**22  # pixels that are read ahead, and pixels that wait to be written

Item = TypeVar("Item")
Started = TypeVar("Started")
Pixels = Num[np.ndarray, "h w c"]  # uint8, uint16 or floats in [-1, 1]
AnySize = Num[np.ndarray, "_h _w c"]
Outputs = Num[np.ndarray, "n h w c"]
Convert = Callable[[np.ndarray], np.ndarray]  # images in [-1, 1] -> samples to write
Translated = tuple["_Image", np.ndarray]  # a tile's image, and the translations [n, h, w, c] of the tile
BatchSize = Callable[[int, int, int], int]  # shape [h, w, c] of a tile -> tiles in a batch
Latents = Callable[[Array], Array | np.ndarray]  # key of a source -> [n, d]
Translate = Callable[[np.ndarray, np.ndarray], Array]  # (tiles [b, h, w, c], keys [b]) -> [b, n, h, w, c_out]


class Source(NamedTuple):
    """An image to translate. Its translations depend only on its pixels and its `key`.

    Attributes:
        key: distinguishes the image's random latents and dropout from those of other images.
        grid: how the image is cut into tiles.
        read: returns the image, or None if it cannot be read; it is skipped then.
        write: called with the image as `read` returned it, and its translations.
        size_change: the change of size of the image before it is cut, and of its translations before they are written.
        write_bands: takes the place of `write` for an image too large for memory: it is called with the image and an iterator over its
            translations in horizontal bands, from top to bottom.
    """

    key: int
    grid: tiling.Grid
    read: Callable[[], Pixels | images.Tiled | None]
    write: Callable[[Any, Outputs], None]
    size_change: SizeChange | None = None
    write_bands: Callable[[Any, Iterator[Outputs]], None] | None = None

    def prepared(self, pixels: AnySize | images.Tiled) -> AnySize | images.Tiled:
        """The image as the grid cuts it."""
        return self.size_change.prepare(cast(np.ndarray, pixels)) if self.size_change and self.size_change.changes else pixels

    def converted(self, bands: Iterator[np.ndarray], convert: Convert) -> Outputs:
        """The samples to write, of translations in [-1, 1] in horizontal bands, in the size of the image."""
        if not (self.size_change and self.size_change.changes):
            return np.concatenate([convert(band) for band in bands], 1)
        return convert(np.stack([self.size_change.finish(output) for output in np.concatenate(list(bands), 1)]))


@dataclasses.dataclass(frozen=True, eq=False)
class _Image:
    source: Source
    pixels: Pixels | images.Tiled


class _Tile(NamedTuple):
    image: _Image
    pixels: Pixels


def run(
    networks: models.Networks,
    state: TrainState,
    mode: sampling.Mode,
    sources: Sequence[Source],
    *,
    samples: int,
    seed: int = 0,
    sync: bool = False,
    latents: Latents | None = None,
    convert: Convert = augment.to_uint8,
) -> Iterator[Source]:
    """Translates all sources, on the devices of this process.

    All batches of one tile shape have the same size; incomplete ones are padded. So each shape is compiled once, and the
    result for an image does not depend on which other images are in its batch.

    Args:
        networks: the networks.
        state: their parameters and statistics.
        mode: how the generator runs at inference (dropout, batch statistics).
        sources: the images.
        samples: translations of each image.
        seed: seed of the latents and of dropout.
        sync: give all images the same random latents and dropout.
        latents: key of a source -> latents [samples, d]; defaults to random latents.
        convert: converts translations in [-1, 1] to the samples that sources write.

    Yields:
        Each source, after its translations are written.
    """
    total_pixels = sum(source.grid.number * math.prod(source.grid.tile) for source in sources)
    mesh = parallel.make_mesh(jax.local_devices()[: math.ceil(total_pixels * samples / BATCH_PIXELS)])
    translate = _translator(networks, state, mode, mesh, samples=samples, seed=seed, sync=sync, latents=latents)

    batch_size = _batch_size(mesh, samples)
    with ThreadPoolExecutor(_workers()) as pool:
        translated = _translated(_batches(_tiles(sources, pool), batch_size), translate, batch_size)
        yield from _written(_blended(translated, convert), pool)


def stream(
    networks: models.Networks,
    state: TrainState,
    mode: sampling.Mode,
    frames: Iterable[Pixels],
    grid: tiling.Grid,
    *,
    seed: int = 0,
    latents: Latents | None = None,
    size_change: SizeChange | None = None,
) -> Iterator[Pixels]:
    """Translates the frames of a film in order; only a few of them are in memory at any time.

    All frames have the latent and the dropout that `run` gives to every image with `sync`.

    Args:
        networks: the networks.
        state: their parameters and statistics.
        mode: how the generator runs at inference (dropout, batch statistics).
        frames: images of one size and type.
        grid: how each frame is cut into tiles.
        seed: seed of the latent and of dropout.
        latents: a function that returns the latent [1, d]; defaults to a random one.
        size_change: the change of size of each frame before it is cut, which is undone in its translation.

    Yields:
        The translation of each frame.
    """
    mesh = parallel.make_mesh(jax.local_devices())
    translate = _translator(networks, state, mode, mesh, samples=1, seed=seed, sync=True, latents=latents)
    source = Source(0, grid, read=lambda: None, write=lambda image, outputs: None, size_change=size_change)
    images = (_Image(source, frame) for frame in frames)
    tiles = (_Tile(image, tile) for image in images for tile in tiling.cut(source.prepared(image.pixels), grid))
    batch_size = _batch_size(mesh, 1)
    for _, outputs in _blended(_translated(_batches(tiles, batch_size), translate, batch_size), augment.to_uint8):
        yield cast(np.ndarray, outputs)[0]


def _batch_size(mesh: Mesh, samples: int) -> BatchSize:
    return lambda height, width, channels: mesh.size * max(1, BATCH_PIXELS // (height * width * samples))


def _workers() -> int:
    return os.cpu_count() or 1


def _written(translated: Iterable[tuple[_Image, Outputs | None]], pool: Executor) -> Iterator[Source]:
    """Writes in the background; yields each source once it is written."""

    def write(pair: tuple[_Image, Outputs | None]) -> tuple[Source, Future]:
        image, outputs = pair
        if outputs is None:
            return image.source, pool.submit(lambda: None)
        return image.source, pool.submit(lambda: image.source.write(image.pixels, outputs))

    def cost(pair: tuple[_Image, Outputs | None]) -> int:
        """Lets as many images wait as keep all workers busy, or fewer if they are large."""
        return max(0 if pair[1] is None else pair[1].size, AHEAD_PIXELS // (2 * _workers()))

    for source, writing in _ahead(write, translated, cost):
        writing.result()
        yield source


def _ahead(start: Callable[[Item], Started], items: Iterable[Item], cost: Callable[[Item], int]) -> Iterator[Started]:
    """Yields `start(item)` for each item in order, while later items are already started.

    At least the next item is started early, and as many as have a total `cost` of AHEAD_PIXELS.
    """
    started: deque[tuple[Started, int]] = deque()
    total_cost = 0
    for item in items:
        started.append((start(item), cost(item)))
        total_cost += started[-1][1]
        while len(started) > 1 and total_cost > AHEAD_PIXELS:
            first, its_cost = started.popleft()
            total_cost -= its_cost
            yield first
    yield from (first for first, _ in started)


def _tiles(sources: Sequence[Source], pool: Executor) -> Iterator[_Tile]:
    """The tiles of all sources, ordered so that those of one shape are consecutive."""
    ordered = sorted(sources, key=lambda source: source.grid.tile)
    for source, reading in _ahead(lambda source: (source, pool.submit(source.read)), ordered, lambda source: source.grid.area):
        if (pixels := reading.result()) is not None:
            image = _Image(source, pixels)
            yield from (_Tile(image, tile) for tile in tiling.cut(source.prepared(pixels), source.grid))


def _batches(tiles: Iterable[_Tile], size: BatchSize) -> Iterator[list[_Tile]]:
    """Batches of at most `size` tiles of one shape and type."""
    for (*shape, _), alike in itertools.groupby(tiles, key=lambda tile: (*tile.pixels.shape, tile.pixels.dtype)):
        while batch := list(itertools.islice(alike, size(*shape))):
            yield batch


def _translated(batches: Iterable[list[_Tile]], translate: Translate, size: BatchSize) -> Iterator[Translated]:
    """Translates tiles; the next batch is dispatched before the current one is fetched from the devices."""

    def start(batch: list[_Tile]) -> tuple[list[_Tile], Array]:
        tiles = np.stack([tile.pixels for tile in batch])
        keys = np.array([tile.image.source.key for tile in batch], np.uint32)
        padded = size(*tiles.shape[1:])
        return batch, translate(np.resize(tiles, (padded, *tiles.shape[1:])), np.resize(keys, padded))

    for batch, outputs in _ahead(start, batches, lambda _: AHEAD_PIXELS):
        yield from ((tile.image, output) for tile, output in zip(batch, np.asarray(outputs), strict=False))


def _blended(tiles: Iterable[Translated], convert: Convert) -> Iterator[tuple[_Image, Outputs | None]]:
    """Joins the translated tiles of each image; writes images with `write_bands`, and yields None in place of their translations."""
    for image, image_tiles in itertools.groupby(tiles, key=lambda tile: tile[0]):
        bands = tiling.blend((output for _, output in image_tiles), image.source.grid)
        if image.source.write_bands:
            image.source.write_bands(image.pixels, map(convert, bands))
            yield image, None
        else:
            yield image, image.source.converted(bands, convert)


def synced(networks: models.Networks, *, samples: int, seed: int) -> Float[Array, "n d"]:
    """The latents that `run` gives to every image with `sync`."""
    z_key, _ = jax.random.split(jax.random.key(seed))
    return sampling.latents(z_key, 1, samples, networks.latent_dim)[0]


def _translator(
    networks: models.Networks,
    state: TrainState,
    mode: sampling.Mode,
    mesh: Mesh,
    *,
    samples: int,
    seed: int,
    sync: bool,
    latents: Latents | None,
) -> Translate:
    """Latents and dropout keys are inputs of the compiled function, so that it is compiled for each shape but not for each seed."""
    key = jax.random.key(seed)
    state = jax.device_put(state, parallel.replicated(mesh))

    def draw(source_key: Array) -> tuple[Array | np.ndarray, Array]:
        z_key, dropout_key = jax.random.split(key if sync else jax.random.fold_in(key, source_key))
        z = sampling.latents(z_key, 1, samples, networks.latent_dim)[0] if latents is None else latents(source_key)
        return z, dropout_key

    def translate_image(state: TrainState, image: Array, z: Array, dropout_key: Array) -> Array:
        return sampling.translate(networks, state, image[None], z[None], dropout_key, mode=mode)[0]

    draw_batch = jax.jit(jax.vmap(draw))
    translate = parallel.shard_batch(lambda state, rows: jax.vmap(translate_image, (None, 0, 0, 0))(state, *rows), mesh)

    def run(tiles: np.ndarray, keys: np.ndarray) -> Array:
        tiles, keys = parallel.global_batch((tiles, keys), mesh)
        return translate(state, (augment.scale(tiles), *draw_batch(keys)))

    return run
