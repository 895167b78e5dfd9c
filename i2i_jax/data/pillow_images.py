"""Images that Pillow opens: PNG, JPEG, WebP, BMP, GIF and photographs in TIFF; 16-bit PNG is decoded by imagecodecs."""

import contextlib
import struct

import imagecodecs
import numpy as np
from PIL import Image, UnidentifiedImageError

from i2i_jax.data.image_header import ORIENTATION_TAG, UPRIGHT, File, Header, Unusable, known_orientation

# Pillow can open many more formats, some of them by running other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


def open_pillow(file: File) -> Image.Image:
    """Opens a file as `Image.open` does, in the formats above and without its limit of pixels, which is global to the process."""
    start = file.read(16)
    for name in _FORMATS:
        if name not in Image.OPEN:
            Image.init()
        factory, accepts = Image.OPEN[name]
        file.seek(0)
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # for `Image.open`, these mean another format
            if accepts is None or accepts(start) is True:
                return factory(file, "")
    raise UnidentifiedImageError


def pillow_header(image: Image.Image) -> Header:
    """The header of an image that Pillow has opened or made. Raises Unusable for 32-bit samples."""
    mode, orientation = _mode(image), _orientation(image)

    def decode() -> np.ndarray:
        pixels = np.asarray(image if mode.startswith("I;16") or mode == image.mode else image.convert(mode))
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        return UPRIGHT[orientation](native.reshape(*pixels.shape[:2], -1))

    step = _id_step(image)

    def ids() -> np.ndarray:
        values = np.asarray(image).astype(np.uint16 if mode.startswith("I;16") else np.uint8)
        return UPRIGHT[orientation]((values // step)[..., None])

    width, height = image.size[::-1] if orientation >= 5 else image.size
    lossy = image.format in ("JPEG", "MPO") or (image.format == "TIFF" and image.info.get("compression") == "jpeg")
    has_ids = not lossy and (image.mode in ("1", "L", "P") or mode.startswith("I;16"))
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
    alpha = mode in ("LA", "RGBA")
    return Header(height, width, channels, alpha, decode, ids=ids if has_ids else None, palette=image.mode in ("P", "PA"), lossy=lossy)


def deep_png_header(file: File, colour_type: int) -> Header:
    """The header of a 16-bit PNG, which Pillow would reduce to 8 bits unless it is grey; `colour_type` is that of its IHDR chunk."""
    image = open_pillow(file)
    orientation = _orientation(image)
    channels, alpha = {0: (1, False), 2: (3, False), 4: (2, True), 6: (4, True)}[colour_type]

    def decode() -> np.ndarray:
        file.seek(0)
        pixels = imagecodecs.png_decode(file.read())
        return UPRIGHT[orientation](pixels.reshape(*pixels.shape[:2], -1))

    width, height = image.size[::-1] if orientation >= 5 else image.size
    return Header(height, width, channels, alpha, decode, ids=decode if colour_type == 0 else None)


def _mode(image: Image.Image) -> str:
    """The Pillow mode into which the image can be converted without loss."""
    if image.mode.startswith("I;16"):
        return image.mode
    if image.mode in ("I", "F"):
        raise Unusable("has 32-bit samples: must be 8 or 16 bit")
    transparent = image.has_transparency_data
    if image.mode in ("1", "L", "LA", "La"):
        return "LA" if transparent else "L"
    return "RGBA" if transparent else "RGB"


def _id_step(image: Image.Image) -> int:
    """The difference of two consecutive values: Pillow stretches grey PNGs of 2 and 4 bits to 8."""
    tiles = getattr(image, "tile", []) if image.format == "PNG" else []
    return {"L;2": 85, "L;4": 17}.get(str(tiles[0][3]), 1) if tiles else 1


def _orientation(image: Image.Image) -> int:
    """A key of UPRIGHT; always 1 for TIFF, which Pillow itself turns upright."""
    # getexif() on a PNG with no Exif before its pixels would make Pillow decode the whole image.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    return known_orientation(image.getexif().get(ORIENTATION_TAG))
