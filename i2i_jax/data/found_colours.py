"""What images show, found in their pixels: label maps and their colours, or lines and their paper."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8

from i2i_jax.data.labels import packed_rgb
from i2i_jax.data.palettes import PALETTES, RGB, Palette

MOST = 64  # colours of label maps whose palette is not known
FEW = 4  # classes of a known palette that other palettes are unlikely to share
PIXELS = 1 << 16  # of each image that are counted, at most
NOISE = 8  # levels by which JPEG and scaling change most pixels of one colour
RADIUS = 24.0  # around a colour, Euclidean: other colours in it are noise, if there are more than MOST

WHITE, BLACK = (255, 255, 255), (0, 0, 0)

Image = UInt8[np.ndarray, "h w 3"]


def label_colours(images: Sequence[Image]) -> dict[RGB, float]:
    """Returns the colours of label maps, the most frequent first, each with its share; none if the images are no label maps.

    Only flat pixels count, whose neighbours are like them: scaling and JPEG give the edges between classes any colour. The images are label
    maps if most of their pixels beside the background are flat, and nearly equal to one of at most MOST colours.
    """
    flat = [_flat(image) for image in images]
    samples = [_thinned(image[mask]) for image, mask in zip(images, flat, strict=True)]
    colours, counts = _counted(np.concatenate([np.empty((0, 3), np.uint8), *samples]))
    every, _ = _counted(np.concatenate([np.empty((0, 3), np.uint8), *(_thinned(image.reshape(-1, 3)) for image in images)]))
    radius, least = (RADIUS, 1e-3) if len(every) > MOST else (0.0, 0.0)
    found = _modes(colours, counts, radius=radius, least=least)
    if not 2 <= len(found) <= MOST or not _are_classes(images, flat, [*found], colours, counts):
        return {}
    return found


def known_palette(colours: Collection[RGB]) -> Palette | None:
    """Returns the dataset's palette that nearly all of these colours belong to, at least FEW to its classes; None if there is no such."""
    for palette in PALETTES.values():
        classes = [*palette.classes.values()]
        known = _number_near([*classes, *palette.unlabelled], colours)
        if known >= 0.8 * len(colours) and _number_near(classes, colours) >= FEW:
            return palette
    return None


def _number_near(known: Sequence[RGB], colours: Collection[RGB]) -> int:
    """How many of the colours are noise of a known one."""
    return sum(bool((_distance(np.array(known), colour) <= RADIUS).any()) for colour in colours)


def paper(images: Sequence[Image]) -> RGB | None:
    """Returns the colour of the paper, white or black, if the images are lines in the other of these colours; else None."""
    grey = np.mean([(np.ptp(image, axis=-1) <= 2 * NOISE).mean() for image in images])
    white, black = (float(np.mean([(_distance(image, colour) <= 2 * RADIUS).mean() for image in images])) for colour in (WHITE, BLACK))
    if grey < 0.99 or white + black < 0.8 or max(white, black) < 0.5:
        return None
    return WHITE if white > black else BLACK


def _flat(image: Image) -> Bool[np.ndarray, "h w"]:
    """Whether a pixel's neighbours above, below, left and right are like it."""
    flat, levels = np.ones(image.shape[:2], bool), image.astype(np.int16)
    for axis in (0, 1):
        same = np.abs(np.diff(levels, axis=axis)).max(-1) <= NOISE
        ends = [(0, 0), (0, 0)]
        for ends[axis] in ((0, 1), (1, 0)):
            flat &= np.pad(same, ends, constant_values=True)
    return flat


def _thinned(pixels: UInt8[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "m 3"]:
    return pixels[:: max(1, -(-len(pixels) // PIXELS))]


def _counted(pixels: UInt8[np.ndarray, "n 3"]) -> tuple[Int[np.ndarray, "m 3"], Int[np.ndarray, " m"]]:
    """The colours, the most frequent first, and how many pixels have each."""
    values, counts = np.unique(packed_rgb(pixels), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return np.stack([values >> 16, values >> 8 & 255, values & 255], -1)[order], counts[order]


def _modes(colours: np.ndarray, counts: np.ndarray, *, radius: float, least: float) -> dict[RGB, float]:
    """The most frequent colour, with the share of all within the radius; then that of the others, until a share is under the least."""
    modes, left, total = {}, counts.copy(), counts.sum()
    while left.any() and len(modes) <= MOST:
        near = _distance(colours, colours[left.argmax()]) <= radius
        r, g, b = map(int, colours[left.argmax()])
        if (share := left[near].sum() / total) < least:
            break
        modes[r, g, b] = float(share)
        left[near] = 0
    return modes


def _are_classes(images: Sequence[Image], flat: Sequence[np.ndarray], modes: list[RGB], colours: np.ndarray, counts: np.ndarray) -> bool:
    """Whether pixels beside those of the most frequent colour are flat, and nearly equal to one of the colours."""
    others = [_distance(image.astype(np.int32), modes[0]) > RADIUS for image in images]
    are_flat = sum((mask & other).sum() for mask, other in zip(flat, others, strict=True)) / max(1, sum(map(np.sum, others)))
    distance = np.min([_distance(colours, mode) for mode in modes], axis=0)
    beside = _distance(colours, modes[0]) > RADIUS
    near = counts[beside & (distance <= NOISE)].sum() / max(1, counts[beside].sum())
    return bool(are_flat > 0.3 and near > 0.7)


def _distance(colours: np.ndarray, colour: RGB | np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(colours - np.asarray(colour, np.int32)).sum(-1))
