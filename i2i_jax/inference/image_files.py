"""The format of translated images on disk: PNG; TIFF for what PNG cannot hold (channels, types, georeferencing); or NumPy arrays."""

import io
from collections.abc import Sequence

import imagecodecs
import numpy as np
import tifffile
from jaxtyping import Num
from PIL import Image

from i2i_jax.data import geotiff
from i2i_jax.types import EIGHT_BITS, SampleType

PNG_CHANNELS = (1, 3, 4)
PNG_TYPES = ("uint8", "uint16")


def suffix(channels: int, *, georeferenced: bool = False, sample_type: SampleType = EIGHT_BITS) -> str:
    """Returns the file name extension for an image of this many channels and this type."""
    if sample_type.npy:
        return ".npy"
    return ".png" if channels in PNG_CHANNELS and sample_type.dtype in PNG_TYPES and not georeferenced else ".tif"


def encode(pixels: Num[np.ndarray, "h w c"], *, geo_tags: Sequence[geotiff.Tag] = (), npy: bool = False) -> bytes:
    """Returns the bytes of an image file with the pixels' type: uint8, uint16, int16 or float32.

    It has the format that `suffix` names; with `geo_tags`, it is a compressed TIFF that has these tags.
    """
    file = io.BytesIO()
    stored = pixels.squeeze(2) if pixels.shape[2] == 1 else pixels
    if npy:
        np.save(file, stored, allow_pickle=False)
    elif geo_tags or pixels.dtype.name not in PNG_TYPES:
        form = {"photometric": "rgb" if pixels.shape[2] == 3 else "minisblack", "planarconfig": "contig" if stored.ndim == 3 else None}
        tifffile.imwrite(file, stored, compression="zlib", metadata=None, extratags=geo_tags, **form)
    elif pixels.shape[2] in PNG_CHANNELS and pixels.dtype == np.uint16:  # Pillow writes 16 bits of grey images only
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(stored), level=1))
    elif pixels.shape[2] in PNG_CHANNELS:
        # zlib's fastest level takes a third of the time of its default level, for a few percent more bytes.
        Image.fromarray(stored).save(file, "PNG", compress_level=1)
    else:
        tifffile.imwrite(file, stored, planarconfig="contig", photometric="minisblack")
    return file.getvalue()
