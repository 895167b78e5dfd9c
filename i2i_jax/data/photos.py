"""Inputs made from photos, each for the task of restoring the photo: uint8 [h, w, 3] to uint8 [h, w] or [h, w, 3]."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter

from i2i_jax import optional

Photo = UInt8[np.ndarray, "h w 3"]
Grey = UInt8[np.ndarray, "h w"]

DOWNSCALE = 4
CANNY = {"sigma": 1.5, "low_threshold": 0.8, "high_threshold": 0.93, "use_quantiles": True}


def grey(photo: Photo, random: np.random.Generator) -> Grey:
    """Grey: the task is to colour it."""
    return np.asarray(Image.fromarray(photo).convert("L"))


def edges(photo: Photo, random: np.random.Generator) -> Grey:
    """The strongest edges (Canny 1986), as black lines on white, one pixel wide."""
    canny = optional.library("skimage.feature", "pairs").canny
    return np.where(canny(grey(photo, random) / 255, **CANNY), 0, 255).astype(np.uint8)


def lines(photo: Photo, random: np.random.Generator) -> Grey:
    """A line drawing (XDoG, Winnemöller 2012): the darker a pixel than its surroundings, the darker the line."""
    gaussian = optional.library("skimage.filters", "pairs").gaussian
    light, sigma = grey(photo, random) / 255, max(photo.shape) / 256
    contrast = gaussian(light, sigma) - 0.99 * gaussian(light, 1.6 * sigma)
    return np.round(255 * (1 + np.tanh(40 * np.minimum(contrast, 0)))).astype(np.uint8)


def blur(photo: Photo, random: np.random.Generator) -> Photo:
    """Blurred by a Gaussian with a standard deviation of 1/100 of the longer side."""
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(max(photo.shape) / 100)))


def downscale(photo: Photo, random: np.random.Generator) -> Photo:
    """Downscaled to a quarter of the height and width, and enlarged again."""
    height, width = photo.shape[:2]
    small = Image.fromarray(photo).resize((max(1, width // DOWNSCALE), max(1, height // DOWNSCALE)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def mask(photo: Photo, random: np.random.Generator) -> Photo:
    """Covered by a few broad white strokes at random: the task is to fill them in."""
    height, width = photo.shape[:2]
    covered = Image.fromarray(photo)
    draw = ImageDraw.Draw(covered)
    for _ in range(random.integers(2, 5)):
        points = (random.uniform(0, 1, 2) + random.normal(0, 0.15, (4, 2)).cumsum(0)) * (width, height)
        draw.line([tuple(point) for point in points], fill=(255, 255, 255), width=max(1, max(height, width) // 14), joint="curve")
    return np.asarray(covered)


TASKS: dict[str, Callable[[Photo, np.random.Generator], Photo | Grey]] = {
    "edges": edges,
    "lines": lines,
    "grey": grey,
    "blur": blur,
    "downscale": downscale,
    "mask": mask,
}
