"""The embedded dataset: outlines filled with one of K materials, so that p(B | A) is known exactly.

A is the black outline of a random smooth or polygonal shape on white, B the same shape filled with a material that is drawn
independently of the outline. All arithmetic is exact or correctly rounded, so that every machine generates the same pixels.
"""

import functools
import io
import math
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Bool, UInt8
from PIL import Image

from i2i_jax.data import prepared
from i2i_jax.data.pairs import Pairs

SIZE = 64
SPLITS = {"train": 2000, "val": 100, "test": 100}
STROKE = 3  # pixels, inside the shape's edge
SUPERSAMPLE = 4

# RGB at the top and at the bottom of the shape.
MATERIALS = np.array(
    [
        [[255, 60, 45], [195, 15, 10]],  # brick
        [[60, 215, 70], [10, 155, 20]],  # grass
        [[60, 75, 255], [10, 20, 195]],  # water
        [[255, 235, 60], [205, 180, 10]],  # gold
        [[245, 65, 255], [190, 15, 200]],  # orchid
        [[50, 240, 255], [5, 185, 200]],  # ice
    ],
    np.uint8,
)

Grey = UInt8[np.ndarray, "h w"]

_COMPASS = np.round(1024 * np.exp(2j * np.pi * np.arange(64) / 64)).view(np.float64).reshape(64, 2) / 1024


def example(split: str, index: int) -> tuple[Grey, int]:
    """Returns the outline of pair `index` of `split`, and the material of its target, an index into MATERIALS."""
    # RandomState and not Generator, because NumPy guarantees that its stream never changes.
    random = np.random.RandomState([list(SPLITS).index(split), index])
    return outline(random), int(random.randint(len(MATERIALS)))


def outline(random: np.random.RandomState) -> Grey:
    """Draws the outline of a random shape, black on white, [SIZE, SIZE]."""
    inside = _rasterize(_corners(random) * SUPERSAMPLE, SIZE * SUPERSAMPLE)
    stroke = inside & _dilate(~inside, STROKE * SUPERSAMPLE)
    blocks = stroke.reshape(SIZE, SUPERSAMPLE, SIZE, SUPERSAMPLE)
    ink = blocks.sum((1, 3))
    return (255 - (255 * ink + 8) // SUPERSAMPLE**2).astype(np.uint8)


def coverage(outline: Grey) -> Grey:
    """Returns how much of each pixel the outlined shape covers, 0 to 255, its edges included; all 0 if the outline has a gap.

    This is computed from the outline alone, so it is also exact for a mirrored one, and nearly so for a resized one.
    """
    light = np.pad(outline > 127, 1, constant_values=True)
    outside = _seen_from_sides(light)
    while (grown := _dilate(outside, 1) & light).sum() > outside.sum():
        outside = grown
    # The shape's edge is the outer edge of its outline.
    edge = _dilate(outside, 2)[1:-1, 1:-1]
    return np.where(edge, 255 - outline, 255).astype(np.uint8)


def render(covered: Grey, material: int) -> UInt8[np.ndarray, "h w 3"]:
    """Renders a shape on white, filled with a material that is shaded from the shape's top to its bottom."""
    rows = np.flatnonzero((covered > 127).any(1))
    top, bottom = (rows[0], rows[-1]) if rows.size else (0, 1)
    down = np.clip(np.arange(len(covered)) - top, 0, bottom - top)[:, None]
    first, last = MATERIALS[material].astype(int)
    colour = (first * (bottom - top - down) + last * down) // max(bottom - top, 1)
    alpha = covered[:, :, None].astype(int)
    return ((alpha * colour[:, None] + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)


def modes(image: UInt8[np.ndarray, "h w c"]) -> tuple[UInt8[np.ndarray, "k h w 3"], Bool[np.ndarray, "h w"]]:
    """Returns all targets that are possible for an input image, which are equally likely, and the mask of its shape."""
    covered = coverage(image[:, :, 0])
    return np.stack([render(covered, material) for material in range(len(MATERIALS))]), covered > 127


def pairs(
    split: str,
    data_dir: str | Path = "",
    *,
    direction: str = "AtoB",
    input_channels: int = 3,
    target_channels: int = 3,
    max_pairs: int | None = None,
    skip_bad: bool = False,
    prepare: bool = True,
) -> Pairs:
    """Returns the pairs of a split, which are generated at first use.

    Args:
        split: train, val or test.
        data_dir: the folder of prepared datasets; "" for the user's cache directory.
        direction: AtoB or BtoA.
        input_channels: 1 for grey, 3 for RGB.
        target_channels: 1 for grey, 3 for RGB.
        max_pairs: return only the first pairs, at most so many; None returns all.
        skip_bad: leave out pairs that cannot be read, with a warning.
        prepare: generate the dataset if it is not in `data_dir`.

    Raises:
        SetError: if the dataset cannot be written or read, or is not there and not to be prepared.
    """
    return prepared.pairs(
        functools.partial(Shapes, data_dir=prepared.data_dir(data_dir)),
        split,
        prepare=prepare,
        max_pairs=max_pairs,
        skip_bad=skip_bad,
        direction=direction,
        input_channels=input_channels,
        target_channels=target_channels,
    )


class Shapes(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder, with side-by-side PNGs in the order of `example`."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=prepared.features("png"), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str):
        for index in range(SPLITS[split]):
            drawing, material = example(split, index)
            target = render(coverage(drawing), material)
            file = io.BytesIO()
            Image.fromarray(np.hstack([np.stack([drawing] * 3, -1), target])).save(file, "PNG")
            yield index, {"pair": file.getvalue(), "name": f"{split}_{index:04d}"}


def _corners(random: np.random.RandomState) -> np.ndarray:
    """Corners (x, y), in pixels, of a random star-shaped polygon or of its smooth version; exact in float64."""
    sides = random.randint(4, 9)
    turns = (np.arange(sides) * 64 + random.randint(64) + random.randint(-8, 9, sides)) // sides
    radii = random.randint(16 * 19, 16 * 28 + 1, sides) / 16
    points = SIZE / 2 + random.randint(-16, 17, 2) / 16 + radii[:, None] * _COMPASS[turns % 64]
    if random.randint(2):
        for _ in range(4):  # Chaikin's corner cutting converges to a quadratic B-spline
            after = np.roll(points, -1, 0)
            points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], 1).reshape(-1, 2)
    return points


def _rasterize(corners: np.ndarray, size: int) -> np.ndarray:
    """Whether each pixel's centre is inside the polygon, by the even-odd rule: bool [size, size]."""
    start, end = corners, np.roll(corners, -1, 0)
    y = np.arange(size)[:, None] + 0.5
    row, edge = np.nonzero((start[:, 1] <= y) != (end[:, 1] <= y))
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    crossing = x0 + (y[row, 0] - y0) * (x1 - x0) / (y1 - y0)
    crossings = np.zeros((size, size + 1), int)
    np.add.at(crossings, (row, np.clip(np.ceil(crossing - 0.5), 0, size).astype(int)), 1)
    return crossings.cumsum(1)[:, :-1] % 2 == 1


def _seen_from_sides(clear: np.ndarray) -> np.ndarray:
    """Which pixels are connected to an edge of the image by a straight run of `clear` pixels along their row or column."""
    see = np.logical_and.accumulate
    return see(clear, 0) | see(clear[::-1], 0)[::-1] | see(clear, 1) | see(clear[:, ::-1], 1)[:, ::-1]


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """`mask` dilated by a disc; with radius 1 by the four neighbours."""
    grown, run, width = mask.copy(), mask.copy(), 0
    for dy in range(radius, -1, -1):
        while width < math.isqrt(radius**2 - dy**2):
            wider = run.copy()
            wider[:, 1:] |= run[:, :-1]
            wider[:, :-1] |= run[:, 1:]
            run, width = wider, width + 1
        grown[dy:] |= run[: len(run) - dy]
        grown[: len(run) - dy] |= run[dy:]
    return grown
