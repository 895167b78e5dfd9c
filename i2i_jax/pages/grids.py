"""Pictures of any images, and grids of them under labels."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from i2i_jax.storage.files import atomic_write

CELL_WIDTHS = (96, 512)  # pixels; smaller images are magnified by a whole factor so that labels fit, larger ones are shrunk
LABEL_HEIGHT, GAP, FONT_SIZE = 22, 4, 13
SHEET, INK = (232, 232, 230), (60, 64, 70)  # a white image keeps its edge


def to_8_bits(image: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """uint8 as it is and uint16 rounded. Raises TypeError."""
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise TypeError(f"image of {image.dtype}: must be uint8 or uint16")
    return image


def to_rgb8(image: Shaped[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of any uint8 or uint16 image: grey as grey, two channels as red and green, of more than three the first three."""
    image = np.atleast_3d(to_8_bits(image))
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return np.pad(image[..., :3], ((0, 0), (0, 0), (0, max(0, 3 - image.shape[2]))))


def fitted(image: Shaped[np.ndarray, "h w *c"], size: tuple[int, int]) -> UInt8[np.ndarray, "_h _w 3"]:
    """A picture of the whole image, scaled to fit into this width and height, in the middle of a sheet of that size."""
    picture = Image.fromarray(to_rgb8(image))
    return np.asarray(picture if picture.size == size else ImageOps.pad(picture, size, color=SHEET))


def grid(rows: Sequence[Sequence[np.ndarray]], *, labels: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of images ([h, w], or [h, w, c]; uint8 or uint16) under column labels, in cells of the size of the first image.

    Raises ValueError for a row that has not one image for each label.
    """
    if not rows or any(len(row) != len(labels) for row in rows):
        raise ValueError(f"rows of {[len(row) for row in rows]} images under {len(labels)} labels: must be as many")
    width, height = _cell_size(*rows[0][0].shape[:2])
    columns, below = width + GAP, height + GAP
    sheet = Image.new("RGB", (GAP + columns * len(labels), LABEL_HEIGHT + below * len(rows)), SHEET)
    for column, label in enumerate(labels):
        sheet.paste(_label(label, width), (GAP + column * columns, 0))
        for line, row in enumerate(rows):
            picture = Image.fromarray(to_rgb8(row[column]))
            magnified = picture.width <= width
            picture = picture.resize((width, height), Image.Resampling.NEAREST if magnified else Image.Resampling.LANCZOS)
            sheet.paste(picture, (GAP + column * columns, LABEL_HEIGHT + line * below))
    return np.asarray(sheet)


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """The (width, height) at which images of this size are shown."""
    narrowest, widest = CELL_WIDTHS
    factor = widest / width if width > widest else math.ceil(narrowest / width)
    return round(width * factor), max(1, round(height * factor))


def _label(text: str, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, LABEL_HEIGHT), SHEET)
    ImageDraw.Draw(strip).text((1, LABEL_HEIGHT // 2), text, fill=INK, font=ImageFont.load_default(FONT_SIZE), anchor="lm")
    return strip


def save_grid(path: str | os.PathLike, rows: Sequence[Sequence[np.ndarray]], *, labels: Sequence[str]) -> None:
    """Writes `grid(rows)` as PNG, whole or not at all. The run's page shows RUN/samples/{step:08d}.png."""
    buffer = io.BytesIO()
    Image.fromarray(grid(rows, labels=labels)).save(buffer, "PNG")
    atomic_write(Path(path), buffer.getvalue())
