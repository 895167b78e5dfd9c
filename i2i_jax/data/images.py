"""Image files to arrays: uint8 or uint16 [h, w, c], whatever the format."""

import contextlib
import dataclasses
import functools
import io
import itertools
import os
import stat
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from jaxtyping import Integer
from PIL import Image, UnidentifiedImageError

from i2i_jax.devices import crashes

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 100_000_000
THINNED = 2048

UNDECODABLE = "cannot be decoded, it is damaged, cut short or of a rare kind: save it again, as PNG"

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Whose numbers are the image's, as they are decoded.
_DIRECT = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)

# Pillow knows many more, some of which run other programs.
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")

File = io.BytesIO | io.BufferedReader
Pixels = Integer[np.ndarray, "_height _width _channels"]

_ORIENTATION_TAG = 274
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


class ImageError(ValueError):
    """An image that cannot be used: one line that names the file, what was found and what would do."""


class _Unfit(ValueError):
    """That line without the name."""


class Header(NamedTuple):
    """What is known before decoding; `height` and `width` of the upright image, `alpha` if the last channel is that."""

    height: int
    width: int
    channels: int
    alpha: bool
    decode: Callable[[], Pixels]


def read(source: str | Path | bytes, *, channels: int, max_pixels: int = MAX_PIXELS, name: str = "") -> Pixels:
    """A file or its bytes, upright, with `channels` channels; 16 bits where the file has them. Animations: the first frame.

    1 is grey and 3 is RGB, to which everything usual is converted, transparency over white. Any other number must be the
    file's own. Raises ImageError, which names the path, or `name` for bytes.
    """
    with _opened(source, (channels,), max_pixels, name) as header:
        return _with_channels(_decoded(header), header.alpha, channels)


def read_halves(
    source: str | Path | bytes, *, channels: tuple[int, int], max_pixels: int = MAX_PIXELS, name: str = ""
) -> tuple[Pixels, Pixels]:
    """As `read`, the left half and the right half of an image, each with its own number of channels."""
    with _opened(source, channels, max_pixels, name) as header:
        pixels = _decoded(header)
        half, odd = divmod(pixels.shape[1], 2)
        if odd:
            raise _Unfit(odd_width(pixels.shape[1]))
        left, right = (_with_channels(x, header.alpha, c) for x, c in zip((pixels[:, :half], pixels[:, half:]), channels, strict=True))
        return left, right


def odd_width(width: int) -> str:
    return f"is {width} pixels wide: a side-by-side pair must have an even width"


def size(source: str | Path, *, channels: int, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width, from the header alone. Raises ImageError for what `read` would refuse by its header."""
    with _opened(source, (channels,), max_pixels, "") as header:
        return header.height, header.width


def colours(source: str | Path, *, max_pixels: int = MAX_PIXELS) -> int:
    """Channels without alpha, from the header alone. Raises ImageError."""
    with _opened(source, (), max_pixels, "") as header:
        return header.channels - header.alpha


def from_pillow(image: Image.Image, *, channels: int) -> Pixels:
    """As `read`, of an image that Pillow has opened or made. Raises ImageError."""
    with _named(getattr(image, "filename", "") or "image"):
        header = _of_pillow(image)
        _refuse_channels(header, (channels,))
        return _with_channels(_decoded(header), header.alpha, channels)


@dataclasses.dataclass(frozen=True, eq=False)
class Tiled:
    """A TIFF stored in tiles: `tiled[rows, columns]`, of slices, decodes only those that it needs. Raises ImageError."""

    path: Path
    channels: int
    page: tifffile.TiffPage
    decode: Callable[..., Any]
    stored: Sequence[tuple[int, int]]  # where each tile begins in the file, and its bytes

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.page.imagelength, self.page.imagewidth, self.channels

    def __getitem__(self, region: tuple[slice, slice]) -> Pixels:
        """With a step of 1 or more."""
        (top, bottom, down), (left, right, along) = (cut.indices(size) for cut, size in zip(region, self.shape, strict=False))
        page, across = self.page, -(-self.page.imagewidth // self.page.tilewidth)
        found = np.zeros((bottom - top, right - left, page.samplesperpixel), page.dtype)
        rows, columns = (range(start // size, -(-end // size)) for start, end, size in
                         ((top, bottom, page.tilelength), (left, right, page.tilewidth)))  # fmt: skip
        with _named(str(self.path)), _regular(self.path) as file:
            for row, column in itertools.product(rows, columns):
                y, x = row * page.tilelength, column * page.tilewidth
                tile = self._decoded(file, row * across + column)[max(0, top - y) : bottom - y, max(0, left - x) : right - x]
                y, x = max(y, top) - top, max(x, left) - left
                found[y : y + len(tile), x : x + tile.shape[1]] = tile
            return _with_channels(_dark_zero(page, found[::down, ::along]), _has_alpha(page), self.channels)

    def _decoded(self, file: io.BufferedReader, number: int) -> Pixels:
        start, count = self.stored[number]
        file.seek(start)
        pixels, _, shape = self.decode(file.read(count) or None, number)
        return np.full(shape[1:], self.page.nodata, self.page.dtype) if pixels is None else pixels[0]

    @functools.cached_property
    def thinned(self) -> Pixels:
        """The whole, of every so many pixels that it is at most THINNED high and wide."""
        height, width, _ = self.shape
        step = -(-max(height, width) // THINNED)
        rows = max(1, self.page.tilelength // step) * step  # at a time
        return np.concatenate([self[top : top + rows : step, ::step] for top in range(0, height, rows)])


def tiled(path: Path, *, channels: int, max_pixels: int = MAX_PIXELS) -> Tiled | None:
    """To be read tile by tile, if the file can be. Raises ImageError for what `read` would refuse by its header."""
    with _named(str(path)), _regular(path) as file:
        if file.read(4) not in _TIFF:
            return None
        file.seek(0)
        page = tifffile.TiffFile(file).pages.first
        plain = page.planarconfig == tifffile.PLANARCONFIG.CONTIG and page.photometric in _DIRECT and page.dtype in (np.uint8, np.uint16)
        upright = _known_orientation(page.tags.valueof(_ORIENTATION_TAG)) == 1
        if not (page.is_tiled and plain and upright and page.bitspersample in (8, 16) and page.imagedepth == 1):
            return None
        size(path, channels=channels, max_pixels=max_pixels)
        decode = functools.partial(page.decode, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        return Tiled(path, channels, page, decode, list(zip(page.dataoffsets, page.databytecounts, strict=True)))


@contextlib.contextmanager
def _opened(source: str | Path | bytes, wanted: Collection[int], max_pixels: int, name: str) -> Iterator[Header]:
    name = name or "image" if isinstance(source, bytes) else str(source)
    with _named(name), io.BytesIO(source) if isinstance(source, bytes) else _regular(source) as file:
        header = _header(file, max_pixels)
        _refuse_size("is", header.width, header.height, max_pixels)
        _refuse_channels(header, wanted)
        yield header


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with an image, as an ImageError that names it."""
    try:
        yield
    except ImageError:
        raise
    except _Unfit as error:
        raise ImageError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: is not an image") from None
    except OSError as error:
        raise ImageError(f"{name}: " + (f"cannot be read ({error.strerror})" if error.strerror else UNDECODABLE)) from error
    except Exception as error:  # decoders raise whatever they like
        if crashes.out_of_memory(error):
            raise
        raise ImageError(f"{name}: {UNDECODABLE}") from error


def _regular(path: str | Path) -> io.BufferedReader:
    """The open file; to open anything but a regular file may take forever."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise _Unfit(f"is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}: must be an image file")
    return open(path, "rb")


def _refuse_size(found: str, width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < 1:
        raise _Unfit(f"{found} {width}x{height}: has no pixels")
    if width * height > max_pixels:
        raise _Unfit(f"{found} {width}x{height}: {width * height} pixels, more than max_pixels={max_pixels} allows")


def _refuse_channels(header: Header, wanted: Collection[int]) -> None:
    if impossible := [channels for channels in wanted if channels not in _possible_channels(header)]:
        raise _Unfit(f"has {header.channels} channels: must have {impossible[0]}")


def _header(file: File, max_pixels: int) -> Header:
    start = file.read(26)
    file.seek(0)
    if not start:
        raise _Unfit("is an empty file")
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10":
        return _deep_png(file, colour_type=start[25])
    if start[:4] in _TIFF and (header := _scientific_tiff(file, max_pixels)):
        return header
    return _of_pillow(_pillow_open(file))


def _pillow_open(file: File) -> Image.Image:
    """`Image.open` without its limit of pixels, which the whole program shares: `max_pixels` is ours."""
    start = file.read(16)
    for name in _PILLOW_FORMATS:
        if name not in Image.OPEN:
            Image.init()
        factory, accepts = Image.OPEN[name]
        file.seek(0)
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # what `Image.open` takes for another format
            if accepts is None or accepts(start) is True:
                return factory(file, "")
    raise UnidentifiedImageError


def _of_pillow(image: Image.Image) -> Header:
    mode, orientation = _pillow_mode(image), _pillow_orientation(image)

    def decode() -> np.ndarray:
        pixels = np.asarray(image if mode.startswith("I;16") else image.convert(mode))
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        return _UPRIGHT[orientation](native.reshape(*pixels.shape[:2], -1))

    width, height = image.size[::-1] if orientation >= 5 else image.size

    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
    return Header(height, width, channels, mode in ("LA", "RGBA"), decode)


def _pillow_mode(image: Image.Image) -> str:
    """The mode that holds all that a file has to say."""
    if image.mode.startswith("I;16"):
        return image.mode
    if image.mode in ("I", "F"):
        raise _Unfit("has 32-bit samples: must be 8 or 16 bit")
    transparent = image.has_transparency_data
    if image.mode in ("1", "L", "LA", "La"):
        return "LA" if transparent else "L"
    return "RGBA" if transparent else "RGB"


def _pillow_orientation(image: Image.Image) -> int:
    """A key of _UPRIGHT: what is left to do after Pillow, which turns TIFF itself."""
    # Asked for the Exif of a PNG that has none before its pixels, Pillow decodes it all.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    return _known_orientation(image.getexif().get(_ORIENTATION_TAG))


def _known_orientation(tag: object) -> int:
    return tag if isinstance(tag, int) and tag in _UPRIGHT else 1


def _deep_png(file: File, colour_type: int) -> Header:
    """16-bit PNG, which Pillow reduces to 8 bits unless it is grey."""
    image = _pillow_open(file)
    orientation = _pillow_orientation(image)
    channels, alpha = {0: (1, False), 2: (3, False), 4: (2, True), 6: (4, True)}[colour_type]

    def decode() -> np.ndarray:
        file.seek(0)
        pixels = imagecodecs.png_decode(file.read())
        return _UPRIGHT[orientation](pixels.reshape(*pixels.shape[:2], -1))

    width, height = image.size[::-1] if orientation >= 5 else image.size
    return Header(height, width, channels, alpha, decode)


def _scientific_tiff(file: File, max_pixels: int) -> Header | None:
    """TIFF of 16 bits or any number of channels; None for the photographs that Pillow reads."""
    page = tifffile.TiffFile(file).pages.first
    samples, grey = page.samplesperpixel, page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    file.seek(0)
    if page.is_tiled:
        _refuse_size("is stored in tiles of", page.tilewidth, page.tilelength, max_pixels)
    if page.bitspersample <= 8 and (samples == 1 or (samples in (3, 4) and not grey)):
        return None
    if page.dtype not in (np.uint8, np.uint16):
        raise _Unfit(f"has {page.dtype} samples: must be 8 or 16 bit")
    orientation = _known_orientation(page.tags.valueof(_ORIENTATION_TAG))

    def decode() -> np.ndarray:
        pixels = page.asarray()
        planar = samples > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        pixels = np.moveaxis(pixels, 0, 2) if planar else pixels.reshape(page.imagelength, page.imagewidth, samples)
        return _UPRIGHT[orientation](_dark_zero(page, pixels))

    height, width = (page.imagewidth, page.imagelength) if orientation >= 5 else (page.imagelength, page.imagewidth)
    return Header(height, width, samples, _has_alpha(page), decode)


def _dark_zero(page: tifffile.TiffPage, pixels: Pixels) -> Pixels:
    return np.iinfo(pixels.dtype).max - pixels if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else pixels


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return bool(page.extrasamples) and page.extrasamples[-1] in (1, 2) and page.samplesperpixel in (2, 4)


def _decoded(header: Header) -> Pixels:
    pixels = header.decode()
    if pixels.dtype not in (np.uint8, np.uint16):
        raise _Unfit(f"has {pixels.dtype} samples: must be 8 or 16 bit")
    return pixels


def _possible_channels(header: Header) -> set[int]:
    usual = header.channels - header.alpha in (1, 3)
    return {header.channels, 1, 3} if usual else {header.channels}


def _with_channels(pixels: Pixels, alpha: bool, channels: int) -> Pixels:
    if alpha and pixels.shape[2] != channels:
        pixels = _over_white(pixels)
    if pixels.shape[2] != channels:
        pixels = np.repeat(pixels, 3, 2) if channels == 3 else _grey(pixels)
    return np.ascontiguousarray(pixels)


def _over_white(pixels: Pixels) -> Pixels:
    white = np.iinfo(pixels.dtype).max
    colour, opacity = pixels[:, :, :-1].astype(np.uint32), pixels[:, :, -1:].astype(np.uint32)
    return ((colour * opacity + white * (white - opacity) + white // 2) // white).astype(pixels.dtype)


def _grey(pixels: Pixels) -> Pixels:
    """Luma of ITU-R BT.601 in Pillow's fixed point."""
    luma = pixels.astype(np.uint32) @ np.array([[19595], [38470], [7471]], np.uint32)
    return ((luma + 0x8000) >> 16).astype(pixels.dtype)
