"""Trained networks on new images: translate and encode, for any size."""

from functools import partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from i2i_jax import models
from i2i_jax.devices import parallel
from i2i_jax.train_state import TrainState
from i2i_jax.types import Gaussian, Image


class Mode(NamedTuple):
    """How networks behave at test time. pix2pix keeps dropout on and normalises each image by its own statistics."""

    dropout: bool = False
    running_average: bool = False


def latents(key: jax.Array, count: int, samples: int, dim: int, *, sync: bool = False) -> Float[Array, "count samples dim"]:
    """z ~ N(0, I) for `samples` translations of each of `count` inputs; `sync` gives all inputs the same ones.

    Those of input i are a function of the key and i.
    """
    return latents_of(key, jnp.arange(count) * (not sync), samples, dim)


def latents_of(key: jax.Array, inputs: Int[Array, " b"], samples: int, dim: int) -> Float[Array, "b samples dim"]:
    """The z of `latents` for the inputs of these numbers."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(inputs)
    return jax.vmap(lambda k: jax.random.normal(k, (samples, dim)))(keys)


def slerp(start: Float[Array, " d"], end: Float[Array, " d"], share: Float[Array, ""]) -> Float[Array, " d"]:
    """The latent at a `share` (0 to 1) of the arc from one to the other (Shoemake 1985), which keeps away from 0, where few latents are.

    Where both point the same or opposite ways there is no one arc: then it is on the straight line.
    """
    lengths = jnp.linalg.norm(start) * jnp.linalg.norm(end)
    angle = jnp.arccos(jnp.clip(jnp.vdot(start, end) / jnp.maximum(lengths, 1e-12), -1, 1))
    straight = jnp.sin(angle) < 1e-3
    whole = jnp.where(straight, 1, angle)
    weights = jnp.where(straight, jnp.array([1 - share, share]), jnp.sin(jnp.array([1 - share, share]) * whole) / jnp.sin(whole))
    return weights @ jnp.stack([start, end])


def walk(stations: Float[Array, "n d"], frames: int) -> Float[Array, "n frames d"]:
    """The latents of a round trip: row i leads from station i to the next, which begins row i + 1, so none comes twice in a row."""
    shares = jnp.arange(frames) / frames
    return jax.vmap(jax.vmap(slerp, (None, None, 0)), (0, 0, None))(stations, jnp.roll(stations, -1, 0), shares)


def translate(
    networks: models.Networks, state: TrainState, inputs: Image, z: Float[Array, "b n d"], key: jax.Array, *, mode: Mode = Mode()
) -> Float[Array, "b n h w c_out"]:
    """n translations of each input, images in [-1, 1]. `key` is dropout's; without latent (d = 0) z gives n alone.

    Every translation is computed as a batch of its own, so it does not depend on its neighbours. Sizes that do not fit the
    network are padded by reflection and cropped back.
    """
    count, height, width, _ = inputs.shape
    samples = z.shape[1]
    padded = pad_to_multiple(inputs, networks.generator.size_multiple)

    def one(image: Array, latent: Array, key: Array) -> Array:
        return generate(networks, state, padded[image], latent, key, mode=mode)[:height, :width]

    rows = jnp.repeat(jnp.arange(count), samples), z.reshape(count * samples, z.shape[2]), dropout_keys(key, count, samples).ravel()
    outputs = parallel.batched_map(one, *rows, pixels=padded[0, ..., 0].size)
    return outputs.reshape(count, samples, *outputs.shape[1:])


def generate(
    networks: models.Networks, state: TrainState, image: Float[Array, "h w c"], latent: Float[Array, " d"], key: jax.Array, *, mode: Mode
) -> Float[Array, "h w c_out"]:
    """One translation of one image, whose size must fit the network."""
    variables = {"params": state.params["generator"], "batch_stats": state.batch_stats.get("generator", {})}
    arguments = (image[None], latent[None]) if latent.size else (image[None],)
    switches: dict[str, Any] = {"use_running_average": mode.running_average, "deterministic": not mode.dropout}
    return networks.generator.apply(variables, *arguments, **switches, rngs={"dropout": key})[0]


def dropout_keys(key: jax.Array, inputs: Any, samples: int) -> Key[Array, "inputs samples"]:
    """Of each translation of each input: those of input i are a function of the key and i."""
    return jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i), samples))(jnp.arange(inputs))


def encode(networks: models.Networks, state: TrainState, targets: Image, *, mode: Mode = Mode()) -> Gaussian:
    """The posterior over the latent of each target image, [b, d] each."""
    encoder = cast(nn.Module, networks.encoder)
    variables = {"params": state.params["encoder"], "batch_stats": state.batch_stats.get("encoder", {})}

    def one(image: Array) -> Gaussian:
        posterior = cast(Gaussian, encoder.apply(variables, image[None], use_running_average=mode.running_average))
        return Gaussian(*(x[0] for x in posterior))

    return jax.vmap(one)(targets)


def pad_to_multiple(images: Image, multiple: int) -> Float[Array, "b padded_h padded_w c"]:
    """Reflected on the right and at the bottom up to a multiple of `multiple` pixels."""
    height, width = images.shape[1:3]
    return jnp.pad(images, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="symmetric")
