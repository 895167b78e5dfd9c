"""Image files to arrays [h, w, c] of uint8, uint16, int16 or float32, whatever the format."""

import contextlib
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from i2i_jax.data import image_header, npy_images, pillow_images, tiff_images, values
from i2i_jax.data.image_header import UNDECODABLE, File, Header, ImageError, Pixels, Unusable, naming, open_regular
from i2i_jax.data.labels import Labels, packed_rgb
from i2i_jax.data.tiff_images import Tiled
from i2i_jax.data.values import Scale
from i2i_jax.types import SampleType

__all__ = [
    "EXTENSIONS", "MAX_PIXELS", "UNDECODABLE", "ImageError", "Tiled",
    "all_tiled", "bands", "check_same_size", "check_sizes", "colours", "from_pillow", "is_grey", "naming",
    "odd_width", "read", "read_halves", "sample_type", "size", "tiled",
]  # fmt: skip

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".npy")
MAX_PIXELS = 100_000_000


def read(
    source: str | Path | bytes,
    *,
    channels: int,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
    labels: Labels | None = None,
    scale: Scale | None = None,
) -> Pixels:
    """Reads an image, turned upright by its Exif orientation; of an animation, the first frame.

    A TIFF with as many bands as `channels` is read as it is stored, whatever its tags call them; so are the channels of an ImageJ stack,
    which are pages. Any other TIFF of several pages is refused.

    Args:
        source: the path of a file, or the content of one.
        channels: 1 for grey or 3 for RGB, to which grey, RGB, palette and CMYK images are converted, transparency composited over
            white. Any other number must be the file's own. Ignored for label maps.
        max_pixels: the most pixels an image may have; checked before it is decoded.
        name: names the image in errors where `source` is bytes.
        labels: how the classes of a label map are stored; None for other images.
        scale: scales the samples, to uint8, uint16 or floats in [-1, 1] (see `values.Scale`); None: they are in the file's units.

    Returns:
        Pixels [h, w, channels]: uint8, uint16, int16 or float32, as in the file; of a label map uint8 [h, w, classes], as
        `Labels.one_hot`.

    Raises:
        ImageError: if the file cannot be read, is too large, has another number of channels or another type of samples, has NaN or
            Inf, or is a palette image of which different entries become the same grey.
    """
    with _opened(source, () if labels else (channels,), max_pixels, name) as header:
        return _scaled(_converted(header, channels, labels), None if labels else scale)


def read_halves(
    source: str | Path | bytes,
    *,
    channels: tuple[int, int],
    max_pixels: int = MAX_PIXELS,
    name: str = "",
    labels: tuple[Labels | None, Labels | None] = (None, None),
    scales: tuple[Scale | None, Scale | None] = (None, None),
) -> tuple[Pixels, Pixels]:
    """Reads a side-by-side pair: like `read`, but returns the left and the right half, each with its own channels, labels or scale.

    Raises:
        ImageError: as `read`, and if the width is odd.
    """
    wanted = [c for c, own_labels in zip(channels, labels, strict=True) if not own_labels]
    with _opened(source, wanted, max_pixels, name) as header:
        if header.width % 2:
            raise Unusable(odd_width(header.width))
        half = header.width // 2
        decoded = header.with_cached_pixels()
        columns = (slice(half), slice(half, None))
        halves = (_converted(decoded, *each) for each in zip(channels, labels, columns, strict=True))
        left, right = (_scaled(half, None if own else scale) for half, own, scale in zip(halves, labels, scales, strict=True))
        return left, right


def odd_width(width: int) -> str:
    """The error message for a side-by-side pair of odd width."""
    return f"is {width} pixels wide: a side-by-side pair must have an even width"


@runtime_checkable
class Shaped(Protocol):
    """An image [h, w, c], in memory or in files."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def check_same_size(files: Sequence[Path], images: Sequence[Shaped]) -> None:
    """Raises ImageError, which names both files, if the two images of a pair differ in height or width."""
    check_sizes(files, [image.shape[:2] for image in images])


def check_sizes(files: Sequence[Path], heights_and_widths: Sequence[tuple[int, ...]]) -> None:
    """Like `check_same_size`, but takes height and width of the two images."""
    if heights_and_widths[0] != heights_and_widths[1]:
        sizes = " but ".join(f"{file} is {size[1]}x{size[0]}" for file, size in zip(files, heights_and_widths, strict=True))
        raise ImageError(f"{sizes}: must be of one size")


def size(
    source: str | Path | bytes, *, channels: int, max_pixels: int = MAX_PIXELS, labels: Labels | None = None, name: str = ""
) -> tuple[int, int]:
    """Returns height and width of the upright image, from the header alone. Raises ImageError if `read` would reject the header."""
    with _opened(source, () if labels else (channels,), max_pixels, name) as header:
        if labels:
            labels.check(header)
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


def sample_type(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> SampleType:
    """Returns how the samples of an image file are stored. Raises ImageError."""
    with _opened(source, (), max_pixels, name) as header:
        return SampleType(_decoded(header).dtype.name, header.npy)


def is_grey(image: np.ndarray) -> bool:
    """Whether an image [h, w, c] has one channel, or three that are equal."""
    return image.shape[2] in (1, 3) and bool((image[..., 1:] == image[..., :1]).all())


def from_pillow(image: Image.Image, *, channels: int, labels: Labels | None = None) -> Pixels:
    """Converts an image that Pillow has opened or made, as `read` does. Raises ImageError."""
    with naming(getattr(image, "filename", "") or "image"):
        header = pillow_images.pillow_header(image)
        image_header.check_channels(header, () if labels else (channels,))
        return _converted(header, channels, labels)


def tiled(path: Path, *, channels: int, max_pixels: int = MAX_PIXELS, scale: Scale | None = None) -> Tiled | None:
    """Opens a TIFF for reading by regions, scaled as by `read`; None if the file has to be read whole.

    Raises ImageError if `read` would reject the header.
    """
    with naming(str(path)), open_regular(path) as file:
        page = tiff_images.tiled_page(file, channels)
        if page is None:
            return None
        size(path, channels=channels, max_pixels=max_pixels)
        return tiff_images.tiled_from_page(path, page, channels=channels, scale=scale)


def all_tiled(
    files: Sequence[Path], *, channels: Sequence[int], scales: Sequence[Scale], max_pixels: int = MAX_PIXELS
) -> list[Tiled] | None:
    """Opens several TIFFs by `tiled`; None if any of them has to be read whole."""
    opened = []
    for file, count, scale in zip(files, channels, scales, strict=True):
        if (image := tiled(Path(file), channels=count, scale=scale, max_pixels=max_pixels)) is None:
            return None
        opened.append(image)
    return opened


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
    if start[:6] == npy_images.SIGNATURE:
        return npy_images.npy_header(file)
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10":
        return pillow_images.deep_png_header(file, colour_type=start[25])
    if start[:4] in tiff_images.SIGNATURES:
        return tiff_images.tiff_header(file, max_pixels)
    return pillow_images.pillow_header(pillow_images.open_pillow(file))


def _converted(header: Header, channels: int, labels: Labels | None, columns: slice = slice(None)) -> Pixels:
    """The columns of an image with `channels`, or of a label map with one channel for each class."""
    if labels:
        return labels.one_hot(header, columns)
    header = header.for_channels(channels)
    pixels = _decoded(header)[:, columns]
    converted = image_header.with_channels(pixels, header.alpha, channels)
    if header.palette and channels == 1:
        _refuse_merged_entries(header, pixels, converted, columns)
    return converted


def _refuse_merged_entries(header: Header, pixels: Pixels, grey: Pixels, columns: slice) -> None:
    """Raises Unusable if different entries of a palette, which may be classes, have become the same grey."""
    if header.ids and not header.alpha:
        entries = header.ids()[:, columns]
    else:  # transparent entries are white, as a viewer shows them
        entries = packed_rgb(image_header.with_channels(pixels, header.alpha, 3))
    before, after = len(np.unique(entries)), len(np.unique(grey))
    if before > after:
        raise Unusable(
            f"is a palette image: as grey, its {before} palette entries become {after}: "
            "data.input_labels reads its class ids or colours, data.input_channels=3 reads it as a photo; or save it as grey"
        )


def _decoded(header: Header) -> Pixels:
    return values.checked(header.decode())


def _scaled(pixels: Pixels, scale: Scale | None) -> Pixels:
    return scale.applied(pixels) if scale else pixels
