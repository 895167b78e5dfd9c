"""The Fréchet distance between two samples of features; FID with the features of `inception`."""

import warnings
from typing import cast

import numpy as np
from jaxtyping import Float

from i2i_jax.metrics.features import comparable

RECOMMENDED = 10_000  # images, according to the README of the code of Heusel 2017


class SampleTooSmall(UserWarning):
    """Warns that a sample is too small for its Fréchet distance to be comparable with published ones."""


def frechet_distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m e"]) -> float:
    """Squared Fréchet distance between Gaussians fitted to two samples of features (Dowson 1982), named FID by Heusel 2017.

    d^2 = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

    with the samples' means mu and unbiased covariances S, in float64. It is symmetric, never negative, and 0 up to rounding for equal
    samples. The estimate is biased upwards, the more so the fewer the images (Binkowski 2018, Chong 2020): compare distances of equal
    sample sizes only.

    With S = R'R, tr (S_1 S_2)^(1/2) is the sum of the singular values of R_1 R_2'. This needs no matrix square root and no offset for
    singular covariances, and does not amplify rounding errors.

    Args:
        first: features of n images, n >= 2.
        second: features of m images, m >= 2, of the same dimension.

    Raises:
        FeaturesError: if a sample has fewer than 2 images or contains NaN or Inf, or if the dimensions differ.

    Warns:
        SampleTooSmall: if `too_small` returns a text.
    """
    first, second = comparable(first, second, least=2)
    if text := too_small(min(len(first), len(second)), first.shape[1]):
        warnings.warn(text, SampleTooSmall, stacklevel=2)
    root_1, root_2 = _root_of_covariance(first), _root_of_covariance(second)
    between = np.square(first.mean(0) - second.mean(0)).sum()
    shared = np.linalg.svd(root_1 @ root_2.T, compute_uv=False).sum()
    return max(0.0, float(between + np.square(root_1).sum() + np.square(root_2).sum() - 2 * shared))


def too_small(count: int, dimension: int) -> str:
    """Returns why a sample is too small, as one line for a report; empty if it is large enough.

    Args:
        count: images of the smaller sample.
        dimension: dimension of the features.
    """
    if count <= dimension:
        return f"{count} images, {dimension} features: the covariance is singular and the distance much too high; use a kernel distance"
    if count < RECOMMENDED:
        return (
            f"{count} images: the distance is too high, by a bias that shrinks with more images; published ones use {RECOMMENDED} or more"
        )
    return ""


def _root_of_covariance(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "k d"]:
    """A matrix R of at most d rows with R'R the unbiased covariance."""
    root = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    return root if len(root) <= root.shape[1] else cast(np.ndarray, np.linalg.qr(root, mode="r"))
