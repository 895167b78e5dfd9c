"""The systems. Each is one pure function of the bound networks and a batch, and returns every player's weighted loss terms.

Zhu 2017 names two branches: the posterior branch encodes the target, G(A, z ~ E(B)); the prior branch draws, G(A, z ~ N(0, I)).
As in BicycleGAN's code a batch is split in two halves: images are generated from the first half's inputs, and the prior branch's
discriminator compares them with the second half's targets.
"""

from typing import NamedTuple, Protocol, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from i2i_jax import losses
from i2i_jax.data.palettes import PALETTES, Palette, classes_of
from i2i_jax.devices import parallel
from i2i_jax.types import Batch, Gaussian, Image, Latent


class Losses(NamedTuple):
    """Weighted terms by name, for each player; a player's loss is their sum."""

    generator: dict[str, jax.Array]
    discriminator: dict[str, jax.Array]

    def __or__(self, other: "Losses") -> "Losses":
        return Losses(self.generator | other.generator, self.discriminator | other.discriminator)


class Weights(Protocol):
    """Of the terms; a term of weight 0 is not computed."""

    gan: float
    gan_prior: float
    l1: float
    kl: float
    latent: float
    gradient_penalty: float


class ObjectiveOptions(NamedTuple):
    """What an objective's terms are made of."""

    weights: Weights
    gan: losses.GANLoss = losses.GAN_LOSSES["lsgan"]
    sum_kl: bool = False  # over the batch, instead of its mean
    latent_trains_encoder: bool = False  # in BicycleGAN
    palette: Palette = PALETTES["facades"]  # the segmenter's


def pix2pix(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """min_G max_D  GAN(G, D) + l1 |B - G(A)|  (Isola 2017, eq. 4); D's loss is halved. The ablations are weights of 0."""
    return _one_image(nets, batch, nets.generator(batch.input), options)


def pix2pix_noise(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """pix2pix with a random latent: G(A, z)  (Zhu 2017, section 3.1)."""
    z = standard_normal(nets, (len(batch.input), nets.latent_dim))
    return _one_image(nets, batch, nets.generator(batch.input, z), options)


def cae_gan(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """Posterior branch with a deterministic encoder: GAN + l1 |B - G(A, E(B))|  (the cAE-GAN of Zhu 2017, section 5)."""
    pairs, _ = _halves(batch)
    return _reconstruct(nets, pairs, nets.encoder(pairs.target).mean, options)


def cvae_gan(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """Posterior branch: GAN + l1 |B - G(A, z)| + kl KL(E(B) || N(0, I)), z ~ E(B)  (Zhu 2017, eq. 5 to 7)."""
    pairs, _ = _halves(batch)
    posterior = nets.encoder(pairs.target)
    terms = _reconstruct(nets, pairs, _sample(nets, posterior), options)
    if options.weights.kl:
        kl = losses.kl(posterior)
        terms.generator["kl"] = options.weights.kl * kl.mean() * (len(kl) * parallel.shard_count(nets.shard) if options.sum_kl else 1)
    return terms


def clr_gan(nets: nn.Module, batch: Batch, options: ObjectiveOptions, *, train_encoder: bool = True) -> Losses:
    """Prior branch: GAN + latent |z - E(G(A, z)).mean|, z ~ N(0, I)  (Zhu 2017, eq. 8 and 9)."""
    pairs, others = _halves(batch)
    z = standard_normal(nets, (len(pairs.input), nets.latent_dim))
    if not (options.weights.gan_prior or options.weights.latent):
        return Losses({}, {})
    fake = nets.generator(pairs.input, z)
    terms = _gan(
        nets, nets.discriminator_prior, others, Batch(pairs.input, fake), options, name="gan_prior", weight=options.weights.gan_prior
    )
    if options.weights.latent:
        recovered = (_apply if train_encoder else _apply_frozen)(nets.encoder, fake).mean
        terms.generator["latent"] = options.weights.latent * losses.l1(recovered, z)
    return terms


def bicycle_gan(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """Both branches; the latent loss trains the generator alone, or the two would hide the code in the image (Zhu 2017, eq. 10)."""
    return cvae_gan(nets, batch, options) | clr_gan(nets, batch, options, train_encoder=options.latent_trains_encoder)


def segmenter(nets: nn.Module, batch: Batch, options: ObjectiveOptions) -> Losses:
    """No game: the cross-entropy of each pixel's class, of logits 6 times the generator's scores."""
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
    """z ~ N(0, I), [b, d]: the one place where latents are drawn."""
    return parallel.draw(jax.random.normal, nets.make_rng("latent"), shape, nets.shard)


def _sample(nets: nn.Module, q: Gaussian) -> Latent:
    """Reparameterised: mean + exp(log_var / 2) eps."""
    return q.mean + jnp.exp(q.log_var / 2) * standard_normal(nets, q.mean.shape)


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    n = len(batch.input)
    if n % 2:
        raise ValueError(f"a batch of {n} per device does not split in two halves: make data.batch_size an even number per device")
    return Batch(*(x[: n // 2] for x in batch)), Batch(*(x[n // 2 :] for x in batch))


def _apply(encoder: nn.Module, image: Image) -> Gaussian:
    return encoder(image)


_apply_frozen = nn.map_variables(_apply, "params", trans_in_fn=jax.lax.stop_gradient)


def _one_image(nets: nn.Module, batch: Batch, fake: Image, options: ObjectiveOptions) -> Losses:
    terms = _gan(nets, nets.discriminator, batch, Batch(batch.input, fake), options, name="gan", weight=options.weights.gan)
    halved = Losses(terms.generator, {name: 0.5 * term for name, term in terms.discriminator.items()})
    return halved | _distance(fake, batch, options)


def _reconstruct(nets: nn.Module, pairs: Batch, z: Latent, options: ObjectiveOptions) -> Losses:
    fake = nets.generator(pairs.input, z)
    terms = _gan(nets, nets.discriminator, pairs, Batch(pairs.input, fake), options, name="gan", weight=options.weights.gan)
    return terms | _distance(fake, pairs, options)


def _distance(fake: Image, batch: Batch, options: ObjectiveOptions) -> Losses:
    return Losses({"l1": options.weights.l1 * losses.l1(fake, batch.target)} if options.weights.l1 else {}, {})


def _gan(
    nets: nn.Module, discriminator: nn.Module, real: Batch, fake: Batch, options: ObjectiveOptions, *, name: str, weight: float
) -> Losses:
    """The adversarial term of both players, summed over the discriminator's scales."""
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
    """What the discriminator sees of a pair."""
    return jnp.concatenate(pair, -1) if nets.conditional else pair.target


def _penalty(nets: nn.Module, discriminator: nn.Module, real: Image, fake: Image) -> jax.Array:
    """Gulrajani 2017, eq. 3, at random points on the lines from fake to real."""
    t = parallel.draw(jax.random.uniform, nets.make_rng("latent"), (len(real), 1, 1, 1), nets.shard)
    between = jax.lax.stop_gradient(t * real + (1 - t) * fake)
    unbound, variables = discriminator.unbind()
    return losses.gradient_penalty(jax.grad(lambda x: losses.over_scales(jnp.sum, cast(list, unbound.apply(variables, x))))(between))
