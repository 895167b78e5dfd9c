"""Scores of label maps: pixel accuracy, class accuracy and IoU as Long 2015 defines them (the "FCN scores" of pix2pix)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from i2i_jax.data.palettes import UNLABELLED, Labels


class SegmentationError(ValueError):
    """Label maps that cannot be scored: one line that says what was found."""


def confusion(predicted: Labels, truth: Labels, *, classes: int) -> Int[Array, "b k k+1"]:
    """Pixels of each image by true class (row) and predicted class (column).

    The last column counts predictions of no class, which are wrong. What is unlabelled in truth is not counted.
    """
    column = jnp.where(predicted == UNLABELLED, classes, predicted)
    cells = classes * (classes + 1)
    cell = jnp.where(truth == UNLABELLED, cells, truth * (classes + 1) + column)
    counts = jax.vmap(lambda x: jnp.bincount(x.ravel(), length=cells + 1))(cell)
    return counts[:, :-1].reshape(-1, classes, classes + 1)


class Scores(NamedTuple):
    """Each 0 to 1."""

    pixel_accuracy: float
    class_accuracy: float
    iou: float


def scores(confusion: Int[np.ndarray, "k k+1"]) -> Scores:
    """The scores of a confusion summed over all images; scores of single images do not average to them.

    A class that is nowhere true has no accuracy, one that is neither true nor predicted no IoU: the means leave it out, as Long's own code
    does. (pix2pix's counts it as 0: the same figure where all classes occur.) Raises SegmentationError where no pixel is labelled.
    """
    counts = np.asarray(confusion, np.float64)
    if not counts.any():
        raise SegmentationError("no labelled pixel in any label map: the palette is another set's, or the direction is reversed")
    right, true, predicted = np.diagonal(counts), counts.sum(1), counts[:, :-1].sum(0)
    union = true + predicted - right
    return Scores(
        pixel_accuracy=float(right.sum() / counts.sum()),
        class_accuracy=float((right[true > 0] / true[true > 0]).mean()),
        iou=float((right[union > 0] / union[union > 0]).mean()),
    )
