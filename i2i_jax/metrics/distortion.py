"""Distance of an image from the one true image, image by image. What it rewards is the mean of all plausible answers, not realism.

All take images in [-1, 1] and measure on a scale of 0 to 1, in the precision of the images.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from i2i_jax.types import Image

PerImage = Float[Array, " b"]

WINDOW = 7  # pixels


class DistortionError(ValueError):
    """Images that cannot be compared: one line that names both shapes."""


def l1(images: Image, truth: Float[Array, "..."]) -> PerImage:
    """Mean |difference|. Raises DistortionError where sizes or channels differ."""
    _check_alike(images, truth)
    return jnp.abs(images - truth).mean((1, 2, 3)) / 2


def psnr(images: Image, truth: Float[Array, "..."]) -> PerImage:
    """Peak signal-to-noise ratio in dB, the squared error taken over all pixels and channels of an image.

    Infinite where an image is its truth, and so is then the mean over images. Raises DistortionError where sizes or channels differ.
    """
    _check_alike(images, truth)
    squared_error = jnp.square((images - truth) / 2).mean((1, 2, 3))
    return -10 * jnp.log10(squared_error)


def ssim(images: Image, truth: Float[Array, "..."]) -> PerImage:
    """Structural similarity (Wang 2004) as scikit-image's `structural_similarity` has it by default.

    Windows of 7 x 7 pixels, all alike in weight and wholly inside the image; unbiased covariances; the mean over windows and channels.
    The Gaussian window of the paper gives other figures. Raises DistortionError where sizes or channels differ, or a side is under 7.
    """
    _check_alike(images, truth)
    if min(images.shape[1:3]) < WINDOW:
        raise DistortionError(f"images are {images.shape[1]} x {images.shape[2]}: SSIM needs at least {WINDOW} x {WINDOW}")
    x, y = images / 2, truth / 2  # centred at 0, where the variances lose least to rounding
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
    return nn.avg_pool(nn.avg_pool(x, (WINDOW, 1), padding="VALID"), (1, WINDOW), padding="VALID")


def _check_alike(images: Image, truth: Float[Array, "..."]) -> None:
    if images.shape != truth.shape:
        raise DistortionError(f"images are {images.shape}, their truth {truth.shape}: sizes and channels must be the same")
