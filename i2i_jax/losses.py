"""Losses: arrays in, scalar out. None of them broadcasts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from i2i_jax.types import Gaussian

Scalar = Float[Array, ""]
Logits = Float[Array, "..."]


def l1(prediction: Float[Array, "..."], truth: Float[Array, "..."]) -> Scalar:
    """Mean of |prediction - truth|. Raises ValueError where the shapes differ."""
    if prediction.shape != truth.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {truth.shape}")
    return jnp.abs(prediction - truth).mean()


def kl(q: Gaussian) -> Float[Array, " b"]:
    """KL(q || N(0, I)) of each row, in nats, summed over the latent's dimensions (Kingma 2014, appendix B)."""
    if q.mean.shape != q.log_var.shape:
        raise ValueError(f"shapes differ: {q.mean.shape} and {q.log_var.shape}")
    return -0.5 * (1 + q.log_var - jnp.square(q.mean) - jnp.exp(q.log_var)).sum(-1)


def cross_entropy(logits: Float[Array, "... k"], classes: Int[Array, "..."]) -> Scalar:
    """Mean of -log softmax(logits) at the true class, in nats; where the class is negative nothing is known, and not counted."""
    known = classes >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, classes, 0))
    return jnp.where(known, losses, 0).sum() / jnp.maximum(known.sum(), 1)


class GANLoss(NamedTuple):
    """A GAN's three losses, each from logits to their mean loss: D's on real and on fake images, G's on fake ones."""

    real: Callable[[Logits], Scalar]
    fake: Callable[[Logits], Scalar]
    generator: Callable[[Logits], Scalar]
    needs_penalty: bool = False


GAN_LOSSES = {
    # Goodfellow 2014, the generator maximising log D (non-saturating).
    "vanilla": GANLoss(
        real=lambda x: jax.nn.softplus(-x).mean(), fake=lambda x: jax.nn.softplus(x).mean(), generator=lambda x: jax.nn.softplus(-x).mean()
    ),
    # Mao 2017, labels 1 and 0, without the factor 1/2.
    "lsgan": GANLoss(
        real=lambda x: jnp.square(x - 1).mean(), fake=lambda x: jnp.square(x).mean(), generator=lambda x: jnp.square(x - 1).mean()
    ),
    # Lim 2017, Miyato 2018.
    "hinge": GANLoss(real=lambda x: jax.nn.relu(1 - x).mean(), fake=lambda x: jax.nn.relu(1 + x).mean(), generator=lambda x: -x.mean()),
    # Arjovsky 2017; with the gradient penalty of Gulrajani 2017.
    "wgan": GANLoss(real=lambda x: -x.mean(), fake=lambda x: x.mean(), generator=lambda x: -x.mean(), needs_penalty=True),
}


def over_scales(loss: Callable[[Logits], Scalar], logits: Sequence[Logits]) -> Scalar:
    """Sum over a multi-scale discriminator's outputs of their mean losses."""
    return sum((loss(scale) for scale in logits), jnp.float32(0))


def gradient_penalty(gradient: Float[Array, "b h w c"]) -> Scalar:
    """mean over the batch of (||gradient||_2 - 1)^2, the gradient of D at points between real and fake (Gulrajani 2017, eq. 3)."""
    squared = jnp.square(gradient).sum((1, 2, 3))
    return jnp.square(jnp.sqrt(squared + 1e-16) - 1).mean()
