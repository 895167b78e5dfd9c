"""Image files to arrays: uint8 or uint16 [h, w, c], whatever the format."""

import contextlib
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from i2i_jax.data import image_header, pillow_images, tiff_images
from i2i_jax.data.image_header import UNDECODABLE, File, Header, ImageError, Pixels, Unusable, naming, open_regular
from i2i_jax.data.tiff_images import Tiled

__all__ = [
    "EXTENSIONS", "MAX_PIXELS", "UNDECODABLE", "ImageError", "Tiled",
    "bands", "check_same_size", "colours", "from_pillow", "is_grey", "odd_width", "read", "read_halves", "size", "tiled",
]  # fmt: skip

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 100_000_000


def read(source: str | Path | bytes, *, channels: int, max_pixels: int = MAX_PIXELS, name: str = "") -> Pixels:
    """Reads an image, turned upright by its Exif orientation; of an animation, the first frame.

    A TIFF with as many bands as `channels` is read as it is stored, whatever its tags call them; so are the channels of an ImageJ stack,
    which are pages. Any other TIFF of several pages is refused.

    Args:
      source: the path of a file, or the content of one.
      channels: 1 for grey or 3 for RGB, to which grey, RGB, palette and CMYK images are converted, transparency composited over
        white. Any other number must be the file's own.
      max_pixels: the most pixels an image may have; checked before it is decoded.
      name: names the image in errors where `source` is bytes.

    Returns:
      Pixels [h, w, channels], uint16 if the file has 16 bits, else uint8.

    Raises:
      ImageError: if the file cannot be read, is too large or has another number of channels.
    """
    with _opened(source, (channels,), max_pixels, name) as header:
        chosen = header.for_channels(channels)
        return image_header.with_channels(_decoded(chosen), chosen.alpha, channels)


def read_halves(
    source: str | Path | bytes, *, channels: tuple[int, int], max_pixels: int = MAX_PIXELS, name: str = ""
) -> tuple[Pixels, Pixels]:
    """Reads a side-by-side pair: like `read`, but returns the left and the right half, each with its own number of channels.

    Raises:
      ImageError: as `read`, and if the width is odd.
    """
    with _opened(source, channels, max_pixels, name) as header:
        left_header, right_header = (header.for_channels(c) for c in channels)
        whole = _decoded(left_header)
        half, odd = divmod(whole.shape[1], 2)
        if odd:
            raise Unusable(odd_width(whole.shape[1]))
        left = image_header.with_channels(whole[:, :half], left_header.alpha, channels[0])
        whole = whole if right_header is left_header else _decoded(right_header)
        return left, image_header.with_channels(whole[:, half:], right_header.alpha, channels[1])


def odd_width(width: int) -> str:
    """The error message for a side-by-side pair of odd width."""
    return f"is {width} pixels wide: a side-by-side pair must have an even width"


def check_same_size(files: Sequence[Path], images: Sequence[np.ndarray]) -> None:
    """Raises ImageError, which names both files, if the two images of a pair differ in height or width."""
    if images[0].shape[:2] != images[1].shape[:2]:
        sizes = " but ".join(f"{file} is {image.shape[1]}x{image.shape[0]}" for file, image in zip(files, images, strict=True))
        raise ImageError(f"{sizes}: must be of one size")


def size(source: str | Path, *, channels: int, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns height and width of the upright image, from the header alone. Raises ImageError if `read` would reject the header."""
    with _opened(source, (channels,), max_pixels, "") as header:
        return header.height, header.width


def colours(source: str | Path, *, max_pixels: int = MAX_PIXELS) -> int:
    """Returns the number of channels without alpha, from the header alone. Raises ImageError."""
    with _opened(source, (), max_pixels, "") as header:
        return header.channels - header.alpha


def bands(source: str | Path, *, max_pixels: int = MAX_PIXELS) -> int:
    """Like `colours`, but returns the number of bands that are stored: 4 for a CMYK TIFF, or one of RGB and near infrared."""
    with _opened(source, (), max_pixels, "") as header:
        stored = header.bands or header
        return stored.channels - stored.alpha


def is_grey(image: np.ndarray) -> bool:
    """Whether an image [h, w, c] has one channel, or three that are equal."""
    return image.shape[2] in (1, 3) and bool((image[..., 1:] == image[..., :1]).all())


def from_pillow(image: Image.Image, *, channels: int) -> Pixels:
    """Converts an image that Pillow has opened or made, as `read` does. Raises ImageError."""
    with naming(getattr(image, "filename", "") or "image"):
        header = pillow_images.pillow_header(image)
        image_header.check_channels(header, (channels,))
        return image_header.with_channels(_decoded(header), header.alpha, channels)


def tiled(path: Path, *, channels: int, max_pixels: int = MAX_PIXELS) -> Tiled | None:
    """Opens a TIFF for reading by regions; None if the file has to be read whole. Raises ImageError if `read` would reject the header."""
    with naming(str(path)), open_regular(path) as file:
        page = tiff_images.tiled_page(file, channels)
        if page is None:
            return None
        size(path, channels=channels, max_pixels=max_pixels)
        return tiff_images.tiled_from_page(path, page, channels=channels)


@contextlib.contextmanager
def _opened(source: str | Path | bytes, wanted: Collection[int], max_pixels: int, name: str) -> Iterator[Header]:
    name = name or "image" if isinstance(source, bytes) else str(source)
    with naming(name), io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
        header = _header(file, max_pixels)
        image_header.check_size("is", header.width, header.height, max_pixels)
        image_header.check_channels(header, wanted)
        yield header


def _header(file: File, max_pixels: int) -> Header:
    """The header, by the reader that keeps all bits and channels of the format."""
    start = file.read(26)
    file.seek(0)
    if not start:
        raise Unusable("is an empty file")
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10":
        return pillow_images.deep_png_header(file, colour_type=start[25])
    if start[:4] in tiff_images.SIGNATURES:
        return tiff_images.tiff_header(file, max_pixels)
    return pillow_images.pillow_header(pillow_images.open_pillow(file))


def _decoded(header: Header) -> Pixels:
    pixels = header.decode()
    if pixels.dtype not in (np.uint8, np.uint16):
        raise Unusable(f"has {pixels.dtype} samples: must be 8 or 16 bit")
    return pixels
