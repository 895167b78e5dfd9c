"""Precision and recall of a generator, from the nearest neighbours of its features."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from i2i_jax.metrics.features import comparable
from i2i_jax.metrics.jackknife import Estimate, jackknife

NEIGHBOURS = 3  # as in the paper


class PrecisionRecall(NamedTuple):
    """Shares between 0 and 1.

    Attributes:
        precision: the share of generated images that look real: each is within the manifold of the real images.
        recall: the share of real images that the generator covers: each is within the manifold of the generated images.
    """

    precision: Estimate
    recall: Estimate


def precision_recall(fake: Float[np.ndarray, "n d"], real: Float[np.ndarray, "n e"], *, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi 2019, eq. 1 and 2).

    A sample's manifold is the union of the balls around its feature vectors that reach to their k-th nearest neighbour in the same sample.

    Both shares depend on the number of images: compare only figures of equal numbers. The standard errors are of `jackknife`, over inputs.

    Args:
        fake: features of n generated images, one for each input.
        real: features of n real images; row i belongs to the same input.
        neighbours: k.

    Raises:
        FeaturesError: if there are too few images, the dimensions differ, or features are NaN or Inf.
    """
    # Leaving out a group of two or more inputs must leave k + 1 images.
    fake, real = comparable(fake, real, least=2 * (neighbours + 1))
    between, within_fake, within_real = _distances(fake, real), _distances(fake, fake), _distances(real, real)

    def precision(inputs: np.ndarray) -> float:
        rows = np.ix_(inputs, inputs)
        return float(_inside(between[rows], within_real[rows], neighbours).mean())

    def recall(inputs: np.ndarray) -> float:
        rows = np.ix_(inputs, inputs)
        return float(_inside(between[rows].T, within_fake[rows], neighbours).mean())

    return PrecisionRecall(jackknife(precision, len(fake)), jackknife(recall, len(fake)))


def _distances(rows: Float[np.ndarray, "n d"], columns: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Euclidean distances, exactly 0 between equal features."""
    return np.stack([np.linalg.norm(columns - row, axis=1) for row in rows])


def _inside(to_members: Float[np.ndarray, "n m"], within: Float[np.ndarray, "m m"], neighbours: int) -> Bool[np.ndarray, " n"]:
    """Whether each image is in the manifold of a sample, given its distances to the members and those between members."""
    radii = np.partition(within, neighbours, axis=1)[:, neighbours]  # the nearest member is the member itself
    return np.any(to_members <= radii, axis=1)
