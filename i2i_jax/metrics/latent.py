"""Whether the latent is used: by the generator, in what it draws, and by the encoder, in what it says."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from i2i_jax.types import Gaussian, Latent

ACTIVE = 0.01  # variance over cases of a dimension's posterior mean (Burda 2016)


class LatentError(ValueError):
    """Latents that cannot be compared: one line that says what was found."""


def consistency(recovered: Float[Array, "*b d"], z: Float[Array, "..."]) -> Float[Array, "*b"]:
    """Mean |E(G(A, z)).mean - z| over the dimensions of each case: how much of z can be read off the image (Zhu 2017, eq. 8).

    `recovered` is E(G(A, z)).mean. An encoder that answers 0 to everything has sqrt(2 / pi) = 0.798 on average. Raises LatentError
    where the shapes differ.
    """
    if recovered.shape != z.shape:
        raise LatentError(f"recovered latents are {recovered.shape}, the drawn ones {z.shape}: must be the same")
    return jnp.abs(recovered - z).mean(-1)


def kl(q: Gaussian) -> Latent:
    """KL(q || N(0, I)) of each case and dimension, in nats (Kingma 2014, appendix B). Its mean over cases is 0 in a collapsed dimension."""
    return 0.5 * (jnp.square(q.mean) + jnp.exp(q.log_var) - 1 - q.log_var)


def active_dimensions(means: Float[Array, "n d"]) -> Int[Array, ""]:
    """How many dimensions depend on the image: those whose posterior mean varies over the n cases by more than 0.01 (Burda 2016).

    `means` are those of all cases: the count over parts says nothing of the whole. Raises LatentError for n = 1.
    """
    if len(means) < 2:
        raise LatentError(f"active dimensions need at least 2 cases: found {len(means)}")
    return (means.var(0, ddof=1) > ACTIVE).sum()
