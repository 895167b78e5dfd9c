"""The Fréchet distance between two samples of features: FID where the features are those of `inception`."""

import warnings
from typing import cast

import numpy as np
from jaxtyping import Float

from i2i_jax.metrics.features import comparable

RECOMMENDED = 10_000  # images, by the README of Heusel 2017's code


class SampleTooSmall(UserWarning):
    """A sample too small for its Fréchet distance to be compared with published ones."""


def frechet_distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m e"]) -> float:
    """|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of the samples' means and unbiased covariances; in float64, never negative.

    That is the squared Fréchet distance (Dowson 1982) of two Gaussians; Heusel 2017 calls it FID. It is symmetric,
    and zero up to rounding between equal samples. The estimate is too high in the mean, the more so the fewer the images
    (Binkowski 2018, Chong 2020): compare distances of equal sample sizes only.

    With S = R'R, tr (S_1 S_2)^(1/2) is the sum of the singular values of R_1 R_2'. So no matrix root is taken, a singular covariance
    needs no offset, and a rounding error is not magnified to its root.

    Raises FeaturesError; warns SampleTooSmall as `too_small` says.
    """
    first, second = comparable(first, second, least=2)
    if text := too_small(min(len(first), len(second)), first.shape[1]):
        warnings.warn(text, SampleTooSmall, stacklevel=2)
    root_1, root_2 = _root_of_covariance(first), _root_of_covariance(second)
    between = np.square(first.mean(0) - second.mean(0)).sum()
    shared = np.linalg.svd(root_1 @ root_2.T, compute_uv=False).sum()
    return max(0.0, float(between + np.square(root_1).sum() + np.square(root_2).sum() - 2 * shared))


def too_small(count: int, dimension: int) -> str:
    """Why the smaller sample's `count` is too small for features of `dimension`, as one line for a report; empty where it is not."""
    if count <= dimension:
        return f"{count} images, {dimension} features: the covariance is singular and the distance much too high; use a kernel distance"
    if count < RECOMMENDED:
        return (
            f"{count} images: the distance is too high by a bias that shrinks with their number; published ones use {RECOMMENDED} or more"
        )
    return ""


def _root_of_covariance(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "k d"]:
    """R of at most d rows with R'R the unbiased covariance."""
    root = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    return root if len(root) <= root.shape[1] else cast(np.ndarray, np.linalg.qr(root, mode="r"))
