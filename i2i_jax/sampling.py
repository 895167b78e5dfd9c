"""Inference: translates and encodes images of any size with trained networks."""

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
    """How networks behave at test time. pix2pix keeps dropout on and normalises each image by its own statistics.

    Attributes:
        dropout: whether dropout is active.
        running_average: whether batch normalisation uses its running statistics instead of those of the image.
    """

    dropout: bool = False
    running_average: bool = False


def latents(key: jax.Array, count: int, samples: int, dim: int, *, sync: bool = False) -> Float[Array, "count samples dim"]:
    """Draws z ~ N(0, I) for several translations of each input.

    Args:
        key: random key. The latents of input i depend only on the key and i.
        count: number of inputs.
        samples: translations of each input.
        dim: dimensions of a latent.
        sync: whether all inputs share the same latents, those of input 0.
    """
    return latents_of(key, jnp.arange(count) * (not sync), samples, dim)


def latents_of(key: jax.Array, inputs: Int[Array, " b"], samples: int, dim: int) -> Float[Array, "b samples dim"]:
    """The latents that `latents` draws for the inputs with the given indices."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(inputs)
    return jax.vmap(lambda k: jax.random.normal(k, (samples, dim)))(keys)


def slerp(start: Float[Array, " d"], end: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, " d"]:
    """Spherical linear interpolation between two latents (Shoemake 1985).

    A straight line between two latents would pass near 0, where the prior has few samples. Between parallel or opposite latents the
    arc is not unique; there the interpolation is linear.

    Args:
        start: the latent at t = 0.
        end: the latent at t = 1.
        t: position on the arc, 0 to 1.
    """
    lengths = jnp.linalg.norm(start) * jnp.linalg.norm(end)
    angle = jnp.arccos(jnp.clip(jnp.vdot(start, end) / jnp.maximum(lengths, 1e-12), -1, 1))
    straight = jnp.sin(angle) < 1e-3
    safe_angle = jnp.where(straight, 1, angle)
    weights = jnp.where(straight, jnp.array([1 - t, t]), jnp.sin(jnp.array([1 - t, t]) * safe_angle) / jnp.sin(safe_angle))
    return weights @ jnp.stack([start, end])


def walk(stations: Float[Array, "n d"], frames: int) -> Float[Array, "n frames d"]:
    """Latents of a round trip through the given stations by `slerp`.

    Args:
        stations: the latents to visit; the trip returns from the last to the first.
        frames: latents for each leg.

    Returns:
        Row i leads from station i up to, but not including, the next station, which starts row i + 1.
    """
    times = jnp.arange(frames) / frames
    return jax.vmap(jax.vmap(slerp, (None, None, 0)), (0, 0, None))(stations, jnp.roll(stations, -1, 0), times)


def translate(
    networks: models.Networks, state: TrainState, inputs: Image, z: Float[Array, "b n d"], key: jax.Array, *, mode: Mode = Mode()
) -> Float[Array, "b n h w c_out"]:
    """Translates each input n times.

    Each translation is computed as a batch of one, so that it does not depend on other images, up to rounding, which may differ with
    their number. If height or width is not a multiple of the generator's `size_multiple`, the input is padded by reflection and the
    output is cropped.

    Args:
        networks: the networks.
        state: their trained parameters and statistics.
        inputs: images in [-1, 1].
        z: the latents of each input. For a generator without latent d is 0, and only n is used.
        key: random key of dropout.
        mode: how the networks behave.

    Returns:
        Images in [-1, 1].
    """
    count, height, width, _ = inputs.shape
    samples = z.shape[1]
    padded = pad_to_multiple(inputs, networks.generator.size_multiple)

    def translate_row(image: Array, latent: Array, key: Array) -> Array:
        return generate(networks, state, padded[image], latent, key, mode=mode)[:height, :width]

    rows = jnp.repeat(jnp.arange(count), samples), z.reshape(count * samples, z.shape[2]), dropout_keys(key, count, samples).ravel()
    outputs = parallel.batched_map(translate_row, *rows, pixels=padded[0, ..., 0].size)
    return outputs.reshape(count, samples, *outputs.shape[1:])


def generate(
    networks: models.Networks, state: TrainState, image: Float[Array, "h w c"], latent: Float[Array, " d"], key: jax.Array, *, mode: Mode
) -> Float[Array, "h w c_out"]:
    """Translates one image once.

    Args:
        networks: the networks.
        state: their trained parameters and statistics.
        image: an image in [-1, 1], with height and width multiples of the generator's `size_multiple`.
        latent: its latent; d = 0 for a generator without latent.
        key: random key of dropout.
        mode: how the networks behave.
    """
    variables = {"params": state.params["generator"], "batch_stats": state.batch_stats.get("generator", {})}
    arguments = (image[None], latent[None]) if latent.size else (image[None],)
    switches: dict[str, Any] = {"use_running_average": mode.running_average, "deterministic": not mode.dropout}
    return networks.generator.apply(variables, *arguments, **switches, rngs={"dropout": key})[0]


def dropout_keys(key: jax.Array, inputs: Any, samples: int) -> Key[Array, "inputs samples"]:
    """A dropout key for each translation of each input. The keys of input i depend only on the key and i."""
    return jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i), samples))(jnp.arange(inputs))


def encode(networks: models.Networks, state: TrainState, targets: Image, *, mode: Mode = Mode()) -> Gaussian:
    """The posterior q(z | B) of each target image B in [-1, 1], each encoded as a batch of one."""
    encoder = cast(nn.Module, networks.encoder)
    variables = {"params": state.params["encoder"], "batch_stats": state.batch_stats.get("encoder", {})}

    def encode_row(image: Array) -> Gaussian:
        posterior = cast(Gaussian, encoder.apply(variables, image[None], use_running_average=mode.running_average))
        return Gaussian(*(x[0] for x in posterior))

    return jax.vmap(encode_row)(targets)


def pad_to_multiple(images: Image, multiple: int) -> Float[Array, "b padded_h padded_w c"]:
    """Pads images by reflection on the right and at the bottom, up to a multiple of `multiple` pixels."""
    height, width = images.shape[1:3]
    return jnp.pad(images, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="symmetric")
