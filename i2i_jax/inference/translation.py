"""Many images through a trained generator: read, translated in batches on all devices and written at the same time."""

import dataclasses
import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Integer, UInt8

from i2i_jax import models, sampling
from i2i_jax.data import augment, images
from i2i_jax.devices import parallel
from i2i_jax.inference import tiling
from i2i_jax.train_state import TrainState

BATCH_PIXELS = 2**18  # that a device makes at a time
AHEAD_PIXELS = 2**22  # that are read, and that wait to be written, at a time

Item = TypeVar("Item")
Started = TypeVar("Started")
Pixels = Integer[np.ndarray, "h w c"]
Outputs = UInt8[np.ndarray, "n h w c"]
Made = tuple["_Image", np.ndarray]
BatchSize = Callable[[int, int, int], int]  # of tiles [h, w, c]
Latents = Callable[[Array], Array | np.ndarray]  # key of a source -> [n, d]
Translate = Callable[[np.ndarray, np.ndarray], Array]  # (tiles [b, h, w, c], keys [b]) -> [b, n, h, w, c_out]


class Source(NamedTuple):
    """An image to translate. What is made of it depends on its pixels and its `key` alone.

    `read` gives None where there is no image after all; `write` gets what was read and what was made of it.
    """

    key: int
    grid: tiling.Grid
    read: Callable[[], Pixels | images.Tiled | None]
    write: Callable[[Any, Outputs], None]


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
) -> Iterator[Source]:
    """Translates all sources and yields each once it is written.

    Their latents are `latents`, or else random ones, with `sync` the same for all.

    Batches of one shape are of one size, and filled up where there is too little: so each shape is compiled once, and the
    numbers do not depend on what else is in a batch.
    """
    in_all = sum(source.grid.number * math.prod(source.grid.tile) for source in sources)
    mesh = parallel.make_mesh(jax.local_devices()[: math.ceil(in_all * samples / BATCH_PIXELS)])
    translate = _translator(networks, state, mode, mesh, samples=samples, seed=seed, sync=sync, latents=latents)

    def batch_size(height: int, width: int, channels: int) -> int:
        return mesh.size * max(1, BATCH_PIXELS // (height * width * samples))

    def cost(made: Made) -> int:
        """Of writing: as many images wait as keep the pool busy, fewer if they are large."""
        return max(made[1].size, AHEAD_PIXELS // (2 * workers))

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        made = _blended(_made(_batches(_tiles(sources, pool), batch_size), translate, batch_size))
        writing = _ahead(lambda of: (of[0].source, pool.submit(of[0].source.write, of[0].pixels, of[1])), made, cost)
        for source, written in writing:
            written.result()
            yield source


def _ahead(start: Callable[[Item], Started], items: Iterable[Item], cost: Callable[[Item], int]) -> Iterator[Started]:
    """What `start` gives of each item, in order; before its turn comes the next one is started, and as many as cost AHEAD_PIXELS."""
    started: deque[tuple[Started, int]] = deque()
    spent = 0
    for item in items:
        started.append((start(item), cost(item)))
        spent += started[-1][1]
        while len(started) > 1 and spent > AHEAD_PIXELS:
            first, its_cost = started.popleft()
            spent -= its_cost
            yield first
    yield from (first for first, _ in started)


def _tiles(sources: Sequence[Source], pool: Executor) -> Iterator[_Tile]:
    """Those of one shape after each other."""
    ordered = sorted(sources, key=lambda source: source.grid.tile)
    for source, reading in _ahead(lambda source: (source, pool.submit(source.read)), ordered, lambda source: source.grid.area):
        if (pixels := reading.result()) is not None:
            image = _Image(source, pixels)
            yield from (_Tile(image, tile) for tile in tiling.cut(pixels, source.grid))


def _batches(tiles: Iterable[_Tile], size: BatchSize) -> Iterator[list[_Tile]]:
    """At most `size` tiles of one shape and type."""
    for (*shape, _), alike in itertools.groupby(tiles, key=lambda tile: (*tile.pixels.shape, tile.pixels.dtype)):
        while batch := list(itertools.islice(alike, size(*shape))):
            yield batch


def _made(batches: Iterable[list[_Tile]], translate: Translate, size: BatchSize) -> Iterator[Made]:
    """Of each tile its image and its translations [n, h, w, c]."""

    def start(batch: list[_Tile]) -> tuple[list[_Tile], Array]:
        tiles = np.stack([tile.pixels for tile in batch])
        keys = np.array([tile.image.source.key for tile in batch], np.uint32)
        filled = size(*tiles.shape[1:])
        return batch, translate(np.resize(tiles, (filled, *tiles.shape[1:])), np.resize(keys, filled))

    for batch, found in _ahead(start, batches, lambda _: AHEAD_PIXELS):
        yield from ((tile.image, output) for tile, output in zip(batch, np.asarray(found), strict=False))


def _blended(tiles: Iterable[Made]) -> Iterator[tuple[_Image, Outputs]]:
    for image, of_image in itertools.groupby(tiles, key=lambda of: of[0]):
        bands = tiling.blend((output for _, output in of_image), image.source.grid)
        yield image, np.concatenate([augment.to_uint8(band) for band in bands], 1)


def synced(networks: models.Networks, *, samples: int, seed: int) -> Float[Array, "n d"]:
    """The latents that `run` draws for all images with `sync`."""
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
    """What is drawn comes to the networks as data: they are compiled for a shape, not for a seed."""
    key = jax.random.key(seed)
    state = jax.device_put(state, parallel.replicated(mesh))

    def draw(own: Array) -> tuple[Array | np.ndarray, Array]:
        z_key, dropout_key = jax.random.split(key if sync else jax.random.fold_in(key, own))
        return sampling.latents(z_key, 1, samples, networks.latent_dim)[0] if latents is None else latents(own), dropout_key

    def one(state: TrainState, image: Array, z: Array, dropout_key: Array) -> Array:
        return sampling.translate(networks, state, image[None], z[None], dropout_key, mode=mode)[0]

    drawn = jax.jit(jax.vmap(draw))
    translate = parallel.shard_batch(lambda state, rows: jax.vmap(one, (None, 0, 0, 0))(state, *rows), mesh)

    def run(tiles: np.ndarray, keys: np.ndarray) -> Array:
        tiles, keys = parallel.global_batch((tiles, keys), mesh)
        return translate(state, (augment.scale(tiles), *drawn(keys)))

    return run
