"""The Fréchet distance between two samples of features; FID with the features of `inception`."""

import warnings
from typing import cast

import numpy as np
from jaxtyping import Float

from i2i_jax.metrics.features import comparable
from i2i_jax.metrics.jackknife import Estimate, jackknife

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
    _warn_if_too_small(first, second)
    return _distance(first, second)


def _warn_if_too_small(first: np.ndarray, second: np.ndarray) -> None:
    if text := too_small(min(len(first), len(second)), first.shape[1]):
        warnings.warn(text, SampleTooSmall, stacklevel=3)


def _distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]) -> float:
    """See `frechet_distance`."""
    root_1, root_2 = _root_of_covariance(first), _root_of_covariance(second)
    between = np.square(first.mean(0) - second.mean(0)).sum()
    shared = np.linalg.svd(root_1 @ root_2.T, compute_uv=False).sum()
    return max(0.0, float(between + np.square(root_1).sum() + np.square(root_2).sum() - 2 * shared))


def frechet_joint_distance(fake: Float[np.ndarray, "n s d"], real: Float[np.ndarray, "n e"], inputs: Float[np.ndarray, "n f"]) -> Estimate:
    """The Fréchet distance between the joint distributions of images and their inputs, FJD (DeVries 2019, eq. 4 to 6).

    The features of an image and those of its input, times alpha, are one vector. alpha is the ratio of the mean L2 norms of the real
    images' and the inputs' features, so that both weigh the same. Unlike the Fréchet distance of the images alone, it rises if outputs do
    not belong to their inputs, or if the outputs for an input are less diverse than the targets.

    It is biased upwards for small samples, as `frechet_distance` is. The standard error is that of `jackknife`, over inputs.

    Args:
        fake: features of s generated images for each of n inputs, n >= 3.
        real: features of the targets.
        inputs: features of the inputs, with which both are joined.

    Raises:
        FeaturesError: if there are too few images, the dimensions differ, or features are NaN or Inf.

    Warns:
        SampleTooSmall: if `too_small` returns a text.
    """
    flat_fake, real = comparable(fake.reshape(-1, fake.shape[-1]), real, least=3)
    inputs, _ = comparable(inputs, inputs, least=3)
    fake = flat_fake.reshape(fake.shape)
    alpha = np.linalg.norm(real, axis=1).mean() / np.linalg.norm(inputs, axis=1).mean()
    joint_real = np.concatenate([real, alpha * inputs], 1)
    joint_fake = np.concatenate([fake, alpha * np.broadcast_to(inputs[:, None], (*fake.shape[:2], inputs.shape[1]))], 2)

    _warn_if_too_small(joint_fake.reshape(-1, joint_fake.shape[2]), joint_real)
    return jackknife(lambda chosen: _distance(joint_fake[chosen].reshape(-1, joint_fake.shape[2]), joint_real[chosen]), len(real))


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
