"""What all readers of image files share: the header of an opened image, its errors, and the conversion of channels."""

import contextlib
import functools
import io
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Num
from PIL import UnidentifiedImageError

from i2i_jax.devices import crashes

UNDECODABLE = "cannot be decoded, it is damaged, cut short or of a rare kind: save it again, as PNG"
ORIENTATION_TAG = 274  # in Exif and in TIFF

File = io.BytesIO | io.BufferedReader
Pixels = Num[np.ndarray, "_height _width _channels"]

# Stored image to upright image, by the value of ORIENTATION_TAG.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
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
    """An image that cannot be used. The message is one line: the file, what was found and what is needed."""


class Unusable(ValueError):
    """Why an image cannot be used, without the file's name; `naming` turns it into an ImageError."""


class Header(NamedTuple):
    """What is known of an image before its pixels are decoded.

    Attributes:
        height: of the upright image, in pixels.
        width: of the upright image, in pixels.
        channels: number of channels, alpha included.
        alpha: whether the last channel is alpha.
        decode: decodes the upright image.
        bands: the header of the same image with its bands as they are stored, if `decode` converts them: Pillow does so with CMYK, and
            drops the fourth band of RGB.
        pages: number of pages in which the channels are stored.
        ids: decodes the upright image to the values that the file stores, [h, w, 1], without a palette; None if it is neither a grey
            nor a palette image, or is lossy.
        palette: whether the pixels are indices into a palette, whose colours `decode` returns.
        lossy: whether the file is compressed with loss, as JPEG.
        npy: whether the file is a NumPy array.
    """

    height: int
    width: int
    channels: int
    alpha: bool
    decode: Callable[[], Pixels]
    bands: "Header | None" = None
    pages: int = 1
    ids: Callable[[], Pixels] | None = None
    palette: bool = False
    lossy: bool = False
    npy: bool = False

    def with_cached_pixels(self) -> "Header":
        """The same header, which decodes its pixels, and its bands, once."""
        return self._replace(decode=functools.cache(self.decode), bands=self.bands and self.bands.with_cached_pixels())

    def for_channels(self, channels: int) -> "Header":
        """The header whose `decode` is to be used for this number of channels: the stored bands, if there are as many."""
        return self.bands if self.bands and self.bands.channels == channels else self


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Turns whatever goes wrong with an image inside the block into an ImageError that names it; running out of memory passes."""
    try:
        yield
    except ImageError:
        raise
    except Unusable as error:
        raise ImageError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: is not an image") from None
    except OSError as error:
        raise ImageError(f"{name}: " + (f"cannot be read ({error.strerror})" if error.strerror else UNDECODABLE)) from error
    except Exception as error:  # decoders raise exceptions of any type
        if crashes.out_of_memory(error):
            raise
        raise ImageError(f"{name}: {UNDECODABLE}") from error


def open_regular(path: str | Path) -> io.BufferedReader:
    """Opens a file for reading. Raises Unusable unless it is a regular file: opening a pipe or a device may block forever."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise Unusable(f"is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}: must be an image file")
    return open(path, "rb")


def check_size(subject: str, width: int, height: int, max_pixels: int) -> None:
    """Raises Unusable unless the image has between 1 and `max_pixels` pixels; `subject` begins the message."""
    if min(width, height) < 1:
        raise Unusable(f"{subject} {width}x{height}: has no pixels")
    if width * height > max_pixels:
        raise Unusable(f"{subject} {width}x{height}: {width * height} pixels, more than max_pixels={max_pixels} allows")


def check_channels(header: Header, wanted: Collection[int]) -> None:
    """Raises Unusable unless the image can be converted to each of the numbers of channels in `wanted`."""
    if impossible := [channels for channels in wanted if channels not in _possible_channels(header.for_channels(channels))]:
        stored = header.bands or header
        count = f"{stored.pages} pages, the channels of an ImageJ stack" if stored.pages > 1 else f"{stored.channels} channels"
        raise Unusable(f"has {count}: must have {impossible[0]}")


def _possible_channels(header: Header) -> set[int]:
    convertible = header.pages == 1 and header.channels - header.alpha in (1, 3)
    return {header.channels, 1, 3} if convertible else {header.channels}


def known_orientation(tag: object) -> int:
    """The value of ORIENTATION_TAG; 1 (upright) if it is missing or not a valid value."""
    return tag if isinstance(tag, int) and tag in UPRIGHT else 1


def with_channels(pixels: Pixels, alpha: bool, channels: int) -> Pixels:
    """Converts pixels to 1 channel (grey) or 3 (RGB), transparency over white; pixels that have `channels` stay as they are."""
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
    """Luma of ITU-R BT.601, for integers in Pillow's fixed point."""
    if pixels.dtype.kind == "f":
        return pixels @ (np.array([[19595], [38470], [7471]], np.float32) / 2**16)
    if pixels.dtype.kind == "i":  # the same number is added before and subtracted after, so that no value is negative
        return (_grey((pixels.astype(np.int32) + 2**15).astype(np.uint16)).astype(np.int32) - 2**15).astype(np.int16)
    luma = pixels.astype(np.uint32) @ np.array([[19595], [38470], [7471]], np.uint32)
    return ((luma + 0x8000) >> 16).astype(pixels.dtype)
