"""Augmentation on the device: random crop, flips and rotation, scaling to [-1, 1]."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, Num

from i2i_jax.data.loader import RawBatch
from i2i_jax.data.values import to_uint8, to_uint16
from i2i_jax.types import Batch

__all__ = ["augment", "scale", "to_uint8", "to_uint16"]


def augment(
    raw: RawBatch, key: Key[Array, ""], *, crop_size: int | tuple[int, int], flip: bool, flip_vertical: bool = False, rotate: bool = False
) -> Batch:
    """Crops, flips and rotates each pair at random, input and target alike, and scales it to [-1, 1].

    The draws for a pair depend only on `key` and its `row`, so a batch may be sharded over devices in any way.

    Args:
        raw: the pairs, uint8, uint16 or floats in [-1, 1].
        key: the key of this step.
        crop_size: height and width of the crops, in pixels; one number for squares. They must be square with `rotate`.
        flip: whether to mirror each pair left to right with probability 1/2.
        flip_vertical: whether to mirror each pair top to bottom with probability 1/2.
        rotate: whether to rotate each pair by 0, 90, 180 or 270 degrees, with probability 1/4 each.
    """
    crop_height, crop_width = crop_size if isinstance(crop_size, tuple) else (crop_size, crop_size)

    def augment_pair(image, target, row):
        pair_key = jax.random.fold_in(key, row)
        crop_key, flip_key = jax.random.split(pair_key)
        vertical_key, rotation_key = (jax.random.fold_in(pair_key, i) for i in (2, 3))  # 0 and 1 are the keys of `split`
        height, width, _ = image.shape
        limits = jnp.array([height - crop_height + 1, width - crop_width + 1])
        top, left = jax.random.randint(crop_key, (2,), 0, limits)
        mirrored = flip & jax.random.bernoulli(flip_key)

        def transform(whole):
            crop = jax.lax.dynamic_slice(whole, (top, left, 0), (crop_height, crop_width, whole.shape[2]))
            crop = jnp.where(mirrored, crop[:, ::-1], crop)
            if flip_vertical:
                crop = jnp.where(jax.random.bernoulli(vertical_key), crop[::-1], crop)
            if rotate:
                crop = _rotated(crop, jax.random.randint(rotation_key, (), 0, 4))
            return scale(crop)

        return Batch(transform(image), transform(target))

    return jax.vmap(augment_pair)(*raw)


def _rotated(square: Array, quarters: Array) -> Array:
    """A square image rotated counterclockwise by a number of quarter turns, 0 to 3."""
    return jax.lax.switch(quarters, [partial(jnp.rot90, k=k) for k in range(4)], square)


def scale(images: Num[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Converts uint8 or uint16 to float32 in [-1, 1]; floats, which are scaled already (see `values.Scale`), to float32."""
    images = jnp.asarray(images)
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(jnp.float32)
    return images.astype(jnp.float32) / (jnp.iinfo(images.dtype).max / 2) - 1
