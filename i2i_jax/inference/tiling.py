"""Images cut into overlapping tiles of one shape, and what was made of these blended into images without a seam."""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Integer

from i2i_jax.config import ConfigError


@runtime_checkable
class Sliced(Protocol):
    """An image [h, w, c] of which regions are had by `image[rows, columns]`, two slices."""

    def __getitem__(self, region: tuple[slice, slice], /) -> Any: ...


class Axis(NamedTuple):
    """How the `length` pixels of one axis are cut: into tiles of `tile` pixels from `starts` on, the last of which may end in padding.

    Of a tile nothing is used within `margin` pixels of a cut, and all from `ramp` pixels further on.
    """

    length: int
    tile: int
    starts: list[int]
    margin: int
    ramp: int

    @property
    def padded(self) -> int:
        return self.starts[-1] + self.tile

    @property
    def weights(self) -> Float[np.ndarray, "tiles tile"]:
        """Each tile's shares of its pixels; over the tiles that cover a pixel they sum to 1."""
        inside = (np.arange(self.tile) + 0.5 - self.margin) / self.ramp
        rising = np.sin(math.pi / 2 * np.clip(inside, 0, 1)) ** 2
        shares = np.ones((len(self.starts), self.tile))
        shares[1:] *= rising
        shares[:-1] *= rising[::-1]
        total = np.zeros(self.padded)
        for start, share in zip(self.starts, shares, strict=True):
            total[start : start + self.tile] += share
        return np.stack([x / total[i : i + self.tile] for i, x in zip(self.starts, shares, strict=True)]).astype(np.float32)


class Grid(NamedTuple):
    """The tiles of an image, row by row."""

    rows: Axis
    columns: Axis

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of every tile."""
        return self.rows.tile, self.columns.tile

    @property
    def area(self) -> int:
        """Of the image, in pixels."""
        return self.rows.length * self.columns.length

    @property
    def number(self) -> int:
        """Of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)


@functools.lru_cache
def grid(height: int, width: int, *, size_multiple: int, receptive_radius: int | None = None, tile: int | None = None) -> Grid:
    """Tiles of `tile` pixels square for a network that takes multiples of `size_multiple`; without `tile` the image is one tile.

    An output pixel depends on the inputs at most `receptive_radius` pixels away (None: on all). Of each tile only what depends on nothing
    beyond it is used, so the blend is what the network makes of the whole image. Raises ConfigError.
    """
    margin, step = (0, 1) if receptive_radius is None else (receptive_radius, size_multiple)

    def ramp(tile: int) -> int:
        return max(1, tile // 4 if receptive_radius is None else tile // 8)

    if tile is not None:
        smallest = next(t for t in itertools.count(size_multiple, size_multiple) if t - 2 * margin - ramp(t) >= step)
        if tile % size_multiple or tile < smallest:
            raise ConfigError(f"--tile is {tile}: must be a multiple of {size_multiple}, at least {smallest}")
    return Grid(*(_axis(length, tile, size_multiple, margin=margin, ramp=ramp(tile or 0), step=step) for length in (height, width)))


def _axis(length: int, tile: int | None, size_multiple: int, *, margin: int, ramp: int, step: int) -> Axis:
    padded = length + -length % size_multiple
    if tile is None or tile >= padded:
        return Axis(length, padded, [0], margin, ramp)
    stride = (tile - 2 * margin - ramp) // step * step
    return Axis(length, tile, [*range(0, padded - tile, stride), padded - tile], margin, ramp)


def cut(image: Sliced, grid: Grid) -> Iterator[Integer[np.ndarray, "_h _w c"]]:
    """The tiles of an image, padded by reflection on the right and at the bottom. Of it only they are read, one after another."""
    rows, columns = (list(_reflected(axis)) for axis in grid)
    for (top, down), (left, along) in itertools.product(rows, columns):
        yield image[top, left][np.ix_(down, along)]


def _reflected(axis: Axis) -> Iterator[tuple[slice, Int[np.ndarray, " tile"]]]:
    """For each tile the part of the axis that it needs, and its pixels' places in that."""
    places = np.pad(np.arange(axis.length), (0, axis.padded - axis.length), mode="symmetric")
    for start in axis.starts:
        own = places[start : start + axis.tile]
        first = own.min()
        yield slice(int(first), int(own.max()) + 1), own - first


def blend(tiles: Iterable[Float[np.ndarray, "n _h _w c"]], grid: Grid) -> Iterator[Float[np.ndarray, "n _ w c"]]:
    """The image that tiles in the order of `cut` make, a band of rows at a time, from top to bottom."""
    rows, columns = grid
    tiles = iter(tiles)
    carried = None
    for top, end, share in zip(rows.starts, [*rows.starts[1:], rows.length], rows.weights, strict=True):
        band = _band([next(tiles) for _ in columns.starts], columns) * share[:, None, None]
        if carried is not None:
            band[:, : carried.shape[1]] += carried
        yield band[:, : end - top]
        carried = band[:, end - top :]


def _band(tiles: list[np.ndarray], columns: Axis) -> np.ndarray:
    """Tiles side by side."""
    samples, height, _, channels = tiles[0].shape
    band = np.zeros((samples, height, columns.padded, channels), np.float32)
    for tile, start, share in zip(tiles, columns.starts, columns.weights, strict=True):
        band[:, :, start : start + columns.tile] += tile * share[:, None]
    return band[:, :, : columns.length]
