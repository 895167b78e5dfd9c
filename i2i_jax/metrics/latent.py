"""Whether generator and encoder use the latent."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from i2i_jax.types import Gaussian, Latent

ACTIVE = 0.01  # smallest variance of the posterior mean of an active dimension (Burda 2016)


class LatentError(ValueError):
    """Latents that cannot be compared; the message is one line with their shapes."""


def consistency(recovered: Float[Array, "*b d"], z: Float[Array, "..."]) -> Float[Array, "*b"]:
    """How well the encoder recovers z from the generated image: mean |E(G(A, z)).mean - z| over the dimensions (Zhu 2017, eq. 8).

    0 is perfect. An encoder that always returns 0 gets sqrt(2 / pi) = 0.798 on average.

    Args:
        recovered: E(G(A, z)).mean of each generated image.
        z: the latent it was generated from.

    Returns:
        The mean absolute difference for each image.

    Raises:
        LatentError: if the shapes differ.
    """
    if recovered.shape != z.shape:
        raise LatentError(f"recovered latents are {recovered.shape}, the drawn ones {z.shape}: must be the same")
    return jnp.abs(recovered - z).mean(-1)


def kl(q: Gaussian) -> Latent:
    """KL(q || N(0, I)) of each row and dimension, in nats (Kingma 2014, appendix B).

    The mean over rows is 0 for a collapsed dimension, whose posterior is always the prior.
    """
    return 0.5 * (jnp.square(q.mean) + jnp.exp(q.log_var) - 1 - q.log_var)


def active_dimensions(means: Float[Array, "n d"]) -> Int[Array, ""]:
    """The number of latent dimensions that depend on the image (Burda 2016).

    A dimension is active if the variance of its posterior mean over images is above 0.01. Counts of parts of a dataset do not add up or
    average to the count of the whole: pass the means of all images at once.

    Args:
        means: posterior means of n images, n >= 2.

    Raises:
        LatentError: if there are fewer than 2 images.
    """
    if len(means) < 2:
        raise LatentError(f"active dimensions need at least 2 images: found {len(means)}")
    return (means.var(0, ddof=1) > ACTIVE).sum()
