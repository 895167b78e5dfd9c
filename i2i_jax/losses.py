"""Loss functions: arrays in, scalar out. None of them broadcasts its arguments."""

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
    """Mean absolute error, mean |prediction - truth|.

    Raises:
        ValueError: if the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {truth.shape}")
    return jnp.abs(prediction - truth).mean()


def kl(q: Gaussian) -> Float[Array, " b"]:
    """KL divergence of each row of `q` from the standard normal prior (Kingma 2014, appendix B).

    KL(q || N(0, I)) = -1/2 sum_d (1 + log var_d - mean_d^2 - var_d)

    Returns:
        The divergence of each row in nats, summed over the dimensions of the latent.

    Raises:
        ValueError: if the shapes of mean and log variance differ.
    """
    if q.mean.shape != q.log_var.shape:
        raise ValueError(f"shapes differ: {q.mean.shape} and {q.log_var.shape}")
    return -0.5 * (1 + q.log_var - jnp.square(q.mean) - jnp.exp(q.log_var)).sum(-1)


def mode_seeking(between_images: Scalar, between_latents: Scalar) -> Scalar:
    """How little images of one input differ for the difference of their latents (Mao 2019, section 3).

    1 / (mean |G(A, z) - G(A, z')| / mean |z - z'| + 1e-5): the paper maximises the ratio, its code minimises this inverse.

    Args:
        between_images: mean absolute difference of the images of two latents z and z'.
        between_latents: mean absolute difference of the latents.
    """
    return 1 / (between_images / between_latents + 1e-5)


def cross_entropy(logits: Float[Array, "... k"], classes: Int[Array, "..."]) -> Scalar:
    """Mean cross-entropy, -log softmax(logits)[class], in nats.

    Args:
        logits: unnormalised log probabilities of the k classes.
        classes: the true class, 0 to k - 1. A negative class means unlabelled; such positions are ignored.

    Returns:
        The mean over all labelled positions; 0 if there are none.
    """
    labelled = classes >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(labelled, classes, 0))
    return jnp.where(labelled, losses, 0).sum() / jnp.maximum(labelled.sum(), 1)


class GANLoss(NamedTuple):
    """The three loss functions of a GAN. Each takes logits D(x) of any shape and returns their mean loss.

    The discriminator minimises real(D(real)) + fake(D(fake)), the generator minimises generator(D(fake)).

    Attributes:
        real: the discriminator's loss on real images.
        fake: the discriminator's loss on fake (generated) images.
        generator: the generator's loss on fake images.
        needs_penalty: whether the discriminator's loss needs a gradient penalty.
    """

    real: Callable[[Logits], Scalar]
    fake: Callable[[Logits], Scalar]
    generator: Callable[[Logits], Scalar]
    needs_penalty: bool = False


GAN_LOSSES = {
    # -log sigmoid(D(real)) - log(1 - sigmoid(D(fake)));  G: -log sigmoid(D(fake)), non-saturating (Goodfellow 2014, eq. 1 and section 3).
    "vanilla": GANLoss(
        real=lambda x: jax.nn.softplus(-x).mean(), fake=lambda x: jax.nn.softplus(x).mean(), generator=lambda x: jax.nn.softplus(-x).mean()
    ),
    # (D(real) - 1)^2 + D(fake)^2;  G: (D(fake) - 1)^2  (Mao 2017, with labels 1 and 0, without its factor 1/2).
    "lsgan": GANLoss(
        real=lambda x: jnp.square(x - 1).mean(), fake=lambda x: jnp.square(x).mean(), generator=lambda x: jnp.square(x - 1).mean()
    ),
    # max(0, 1 - D(real)) + max(0, 1 + D(fake));  G: -D(fake)  (Lim 2017, Miyato 2018).
    "hinge": GANLoss(real=lambda x: jax.nn.relu(1 - x).mean(), fake=lambda x: jax.nn.relu(1 + x).mean(), generator=lambda x: -x.mean()),
    # -D(real) + D(fake);  G: -D(fake)  (Arjovsky 2017), with the gradient penalty of Gulrajani 2017.
    "wgan": GANLoss(real=lambda x: -x.mean(), fake=lambda x: x.mean(), generator=lambda x: -x.mean(), needs_penalty=True),
}


def over_scales(loss: Callable[[Logits], Scalar], logits: Sequence[Logits]) -> Scalar:
    """Sum of `loss` over the outputs of a multi-scale discriminator.

    Args:
        loss: maps the logits of one scale to their mean loss.
        logits: the logits of each scale.
    """
    return sum((loss(scale) for scale in logits), jnp.float32(0))


def gradient_penalty(gradient: Float[Array, "b h w c"]) -> Scalar:
    """Gradient penalty, mean over the batch of (||gradient||_2 - 1)^2  (Gulrajani 2017, eq. 3).

    Args:
        gradient: the gradient of D with respect to images between real and fake ones.
    """
    squared = jnp.square(gradient).sum((1, 2, 3))
    return jnp.square(jnp.sqrt(squared + 1e-16) - 1).mean()
