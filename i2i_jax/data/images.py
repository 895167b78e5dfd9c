"""Image files to arrays: uint8 or uint16 [h, w, c], whatever the format."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


class ImageError(ValueError):
    """An image that cannot be used: one line that names the file, what was found and what would do."""


def read(source: str | Path | bytes, *, channels: int, max_pixels: int | None = None, name: str = "") -> np.ndarray:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)
