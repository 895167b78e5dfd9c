"""Converts images to RGB for display, and lays them out in grids with column labels."""

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
SHEET, INK = (232, 232, 230), (60, 64, 70)  # the sheet is grey so that the edges of white images are visible


def to_8_bits(image: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Returns uint8 unchanged and rounds uint16 to uint8.

    Raises:
        TypeError: if the image has another type.
    """
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise TypeError(f"image of {image.dtype}: must be uint8 or uint16")
    return image


def to_rgb8(image: Shaped[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Converts a uint8 or uint16 image with any number of channels to RGB.

    One channel becomes grey, two become red and green, and of more than three the first three are used.
    """
    image = np.atleast_3d(to_8_bits(image))
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return np.pad(image[..., :3], ((0, 0), (0, 0), (0, max(0, 3 - image.shape[2]))))


def fitted(image: Shaped[np.ndarray, "h w *c"], size: tuple[int, int]) -> UInt8[np.ndarray, "_h _w 3"]:
    """Scales an image to fit into a sheet, keeping its proportions and centering it.

    Args:
        image: uint8 or uint16, with any number of channels.
        size: width and height of the sheet in pixels.
    """
    picture = Image.fromarray(to_rgb8(image))
    return np.asarray(picture if picture.size == size else ImageOps.pad(picture, size, color=SHEET))


def grid(rows: Sequence[Sequence[np.ndarray]], *, labels: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a grid of images with column labels. All cells have the size of the first image; others are scaled to fit into them.

    Args:
        rows: images of each row, [h, w] or [h, w, c], uint8 or uint16; one for each label.
        labels: column labels.

    Raises:
        ValueError: if there are no rows, or a row does not have one image for each label.
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
            method = Image.Resampling.NEAREST if magnified else Image.Resampling.LANCZOS
            if row[column].shape[:2] == rows[0][0].shape[:2]:
                picture = picture.resize((width, height), method)
            else:
                picture = ImageOps.pad(picture, (width, height), method, color=SHEET)
            sheet.paste(picture, (GAP + column * columns, LABEL_HEIGHT + line * below))
    return np.asarray(sheet)


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """The (width, height) of cells for images of this size."""
    narrowest, widest = CELL_WIDTHS
    factor = widest / width if width > widest else math.ceil(narrowest / width)
    return round(width * factor), max(1, round(height * factor))


def _label(text: str, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, LABEL_HEIGHT), SHEET)
    ImageDraw.Draw(strip).text((1, LABEL_HEIGHT // 2), text, fill=INK, font=ImageFont.load_default(FONT_SIZE), anchor="lm")
    return strip


def save_grid(path: str | os.PathLike, rows: Sequence[Sequence[np.ndarray]], *, labels: Sequence[str]) -> None:
    """Writes `grid(rows, labels=labels)` as PNG, atomically. The page of a run shows RUN/samples/{step:08d}.png."""
    buffer = io.BytesIO()
    Image.fromarray(grid(rows, labels=labels)).save(buffer, "PNG")
    atomic_write(Path(path), buffer.getvalue())
