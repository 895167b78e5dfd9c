"""The training objectives. Each is a pure function (networks, batch, options) -> the weighted loss terms of both players.

In the equations A is the input image, B the target image, z the latent, G the generator, E the encoder and D a discriminator.
GAN(G, D) is the adversarial loss, one of `losses.GAN_LOSSES`. Lower-case factors such as l1 and kl are the weights of `WeightsConfig`. The
weights gan and gan_prior are left out; they apply to the generator's adversarial term only, not to the discriminator's loss (but at 0
the discriminator of that branch is not trained).

Zhu 2017 has two branches. The posterior branch reconstructs the target from its own latent: G(A, z), z ~ E(B). The prior branch
generates an image from a random latent: G(A, z), z ~ N(0, I). As in the code of BicycleGAN, each batch is split into two halves.
Images are generated from the inputs of the first half; the discriminator of the prior branch compares them with the targets of the
second half.

Objectives are called with bound networks (by `flax.linen.apply(objective, networks)`), so that `nets.generator(x)` needs no parameters.
"""

from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from i2i_jax import losses
from i2i_jax.config import WeightsConfig
from i2i_jax.data.palettes import PALETTES, Palette, classes_of
from i2i_jax.devices import parallel
from i2i_jax.types import Batch, Gaussian, Image, Latent


class Losses(NamedTuple):
    """The weighted loss terms of each player by name. A player's loss is the sum of its terms.

    Attributes:
        generator: terms that generator and encoder minimise: gan, l1, kl, gan_prior, latent, mode_seeking or cross_entropy.
        discriminator: terms that the discriminators minimise: gan and gan_prior.
    """

    generator: dict[str, jax.Array]
    discriminator: dict[str, jax.Array]

    def __or__(self, other: "Losses") -> "Losses":
        """The union of the terms of both."""
        return Losses(self.generator | other.generator, self.discriminator | other.discriminator)


class ObjectiveOptions(NamedTuple):
    """The options of an objective.

    Attributes:
        weights: the weights of its loss terms; a term with weight 0 is not computed.
        gan: the adversarial loss.
        sum_kl: whether the KL term is the sum over the first half of the global batch instead of the mean.
        latent_trains_encoder: whether the latent term of BicycleGAN also trains the encoder.
        palette: the classes and their colours in the segmenter's targets.
    """

    weights: WeightsConfig
    gan: losses.GANLoss = losses.GAN_LOSSES["lsgan"]
    sum_kl: bool = False
    latent_trains_encoder: bool = False
    palette: Palette = PALETTES["facades"]


class _Generated(NamedTuple):
    """Images G(A, z) with their inputs A and latents z."""

    input: Image
    z: Latent
    image: Image


def pix2pix(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """pix2pix (Isola 2017, eq. 4).

    min_G max_D  GAN(G, D) + l1 |B - G(A)|

    D's loss is halved (section 3.3). For the ablations of table 1, set the weight of a term to 0.
    """
    return _one_image(nets, batch, nets.generator(batch.input), options)


def pix2pix_noise(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """pix2pix + noise: pix2pix with a random latent (Zhu 2017, section 3.1).

    min_G max_D  GAN(G, D) + l1 |B - G(A, z)|,  z ~ N(0, I)

    With weights.mode_seeking it is the MSGAN of Mao 2019.
    """
    random = _generate(nets, batch.input, standard_normal(nets, (len(batch.input), nets.latent_dim)))
    return _one_image(nets, batch, random.image, options) | _mode_seeking(nets, random, options)


def cae_gan(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """cAE-GAN: the posterior branch with a deterministic encoder (Zhu 2017, section 5).

    min_{G,E} max_D  GAN(G, E, D) + l1 |B - G(A, E(B))|

    Raises:
        ValueError: if the batch of a device cannot be split into two halves.
    """
    pairs, _ = _halves(batch)
    return _reconstruct(nets, pairs, nets.encoder(pairs.target).mean, options)[0]


def cvae_gan(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """cVAE-GAN: the posterior branch (Zhu 2017, eq. 5 to 7).

    min_{G,E} max_D  GAN(G, E, D) + l1 |B - G(A, z)| + kl KL(E(B) || N(0, I)),  z ~ E(B)

    Raises:
        ValueError: if the batch of a device cannot be split into two halves.
    """
    return _posterior_branch(nets, batch, options)[0]


def clr_gan(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """cLR-GAN: the prior branch (Zhu 2017, eq. 8 and 9).

    min_{G,E} max_D  GAN(G, D) + latent |z - E(G(A, z)).mean|,  z ~ N(0, I)

    Images are generated from the inputs of the first half; D compares them with the second half.

    Raises:
        ValueError: if the batch of a device cannot be split into two halves.
    """
    terms, random = _prior_branch(nets, batch, options)
    return terms | _mode_seeking(nets, random, options)


def bicycle_gan(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """BicycleGAN: the sum of cVAE-GAN and cLR-GAN (Zhu 2017, eq. 10).

    The latent term trains only the generator by default. If it trained the encoder too, the two could hide the latent in the image
    (section 4, training details). The mode seeking term compares the images of the two branches, which have the same inputs.

    Raises:
        ValueError: if the batch of a device cannot be split into two halves.
    """
    posterior_terms, encoded = _posterior_branch(nets, batch, options)
    prior_terms, random = _prior_branch(nets, batch, options, train_encoder=options.latent_trains_encoder)
    return posterior_terms | prior_terms | _mode_seeking(nets, random, options, other=encoded)


def segmenter(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """Semantic segmentation, without a GAN: the cross-entropy of the class of each pixel.

    The generator's scores are in [-1, 1]; the logits are 6 times the scores, so that a class can reach a probability of nearly 1.
    """
    logits = 6 * nets.generator.scores(batch.input)
    return Losses({"cross_entropy": losses.cross_entropy(logits, classes_of(batch.target, options.palette))}, {})


OBJECTIVES = {
    "pix2pix": pix2pix,
    "pix2pix_noise": pix2pix_noise,
    "cae_gan": cae_gan,
    "cvae_gan": cvae_gan,
    "clr_gan": clr_gan,
    "bicycle_gan": bicycle_gan,
    "segmenter": segmenter,
}


def standard_normal(nets: nn.Module, shape: tuple[int, ...]) -> Latent:
    """Draws z ~ N(0, I) for this device's rows. All latents of the objectives are drawn here.

    Args:
        nets: the bound networks, whose random stream `latent` is used.
        shape: (rows of this shard, latent dimensions).
    """
    return parallel.draw(jax.random.normal, nets.make_rng("latent"), shape, nets.shard)


def _sample(nets: nn.Module, q: Gaussian) -> Latent:
    """A sample of `q` by the reparameterisation trick: mean + exp(log_var / 2) eps, eps ~ N(0, I)  (Kingma 2014, section 2.4)."""
    return q.mean + jnp.exp(q.log_var / 2) * standard_normal(nets, q.mean.shape)


def _generate(nets: nn.Module, inputs: Image, z: Latent) -> _Generated:
    return _Generated(inputs, z, nets.generator(inputs, z))


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    """The first and the second half of a batch."""
    n = len(batch.input)
    if n % 2:
        raise ValueError(f"a batch of {n} per device does not split in two halves: make data.batch_size an even number per device")
    return Batch(*(x[: n // 2] for x in batch)), Batch(*(x[n // 2 :] for x in batch))


def _apply(encoder: nn.Module, image: Image) -> Gaussian:
    return encoder(image)


# Applies the encoder with its parameters held constant: gradients reach the image, but not the encoder.
_apply_frozen = nn.map_variables(_apply, "params", trans_in_fn=jax.lax.stop_gradient)


def _posterior_branch(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> tuple[Losses, _Generated]:
    """The terms of cVAE-GAN, and the images that it generates."""
    pairs, _ = _halves(batch)
    posterior = nets.encoder(pairs.target)
    terms, encoded = _reconstruct(nets, pairs, _sample(nets, posterior), options)
    if options.weights.kl:
        kl = losses.kl(posterior)
        terms.generator["kl"] = options.weights.kl * kl.mean() * (len(kl) * parallel.shard_count(nets.shard) if options.sum_kl else 1)
    return terms, encoded


def _prior_branch(nets: nn.Module, batch: Batch, options: ObjectiveOptions, *, train_encoder: bool = True) -> tuple[Losses, _Generated]:
    """The GAN and latent terms of cLR-GAN, and the images that it generates; the latent term trains the encoder if `train_encoder`."""
    pairs, other_pairs = _halves(batch)
    random = _generate(nets, pairs.input, standard_normal(nets, (len(pairs.input), nets.latent_dim)))
    pair, weight = Batch(pairs.input, random.image), options.weights.gan_prior
    terms = _gan(nets, nets.discriminator_prior, other_pairs, pair, options, name="gan_prior", weight=weight)
    if options.weights.latent:
        recovered = (_apply if train_encoder else _apply_frozen)(nets.encoder, random.image).mean
        terms.generator["latent"] = options.weights.latent * losses.l1(recovered, random.z)
    return terms, random


def _one_image(nets: nn.Module, batch: Batch, fake: Image, options: ObjectiveOptions) -> Losses:
    """The terms of pix2pix for the generated images `fake`."""
    terms = _gan(nets, nets.discriminator, batch, Batch(batch.input, fake), options, name="gan", weight=options.weights.gan)
    halved = Losses(terms.generator, {name: 0.5 * term for name, term in terms.discriminator.items()})
    return halved | _distance(fake, batch, options)


def _reconstruct(nets: nn.Module, pairs: Batch, z: Latent, options: ObjectiveOptions) -> tuple[Losses, _Generated]:
    """The GAN and L1 terms of the posterior branch, which reconstructs the targets of `pairs` from their latents `z`, and its images."""
    encoded = _generate(nets, pairs.input, z)
    pair = Batch(pairs.input, encoded.image)
    terms = _gan(nets, nets.discriminator, pairs, pair, options, name="gan", weight=options.weights.gan)
    return terms | _distance(encoded.image, pairs, options), encoded


def _distance(fake: Image, batch: Batch, options: ObjectiveOptions) -> Losses:
    """l1 |B - fake|."""
    return Losses({"l1": options.weights.l1 * losses.l1(fake, batch.target)} if options.weights.l1 else {}, {})


def _mode_seeking(nets: nn.Module, random: _Generated, options: ObjectiveOptions, other: _Generated | None = None) -> Losses:
    """mode_seeking |z - z'| / |G(A, z) - G(A, z')|  (Mao 2019, section 3, as its code minimises it).

    z and G(A, z) are `random`, z' and G(A, z') are `other`; without it, z' ~ N(0, I).
    """
    if not options.weights.mode_seeking:
        return Losses({}, {})
    other = other or _generate(nets, random.input, standard_normal(nets, random.z.shape))
    distances = losses.l1(random.image, other.image), losses.l1(random.z, other.z)
    term = losses.mode_seeking(*(parallel.mean_over_devices(distance, nets.shard.axis) for distance in distances))
    return Losses({"mode_seeking": options.weights.mode_seeking * term}, {})


def _gan(
    nets: nn.Module, discriminator: nn.Module, real: Batch, fake: Batch, options: ObjectiveOptions, *, name: str, weight: float
) -> Losses:
    """The adversarial terms of both players under `name`, summed over the scales of `discriminator`; `weight` is the generator's."""
    if not weight:
        return Losses({}, {})
    real_image, fake_image = (_discriminator_input(nets, pair) for pair in (real, fake))
    fake_logits = discriminator(fake_image)
    generator_loss, discriminator_loss = {}, {}
    if "generator" in nets.players:
        generator_loss[name] = weight * losses.over_scales(options.gan.generator, fake_logits)
    if "discriminator" in nets.players:
        discriminator_loss[name] = losses.over_scales(options.gan.fake, fake_logits) + losses.over_scales(
            options.gan.real, discriminator(real_image)
        )
        if options.gan.needs_penalty and options.weights.gradient_penalty:
            discriminator_loss[name] += options.weights.gradient_penalty * _penalty(nets, discriminator, real_image, fake_image)
    return Losses(generator_loss, discriminator_loss)


def _discriminator_input(nets: nn.Module, pair: Batch) -> Image:
    """What the discriminator sees: input and target concatenated if it is conditional, else the target only."""
    return jnp.concatenate(pair, -1) if nets.conditional else pair.target


def _penalty(nets: nn.Module, discriminator: nn.Module, real: Image, fake: Image) -> jax.Array:
    """The gradient penalty at random points on the lines between fake and real images (Gulrajani 2017, eq. 3 and algorithm 1)."""
    t = parallel.draw(jax.random.uniform, nets.make_rng("latent"), (len(real), 1, 1, 1), nets.shard)
    between = jax.lax.stop_gradient(t * real + (1 - t) * fake)
    unbound, variables = discriminator.unbind()
    return losses.gradient_penalty(jax.grad(lambda x: losses.over_scales(jnp.sum, cast(list, unbound.apply(variables, x))))(between))
