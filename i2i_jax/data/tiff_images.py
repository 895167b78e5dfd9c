"""TIFF by tifffile: 16 bits, any number of channels, and files stored in tiles, which can be read one region at a time."""

import dataclasses
import functools
import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from i2i_jax.data.image_header import (
    ORIENTATION_TAG,
    UPRIGHT,
    File,
    Header,
    Pixels,
    Unusable,
    check_size,
    known_orientation,
    naming,
    open_regular,
    with_channels,
)

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
THINNED = 2048  # pixels: at most the height and width of `Tiled.thinned`

# In these colour spaces the decoded samples are the pixels' values.
_DIRECT = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)


def tiff_header(file: File, max_pixels: int) -> Header | None:
    """The header of a TIFF of 16 bits or any number of channels; None for 8-bit photographs, which Pillow reads.

    Raises Unusable for samples other than uint8 and uint16, and for tiles of more than `max_pixels`.
    """
    page = tifffile.TiffFile(file).pages.first
    samples, grey = page.samplesperpixel, page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    file.seek(0)
    if page.is_tiled:
        check_size("is stored in tiles of", page.tilewidth, page.tilelength, max_pixels)
    if page.bitspersample <= 8 and (samples == 1 or (samples in (3, 4) and not grey)):
        return None
    if page.dtype not in (np.uint8, np.uint16):
        raise Unusable(f"has {page.dtype} samples: must be 8 or 16 bit")
    orientation = known_orientation(page.tags.valueof(ORIENTATION_TAG))

    def decode() -> np.ndarray:
        pixels = page.asarray()
        planar = samples > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        pixels = np.moveaxis(pixels, 0, 2) if planar else pixels.reshape(page.imagelength, page.imagewidth, samples)
        return UPRIGHT[orientation](_black_is_zero(page, pixels))

    height, width = (page.imagewidth, page.imagelength) if orientation >= 5 else (page.imagelength, page.imagewidth)
    return Header(height, width, samples, _has_alpha(page), decode, decode if samples == 1 and grey else None)


@dataclasses.dataclass(frozen=True, eq=False)
class Tiled:
    """A TIFF stored in tiles. `tiled[rows, columns]`, two slices, decodes only the tiles in that region.

    Attributes:
      path: the file.
      channels: number of channels of the regions; converted as in `images.read`.
      page: the file's first page.
      decode: `page.decode`, with the JPEG tables of the file.
      stored: for each tile, row by row, its offset in the file and its length in bytes.
    """

    path: Path
    channels: int
    page: tifffile.TiffPage
    decode: Callable[..., Any]
    stored: Sequence[tuple[int, int]]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.page.imagelength, self.page.imagewidth, self.channels

    def __getitem__(self, region: tuple[slice, slice]) -> Pixels:
        """Reads a region; both slices may have a step of 1 or more. Raises ImageError."""
        (top, bottom, row_step), (left, right, column_step) = (cut.indices(size) for cut, size in zip(region, self.shape, strict=False))
        page, tiles_across = self.page, -(-self.page.imagewidth // self.page.tilewidth)
        pixels = np.zeros((bottom - top, right - left, page.samplesperpixel), page.dtype)
        rows, columns = (range(start // size, -(-end // size)) for start, end, size in
                         ((top, bottom, page.tilelength), (left, right, page.tilewidth)))  # fmt: skip
        with naming(str(self.path)), open_regular(self.path) as file:
            for row, column in itertools.product(rows, columns):
                y, x = row * page.tilelength, column * page.tilewidth
                tile = self._decoded(file, row * tiles_across + column)[max(0, top - y) : bottom - y, max(0, left - x) : right - x]
                y, x = max(y, top) - top, max(x, left) - left
                pixels[y : y + len(tile), x : x + tile.shape[1]] = tile
            return with_channels(_black_is_zero(page, pixels[::row_step, ::column_step]), _has_alpha(page), self.channels)

    def _decoded(self, file: io.BufferedReader, number: int) -> Pixels:
        """One tile; the file's nodata value where the tile is not stored."""
        offset, length = self.stored[number]
        file.seek(offset)
        pixels, _, shape = self.decode(file.read(length) or None, number)
        return np.full(shape[1:], self.page.nodata, self.page.dtype) if pixels is None else pixels[0]

    @functools.cached_property
    def thinned(self) -> Pixels:
        """The whole image, every n-th pixel of every n-th row, with the smallest n so that no side is longer than THINNED."""
        height, width, _ = self.shape
        step = -(-max(height, width) // THINNED)
        rows = max(1, self.page.tilelength // step) * step  # read at a time
        return np.concatenate([self[top : top + rows : step, ::step] for top in range(0, height, rows)])


def tiled_page(file: io.BufferedReader) -> tifffile.TiffPage | None:
    """The first page of a TIFF that Tiled can read; None if the file is no TIFF, or has to be read whole."""
    if file.read(4) not in SIGNATURES:
        return None
    file.seek(0)
    page = tifffile.TiffFile(file).pages.first
    plain = page.planarconfig == tifffile.PLANARCONFIG.CONTIG and page.photometric in _DIRECT and page.dtype in (np.uint8, np.uint16)
    upright = known_orientation(page.tags.valueof(ORIENTATION_TAG)) == 1
    return page if page.is_tiled and plain and upright and page.bitspersample in (8, 16) and page.imagedepth == 1 else None


def tiled_from_page(path: Path, page: tifffile.TiffPage, *, channels: int) -> Tiled:
    """The Tiled of a page that `tiled_page` returned, while its file is still open."""
    decode = functools.partial(page.decode, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
    return Tiled(path, channels, page, decode, list(zip(page.dataoffsets, page.databytecounts, strict=True)))


def _black_is_zero(page: tifffile.TiffPage, pixels: Pixels) -> Pixels:
    return np.iinfo(pixels.dtype).max - pixels if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else pixels


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return bool(page.extrasamples) and page.extrasamples[-1] in (1, 2) and page.samplesperpixel in (2, 4)
