"""TIFF by tifffile: 16 bits, floats, any number of channels, and files stored in tiles, which can be read one region at a time."""

import contextlib
import dataclasses
import functools
import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import UnidentifiedImageError

from i2i_jax.data import pillow_images, values
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
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_OLD_SUBFILE_TAG = 255  # 2 for a reduced image
THINNED = 2048  # pixels: at most the height and width of `Tiled.thinned`

# In these colour spaces the decoded samples are the pixels' values.
_DIRECT = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)


def tiff_header(file: File, max_pixels: int) -> Header:
    """The header of a TIFF; 8-bit photographs are decoded by Pillow, unless as many channels are wanted as there are bands.

    Raises Unusable for samples of other types than `values.TYPES` and `values.FLOATS`, for tiles of more than `max_pixels`, and for
    several pages.
    """
    tiff = tifffile.TiffFile(file)
    page = tiff.pages.first
    if page.is_tiled:
        check_size("is stored in tiles of", page.tilewidth, page.tilelength, max_pixels)
    if (pages := _page_count(tiff)) > 1:
        return _stack_header(tiff, pages)
    file.seek(0)
    samples, photometric = page.samplesperpixel, page.photometric
    few_bits = page.bitspersample <= 8
    if few_bits and samples == 1:
        return pillow_images.pillow_header(pillow_images.open_pillow(file))
    if few_bits and samples in (3, 4) and photometric != tifffile.PHOTOMETRIC.MINISBLACK:
        return _photograph_header(file, page)
    stored = _stored_header(page)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE and samples > 1:
        return stored._replace(decode=lambda: _black_is_zero(page, stored.decode()), bands=stored)
    return stored


def _photograph_header(file: File, page: tifffile.TiffPage) -> Header:
    """The header that Pillow reads, with that of the stored bands; or the latter alone for what Pillow cannot open."""
    is_ycbcr = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.samplesperpixel == 3
    bands = None if is_ycbcr or page.bitspersample < 8 or page.dtype != np.uint8 else _stored_header(page)
    try:
        photograph = pillow_images.pillow_header(pillow_images.open_pillow(file))
    except UnidentifiedImageError:
        if bands is None:
            raise
        return bands
    is_rgb = page.photometric == tifffile.PHOTOMETRIC.RGB and page.samplesperpixel == 3
    return photograph if is_rgb else photograph._replace(bands=bands)


def _stored_header(page: tifffile.TiffPage) -> Header:
    """The header of a page with its bands as they are stored; a single grey band is turned so that 0 is black."""
    samples = page.samplesperpixel

    def pixels() -> np.ndarray:
        stored = page.asarray()
        planar = samples > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        shaped = np.moveaxis(stored, 0, 2) if planar else stored.reshape(page.imagelength, page.imagewidth, samples)
        return _black_is_zero(page, shaped) if samples == 1 else shaped

    return _upright_header(page, samples, _has_alpha(page), pixels)


def _stack_header(tiff: tifffile.TiffFile, pages: int) -> Header:
    """The header of an ImageJ stack of channels, one on each page. Raises Unusable for other files of several pages."""
    page, series = tiff.pages.first, tiff.series[0]
    if not (page.is_imagej and series.axes == "CYX" and series.shape[0] == pages):
        raise Unusable(f"has {pages} pages: must have 1, or be an ImageJ stack of channels; save the page that is needed by itself")
    header = _upright_header(page, pages, False, lambda: np.moveaxis(series.asarray(), 0, 2).astype(page.dtype, copy=False))
    return header._replace(pages=pages)


def _upright_header(page: tifffile.TiffPage, channels: int, alpha: bool, pixels: Callable[[], np.ndarray]) -> Header:
    if str(page.dtype) not in (*values.TYPES, *values.FLOATS):
        raise Unusable(f"has {page.dtype} samples: {values.ALLOWED}")
    orientation = known_orientation(page.tags.valueof(ORIENTATION_TAG))
    height, width = (page.imagewidth, page.imagelength) if orientation >= 5 else (page.imagelength, page.imagewidth)

    def decode() -> Pixels:
        return UPRIGHT[orientation](pixels())

    has_ids = channels == 1 and page.photometric == tifffile.PHOTOMETRIC.MINISBLACK and _is_unsigned(page)
    ids = decode if has_ids else None
    return Header(height, width, channels, alpha, decode, ids=ids)


def _page_count(tiff: tifffile.TiffFile) -> int:
    """Number of images in the file, without overviews, thumbnails and masks. A large ImageJ file has one page for all of them."""
    first, count = tiff.pages.first, 1
    for index in range(1, len(tiff.pages)):
        with contextlib.suppress(tifffile.TiffFileError):  # some writers end a file with an offset that leads to no page
            count += not _is_reduced_or_mask(tiff.pages.get(index, aspage=True))
    if first.is_imagej or first.is_shaped:
        count = max(count, tiff.series[0].size // max(first.size, 1))
    return count


def _is_reduced_or_mask(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    if not isinstance(page, tifffile.TiffPage):
        return False
    return bool(page.subfiletype & (_REDUCED | _MASK)) or page.tags.valueof(_OLD_SUBFILE_TAG) == 2


@dataclasses.dataclass(frozen=True, eq=False)
class Tiled:
    """A TIFF stored in tiles. `tiled[rows, columns]`, two slices, decodes only the tiles in that region.

    Attributes:
        path: the file.
        channels: number of channels of the regions; converted as in `images.read`.
        page: the file's first page.
        decode: `page.decode`, with the JPEG tables of the file.
        stored: for each tile, row by row, its offset in the file and its length in bytes.
        scale: scales the samples of the regions, as in `images.read`; None: they are as in the file.
    """

    path: Path
    channels: int
    page: tifffile.TiffPage
    decode: Callable[..., Any]
    stored: Sequence[tuple[int, int]]
    scale: values.Scale | None = None

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
            pixels = values.checked(pixels)[::row_step, ::column_step]
            stays = self.channels == page.samplesperpixel > 1
            converted = with_channels(pixels if stays else _black_is_zero(page, pixels), _has_alpha(page), self.channels)
            return self.scale.applied(converted) if self.scale else converted

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


def tiled_page(file: io.BufferedReader, channels: int) -> tifffile.TiffPage | None:
    """The first page of a TIFF that Tiled can read with `channels`; None if the file is no TIFF, or has to be read whole."""
    if file.read(4) not in SIGNATURES:
        return None
    file.seek(0)
    tiff = tifffile.TiffFile(file)
    page = tiff.pages.first
    samples = page.samplesperpixel
    direct = samples == channels > 1 or (page.photometric in _DIRECT and samples - _has_alpha(page) in (1, 3))
    supported = page.dtype is not None and page.dtype.name in (*values.TYPES, *values.FLOATS)
    whole_bytes = page.dtype is not None and page.bitspersample == 8 * page.dtype.itemsize
    plain = page.planarconfig == tifffile.PLANARCONFIG.CONTIG and direct and supported and whole_bytes
    upright = known_orientation(page.tags.valueof(ORIENTATION_TAG)) == 1
    by_tiles = page.is_tiled and plain and upright and page.imagedepth == 1
    return page if by_tiles and _page_count(tiff) == 1 else None


def tiled_from_page(path: Path, page: tifffile.TiffPage, *, channels: int, scale: values.Scale | None = None) -> Tiled:
    """The Tiled of a page that `tiled_page` returned, while its file is still open."""
    decode = functools.partial(page.decode, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
    return Tiled(path, channels, page, decode, list(zip(page.dataoffsets, page.databytecounts, strict=True)), scale)


def _black_is_zero(page: tifffile.TiffPage, pixels: Pixels) -> Pixels:
    """The pixels turned so that 0 is black; signed ones and floats, which have no fixed white, as they are stored."""
    is_white_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and _is_unsigned(page)
    return np.iinfo(pixels.dtype).max - pixels if is_white_zero else pixels


def _is_unsigned(page: tifffile.TiffPage) -> bool:
    return page.dtype is not None and page.dtype.kind == "u"


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return _is_unsigned(page) and bool(page.extrasamples) and page.extrasamples[-1] in (1, 2) and page.samplesperpixel in (2, 4)
