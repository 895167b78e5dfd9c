"""Convolutions with little memory traffic on a TPU, which pads the channels of images to 128 in memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from i2i_jax.models import xla_convolutions as xla

FEW_CHANNELS = 16  # of images that are read in blocks of 2 x 2 pixels, which have at most 64 channels


def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, padding: int) -> Float[Array, "b h2 w2 o"]:
    """Same as `convolutions.convolve`. With stride 2, images of few channels are read in 2 x 2 blocks: a quarter of the padded memory."""
    sides = [*kernel.shape[:2], *(side + 2 * padding for side in x.shape[1:3])]
    if stride == 2 and x.shape[-1] <= FEW_CHANNELS and all(isinstance(side, int) and side % 2 == 0 for side in sides):
        return _blocks_convolution(x, kernel, padding)
    return xla.convolve(x, kernel, stride=stride, padding=padding)


def _convolve_blocks(x: Array, kernel: Array, padding: int) -> Array:
    blocks = jnp.concatenate(_phases(jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0))), axes=(1, 2)), -1)
    return xla.convolve(blocks, jnp.concatenate(_phases(kernel, axes=(0, 1)), 2), stride=1, padding=0)


def _phases(x: Array, axes: tuple[int, int]) -> list[Array]:
    """The first, second, third and fourth element of each 2 x 2 block."""
    rows = (lax.slice_in_dim(x, i, None, 2, axes[0]) for i in (0, 1))
    return [lax.slice_in_dim(row, i, None, 2, axes[1]) for row in rows for i in (0, 1)]


def _convolve_blocks_forward(x: Array, kernel: Array, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_blocks(x, kernel, padding), (x, kernel)


def _convolve_blocks_backward(padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    """The gradient of the image by the ordinary convolution: put together from blocks it would be written several times."""
    x, kernel = saved
    [dx] = jax.vjp(lambda x: xla.convolve(x, kernel, stride=2, padding=padding), x)[1](g)
    [dkernel] = jax.vjp(lambda kernel: _convolve_blocks(x, kernel, padding), kernel)[1](g)
    return dx, dkernel


_blocks_convolution = jax.custom_vjp(_convolve_blocks, nondiff_argnums=(2,))
_blocks_convolution.defvjp(_convolve_blocks_forward, _convolve_blocks_backward)


def convolve_with_constant(
    x: Float[Array, "b h w i"], constant: Float[Array, "b j"], kernel: Float[Array, "k k i+j o"], *, stride: int, padding: int
) -> Float[Array, "b h2 w2 o"]:
    """Same as `convolutions.convolve_with_constant`. The constant channels are not written to every pixel.

    What they add to an output pixel depends only on which taps of the kernel are inside the image there: all, except at the borders.
    """
    _, height, width, channels = x.shape
    if not (isinstance(height, int) and isinstance(width, int)):
        return xla.convolve(xla.with_constant(x, constant), kernel, stride=stride, padding=padding)
    of_image = convolve(x, kernel[:, :, :channels], stride=stride, padding=padding)
    border_classes = partial(_border_classes, size=len(kernel), stride=stride, padding=padding)
    (row_taps, row_classes), (column_taps, column_classes) = border_classes(height), border_classes(width)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    of_constant = jnp.einsum("rp,cq,pqjo,bj->rcbo", row_taps, column_taps, kernel[:, :, channels:], constant, preferred_element_type=dtype)
    rows = [_chosen([lax.broadcast_in_dim(v, of_image.shape, (0, 3)) for v in row], column_classes, axis=2) for row in of_constant]
    return (of_image.astype(dtype) + _chosen(rows, row_classes, axis=1)).astype(x.dtype)


def _border_classes(side: int, *, size: int, stride: int, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: the distinct sets of taps that are inside the image [classes, size], and the class of each output pixel [pixels]."""
    first_taps = stride * np.arange((side + 2 * padding - size) // stride + 1) - padding
    positions = first_taps[:, None] + np.arange(size)
    return np.unique((positions >= 0) & (positions < side), axis=0, return_inverse=True)


def _chosen(values: list[Array], classes: np.ndarray, axis: int) -> Array:
    """`values[classes[i]]` at the places i along `axis`."""
    index = lax.broadcast_in_dim(jnp.asarray(classes, jnp.int32), values[0].shape, (axis,))
    chosen = values[0]
    for i, value in enumerate(values[1:], 1):
        chosen = jnp.where(index == i, value, chosen)
    return chosen
