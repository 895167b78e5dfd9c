"""Cuts images into overlapping tiles of one shape and blends the translated tiles into seamless images."""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Num

from i2i_jax.config import ConfigError


@runtime_checkable
class Sliced(Protocol):
    """An image [h, w, c] whose regions are read by `image[rows, columns]` with two slices: an array, or a file read in parts."""

    def __getitem__(self, region: tuple[slice, slice], /) -> Any: ...


class Axis(NamedTuple):
    """How one axis of an image is cut into tiles. The last tile may end in padding.

    Attributes:
        length: pixels of the image along this axis.
        tile: pixels of each tile.
        starts: first pixel of each tile.
        margin: pixels next to a cut that are discarded.
        ramp: pixels after the margin over which the weight of a tile rises from 0 to 1.
    """

    length: int
    tile: int
    starts: list[int]
    margin: int
    ramp: int

    @property
    def padded(self) -> int:
        """Length with padding, in pixels."""
        return self.starts[-1] + self.tile

    @property
    def weights(self) -> Float[np.ndarray, "tiles tile"]:
        """The blending weight of each pixel of each tile; the weights of all tiles that cover a pixel sum to 1."""
        inside = (np.arange(self.tile) + 0.5 - self.margin) / self.ramp
        rising = np.sin(math.pi / 2 * np.clip(inside, 0, 1)) ** 2
        weights = np.ones((len(self.starts), self.tile))
        weights[1:] *= rising
        weights[:-1] *= rising[::-1]
        total = np.zeros(self.padded)
        for start, weight in zip(self.starts, weights, strict=True):
            total[start : start + self.tile] += weight
        return np.stack([x / total[i : i + self.tile] for i, x in zip(self.starts, weights, strict=True)]).astype(np.float32)


class Grid(NamedTuple):
    """The tiles of an image, in row-major order."""

    rows: Axis
    columns: Axis

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of every tile."""
        return self.rows.tile, self.columns.tile

    @property
    def area(self) -> int:
        """Pixels of the image."""
        return self.rows.length * self.columns.length

    @property
    def number(self) -> int:
        """Number of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)


@functools.lru_cache
def grid(height: int, width: int, *, size_multiple: int, receptive_radius: int | None = None, tile: int | None = None) -> Grid:
    """Plans the tiles of an image.

    For a network with a finite receptive field only those pixels of a tile are used that depend on nothing outside the tile,
    so the blended tiles equal the network's output for the whole image.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.
        size_multiple: height and width of the network's inputs must be multiples of this.
        receptive_radius: an output pixel depends on input pixels at most this far away; None: on the whole image.
        tile: height and width of a tile in pixels; defaults to one tile for the whole image.

    Raises:
        ConfigError: if `tile` is not a multiple of `size_multiple`, or too small to overlap.
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


def cut(image: Sliced, grid: Grid) -> Iterator[Num[np.ndarray, "_h _w c"]]:
    """Yields the tiles of an image, padded by reflection on the right and at the bottom.

    Regions are read from `image` one tile at a time, so that a large image never has to be in memory as a whole.
    """
    rows, columns = (list(_reflected(axis)) for axis in grid)
    for (vertical, row_indices), (horizontal, column_indices) in itertools.product(rows, columns):
        yield image[vertical, horizontal][np.ix_(row_indices, column_indices)]


def _reflected(axis: Axis) -> Iterator[tuple[slice, Int[np.ndarray, " tile"]]]:
    """For each tile the slice of the axis that it needs, and the indices of its pixels within this slice."""
    indices = np.pad(np.arange(axis.length), (0, axis.padded - axis.length), mode="symmetric")
    for start in axis.starts:
        own = indices[start : start + axis.tile]
        first = own.min()
        yield slice(int(first), int(own.max()) + 1), own - first


def blend(tiles: Iterable[Float[np.ndarray, "n _h _w c"]], grid: Grid) -> Iterator[Float[np.ndarray, "n _ w c"]]:
    """Blends translated tiles into images, holding only one row of tiles in memory.

    Args:
        tiles: for each tile, in the order of `cut`, its n translations.
        grid: the grid that the image was cut by.

    Yields:
        The n blended images in horizontal bands, from top to bottom.
    """
    rows, columns = grid
    tiles = iter(tiles)
    overlap = None
    for top, end, weight in zip(rows.starts, [*rows.starts[1:], rows.length], rows.weights, strict=True):
        band = _band([next(tiles) for _ in columns.starts], columns) * weight[:, None, None]
        if overlap is not None:
            band[:, : overlap.shape[1]] += overlap
        yield band[:, : end - top]
        overlap = band[:, end - top :]


def _band(tiles: list[np.ndarray], columns: Axis) -> np.ndarray:
    """Blends one row of tiles."""
    samples, height, _, channels = tiles[0].shape
    band = np.zeros((samples, height, columns.padded, channels), np.float32)
    for tile, start, weight in zip(tiles, columns.starts, columns.weights, strict=True):
        band[:, :, start : start + columns.tile] += tile * weight[:, None]
    return band[:, :, : columns.length]
