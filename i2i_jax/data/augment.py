"""What the device does to a batch before it is trained on: crop, flip, scale to [-1, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer, Key, UInt8

from i2i_jax.data.loader import RawBatch
from i2i_jax.types import Batch


def augment(raw: RawBatch, key: Key[Array, ""], *, crop_size: int, flip: bool) -> Batch:
    """Of each pair the same random square of both images, the same half of all pairs mirrored.

    What is drawn for a pair depends on `key` and its `row` alone, so a batch may be spread over devices in any way.
    """

    def one(image, target, row):
        crop_key, flip_key = jax.random.split(jax.random.fold_in(key, row))
        height, width, _ = image.shape
        limits = jnp.array([height - crop_size + 1, width - crop_size + 1])
        top, left = jax.random.randint(crop_key, (2,), 0, limits)
        mirrored = flip & jax.random.bernoulli(flip_key)

        def cut(whole):
            crop = jax.lax.dynamic_slice(whole, (top, left, 0), (crop_size, crop_size, whole.shape[2]))
            return scale(jnp.where(mirrored, crop[:, ::-1], crop))

        return Batch(cut(image), cut(target))

    return jax.vmap(one)(*raw)


def scale(images: Integer[ArrayLike, "..."]) -> Float[Array, "..."]:
    """uint8 or uint16 to float32 in [-1, 1]."""
    images = jnp.asarray(images)
    return images.astype(jnp.float32) / (jnp.iinfo(images.dtype).max / 2) - 1


def to_uint8(images: Float[ArrayLike, "..."]) -> UInt8[np.ndarray, "..."]:
    """[-1, 1] to uint8 on the host, rounded; what lies outside is clipped."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)
