"""Augmentation on the device: random crop, random flip, scaling to [-1, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer, Key, UInt8, UInt16

from i2i_jax.data.loader import RawBatch
from i2i_jax.types import Batch


def augment(raw: RawBatch, key: Key[Array, ""], *, crop_size: int, flip: bool) -> Batch:
    """Crops and flips each pair at random, input and target alike, and scales it to [-1, 1].

    The draws for a pair depend only on `key` and its `row`, so a batch may be sharded over devices in any way.

    Args:
      raw: the pairs, uint8 or uint16.
      key: the key of this step.
      crop_size: height and width of the crops, in pixels.
      flip: whether to mirror each pair left to right with probability 1/2.
    """

    def augment_pair(image, target, row):
        crop_key, flip_key = jax.random.split(jax.random.fold_in(key, row))
        height, width, _ = image.shape
        limits = jnp.array([height - crop_size + 1, width - crop_size + 1])
        top, left = jax.random.randint(crop_key, (2,), 0, limits)
        mirrored = flip & jax.random.bernoulli(flip_key)

        def crop_and_flip(whole):
            crop = jax.lax.dynamic_slice(whole, (top, left, 0), (crop_size, crop_size, whole.shape[2]))
            return scale(jnp.where(mirrored, crop[:, ::-1], crop))

        return Batch(crop_and_flip(image), crop_and_flip(target))

    return jax.vmap(augment_pair)(*raw)


def scale(images: Integer[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Converts uint8 or uint16 to float32 in [-1, 1]."""
    images = jnp.asarray(images)
    return images.astype(jnp.float32) / (jnp.iinfo(images.dtype).max / 2) - 1


def to_uint8(images: Float[ArrayLike, "..."]) -> UInt8[np.ndarray, "..."]:
    """Converts [-1, 1] to uint8 on the host, rounded and clipped."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def to_uint16(images: Float[ArrayLike, "..."]) -> UInt16[np.ndarray, "..."]:
    """Converts [-1, 1] to uint16 on the host, rounded and clipped."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 32767.5), 0, 65535).astype(np.uint16)
