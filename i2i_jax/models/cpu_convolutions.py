"""The forms of convolutions that are fast on a CPU at each size: XLA's own, or products of matrices.

A convolution is sum_k S_k(x) K_k over the places k of its kernel: S_k(x) are the pixels that meet place k, zero outside the image, and
K_k is a matrix. Where weights far outnumber pixels, as in the deepest layers, XLA's convolutions spend most of their time on turning
weights and their gradients around; the products take them as they lie.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float, Shaped

from i2i_jax.models import xla_convolutions as xla

NAME = "cpu_convolution"  # of these forms' operations, in programs and profiles


@jax.named_scope(NAME)
def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, padding: int) -> Float[Array, "b h2 w2 o"]:
    """`convolutions.convolve`."""
    size, _, channels, features = kernel.shape
    if stride == 1 and features * size**2 <= channels:
        return _convolve_to_few(x, kernel, padding)
    height, width = ((side + 2 * padding - size) // stride + 1 for side in x.shape[1:3])
    if _are_few(2 * len(x) * height * width, channels, features):
        met = _met(x, size=size, stride=stride, padding=padding).reshape(size**2, -1, channels)
        return _products(met, kernel).sum(0).reshape(len(x), height, width, features).astype(x.dtype)
    return _convolution(x, kernel, stride, padding)


@jax.named_scope(NAME)
def transposed_convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], output_padding: int) -> Float[Array, "b h2 w2 o"]:
    """`convolutions.transposed_convolve`."""
    size, _, channels, features = kernel.shape
    batch, height, width, _ = x.shape
    if not _are_few(2 * batch * height * width, channels, features):
        return _transposed_by_xla(x, kernel, output_padding)
    products = _products(jnp.broadcast_to(x.reshape(1, -1, channels), (size**2, batch * height * width, channels)), kernel)
    upsampled = (2 * side - 4 + size + output_padding for side in (height, width))
    image = jax.ShapeDtypeStruct((batch, *upsampled, features), products.dtype)
    spread = jax.linear_transpose(partial(_met, size=size, stride=2, padding=1), image)
    return spread(products.reshape(size**2, batch, height, width, features)[::-1])[0].astype(x.dtype)


def _are_few(pixels: Any, channels: int, features: int) -> bool:
    """Whether products are the faster form. A number of pixels that is not known before images come is taken for many."""
    return not is_symbolic_dim(pixels) and pixels <= min(channels, features)


def _met(x: Float[Array, "b h w i"], *, size: int, stride: int, padding: int) -> Float[Array, "places b h2 w2 i"]:
    """S_k(x) for the places k of a kernel of `size`."""
    cells = jnp.stack(_cells(x, size=size, stride=stride, padding=padding)).transpose(0, 4, 5, 1, 2, 3, 6)
    return _joined(cells, size).reshape(size**2, *cells.shape[3:])


def _cells(x: Float[Array, "b h w i"], *, size: int, stride: int, padding: int) -> list[Float[Array, "b h2 w2 stride stride i"]]:
    """S_k(x) of all places k in one cell of stride x stride pixels, for each cell that a kernel of `size` meets."""
    batch, *sides, channels = x.shape
    across = -(-size // stride)
    height, width = met = [(side + 2 * padding - size) // stride + 1 for side in sides]
    margins = [(padding, stride * (out + across - 1) - side - padding, 0) for side, out in zip(sides, met, strict=True)]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *margins, (0, 0, 0)])
    split = padded.reshape(batch, height + across - 1, stride, width + across - 1, stride, channels).transpose(0, 1, 3, 2, 4, 5)
    corners = (((0, top, left, 0, 0, 0), (batch, top + height, left + width, stride, stride, channels)) for top, left in _places(across))
    return [lax.slice(split, *corner) for corner in corners]


def _joined(cells: Shaped[Array, "n stride stride *rest"], size: int) -> Shaped[Array, "size size *rest"]:
    """The places of a kernel, of those of its cells."""
    stride, _, *rest = cells.shape[1:]
    across = -(-size // stride)
    square = cells.reshape(across, across, stride, stride, *rest).swapaxes(1, 2)
    return square.reshape(across * stride, across * stride, *rest)[:size, :size]


def _products(met: Float[Array, "places n i"], kernel: Float[Array, "k k i o"]) -> Float[Array, "places n o"]:
    """S_k K_k, in float32 or better."""
    flat = kernel.reshape(-1, *kernel.shape[2:])
    return lax.dot_general(met, flat, (((2,), (1,)), ((0,), (0,))), preferred_element_type=jnp.promote_types(met.dtype, jnp.float32))


def _convolve_to_few(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], padding: int) -> Float[Array, "b h2 w2 o"]:
    """At stride 1, as sum_k S_k(x K_k): one product, whose result is smaller than x."""
    size = len(kernel)
    products = jnp.einsum("bhwi,klio->klbhwo", x, kernel, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32))
    padded = jnp.pad(products, ((0, 0), (0, 0), (0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (side - size + 1 for side in padded.shape[3:5])
    shifted = (padded[top, left, :, top : top + height, left : left + width] for top, left in _places(size))
    return sum(shifted, start=jnp.zeros((), products.dtype)).astype(x.dtype)


def _places(size: int) -> Iterator[tuple[int, ...]]:
    return itertools.product(range(size), repeat=2)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """XLA's own, but for the gradient of the weights."""
    return xla.convolve(x, kernel, stride=stride, padding=padding)


def _forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (dx,) = jax.linear_transpose(lambda x: xla.convolve(x, kernel, stride=stride, padding=padding), x)(g)
    return dx, _weight_gradient(x, g, len(kernel), stride, padding).astype(kernel.dtype)


_convolution.defvjp(_forward, _backward)


def _weight_gradient(x: Float[Array, "b h w i"], g: Float[Array, "b h2 w2 o"], size: int, stride: int, padding: int) -> Array:
    """sum S_k(x)^T g over the pixels, for all places k of a cell in one product."""
    pixels, dtype = ((0, 1, 2), (0, 1, 2)), jnp.promote_types(x.dtype, jnp.float32)
    cells = _cells(x, size=size, stride=stride, padding=padding)
    return _joined(jnp.stack([lax.dot_general(cell, g, (pixels, ((), ())), preferred_element_type=dtype) for cell in cells]), size)


_transposed_by_xla = xla.transposed_by(convolve)
