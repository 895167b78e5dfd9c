"""Distortion metrics (L1, PSNR, SSIM), which compare each image with the one true target.

They favour the mean of all plausible outputs over a realistic one. All take images in [-1, 1], rescale them to [0, 1] and compute in
the dtype of the images.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from i2i_jax.types import Image

PerImage = Float[Array, " b"]

WINDOW = 7  # pixels


class DistortionError(ValueError):
    """Images that cannot be compared; the message is one line with their shapes."""


def l1(images: Image, truth: Float[Array, "..."]) -> PerImage:
    """Mean absolute difference of each image from its target, 0 to 1.

    Raises:
        DistortionError: if the shapes differ.
    """
    _check_same_shape(images, truth)
    return jnp.abs(images - truth).mean((1, 2, 3)) / 2


def psnr(images: Image, truth: Float[Array, "..."]) -> PerImage:
    """Peak signal-to-noise ratio of each image in dB, from the mean squared error over all its pixels and channels.

    Inf for an image equal to its target; then the mean over images is Inf, too.

    Raises:
        DistortionError: if the shapes differ.
    """
    _check_same_shape(images, truth)
    squared_error = jnp.square((images - truth) / 2).mean((1, 2, 3))
    return -10 * jnp.log10(squared_error)


def ssim(images: Image, truth: Float[Array, "..."]) -> PerImage:
    """Structural similarity (SSIM) of each image, -1 to 1 (Wang 2004), with the defaults of scikit-image's `structural_similarity`.

    Uniform windows of 7 x 7 pixels that lie inside the image, unbiased covariances, mean over windows and channels. The Gaussian window
    of the paper gives other values.

    Raises:
        DistortionError: if the shapes differ, or height or width is under 7 pixels.
    """
    _check_same_shape(images, truth)
    if min(images.shape[1:3]) < WINDOW:
        raise DistortionError(f"images are {images.shape[1]} x {images.shape[2]}: SSIM needs at least {WINDOW} x {WINDOW}")
    x, y = images / 2, truth / 2  # centred at 0, where rounding affects the variances least
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variances = unbiased * (_window_mean(x * x) + _window_mean(y * y) - mean_x**2 - mean_y**2)
    covariance = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).mean((1, 2, 3))


def _window_mean(x: Image) -> Float[Array, "b rows columns c"]:
    """The mean over every 7 x 7 window."""
    return nn.avg_pool(nn.avg_pool(x, (WINDOW, 1), padding="VALID"), (1, WINDOW), padding="VALID")


def _check_same_shape(images: Image, truth: Float[Array, "..."]) -> None:
    """Raises DistortionError if the shapes differ."""
    if images.shape != truth.shape:
        raise DistortionError(f"images are {images.shape}, their truth {truth.shape}: sizes and channels must be the same")
