"""Scores of label maps: pixel accuracy, class accuracy and IoU (Long 2015); the "FCN scores" of pix2pix."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from i2i_jax.data.palettes import UNLABELLED, Labels


class SegmentationError(ValueError):
    """Label maps that cannot be scored; the message is one line."""


def confusion(predicted: Labels, truth: Labels, *, classes: int) -> Int[Array, "b k k+1"]:
    """Confusion matrix of each image, in pixels.

    Args:
        predicted: predicted class of each pixel, or UNLABELLED.
        truth: true class of each pixel. UNLABELLED pixels are not counted.
        classes: the number of classes k.

    Returns:
        Pixels by true class (row) and predicted class (column). The last column counts predictions of no class, which are wrong.
    """
    column = jnp.where(predicted == UNLABELLED, classes, predicted)
    cells = classes * (classes + 1)
    cell = jnp.where(truth == UNLABELLED, cells, truth * (classes + 1) + column)
    counts = jax.vmap(lambda x: jnp.bincount(x.ravel(), length=cells + 1))(cell)
    return counts[:, :-1].reshape(-1, classes, classes + 1)


class Scores(NamedTuple):
    """Scores from 0 to 1.

    Attributes:
        pixel_accuracy: fraction of correct pixels.
        class_accuracy: fraction of correct pixels of each true class, averaged over classes.
        iou: intersection over union of each class, averaged over classes.
    """

    pixel_accuracy: float
    class_accuracy: float
    iou: float


def scores(confusion: Int[np.ndarray, "k k+1"]) -> Scores:
    """Computes the scores of a dataset (Long 2015).

    The means ignore classes whose accuracy or IoU is undefined: the accuracy of a class without true pixels, and the IoU of a class
    without true or predicted pixels. So does Long's code; pix2pix's code counts them as 0. Both agree if all classes occur.

    Args:
        confusion: the confusion matrix summed over all images (scores of single images do not average to those of the dataset).

    Raises:
        SegmentationError: if no pixel is labelled.
    """
    counts = np.asarray(confusion, np.float64)
    if not counts.any():
        raise SegmentationError("no labelled pixel in any label map: wrong palette, or the direction is reversed")
    correct, true, predicted = np.diagonal(counts), counts.sum(1), counts[:, :-1].sum(0)
    union = true + predicted - correct
    return Scores(
        pixel_accuracy=float(correct.sum() / counts.sum()),
        class_accuracy=float((correct[true > 0] / true[true > 0]).mean()),
        iou=float((correct[union > 0] / union[union > 0]).mean()),
    )
