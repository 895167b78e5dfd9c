"""The tags that place a TIFF on the Earth (GeoTIFF, and GDAL's value for missing data), copied from one file to another."""

from pathlib import Path
from typing import Any

import tifffile

from i2i_jax.data.image_header import ORIENTATION_TAG, ImageError, known_orientation, naming, open_regular
from i2i_jax.data.tiff_images import SIGNATURES

# ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams, GDAL_NODATA
TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42113)
_TYPES = (tifffile.DATATYPE.ASCII, tifffile.DATATYPE.SHORT, tifffile.DATATYPE.LONG, tifffile.DATATYPE.FLOAT, tifffile.DATATYPE.DOUBLE)
Tag = tuple[int, int, int, Any, bool]  # as `extratags` of `tifffile.imwrite`


def read(path: Path) -> tuple[Tag, ...]:
    """Returns the georeferencing tags of an image file.

    Args:
        path: the file.

    Returns:
        The tags, for the argument `extratags` of `tifffile.imwrite`. None for a file that is not a TIFF, or that cannot be read, or that
        is read turned or mirrored because of its Orientation tag: its transform would not fit.
    """
    try:
        with naming(str(path)), open_regular(path) as file:
            if file.read(4) not in SIGNATURES:
                return ()
            file.seek(0)
            tags = tifffile.TiffFile(file).pages.first.tags
            if known_orientation(tags.valueof(ORIENTATION_TAG)) != 1:
                return ()
            return tuple(_copied(tag, file) for code in TAGS if (tag := tags.get(code)) and tag.dtype in _TYPES)
    except ImageError:
        return ()


def _copied(tag: tifffile.TiffTag, file: Any) -> Tag:
    """Text is copied byte by byte, because GeoKeyDirectory refers to its parts by position and length."""
    value = tag.value
    if tag.dtype == tifffile.DATATYPE.ASCII:
        file.seek(tag.valueoffset)
        value = file.read(tag.count)
    return tag.code, int(tag.dtype), tag.count, value, True
