"""Convolutions that are fast on a CPU: XLA's own, transposed ones in phases, or matrix products (im2col), whichever is faster at the size.

im2col writes a convolution as one matrix product for each tap of the kernel, summed over the taps:

    y[p] = sum_t  patches[t, p] @ kernel[t]        patches [taps, pixels, i],  kernel [taps, i, o],  y [pixels, o]

`patches[t, p]` is the input pixel under tap t when the kernel stands at output pixel p, and zero outside the image. In the deepest
layers weights far outnumber pixels. XLA's convolutions then spend most of their time on transposing the weights and their gradients;
the products read them in the layout in which they are stored.

With a stride, taps and pixels are grouped into blocks of stride x stride. All taps of a kernel block read the same slice of the blocked
image, so one slice (and for the weight gradient one product) serves a whole block. For a 4 x 4 kernel at stride 2:

       kernel taps               padded image in 2 x 2 blocks
    +-------+-------+            +----+----+----+
    |  0  1 |  2  3 |            | AA | BB | CC |     Output pixel (r, c) reads the blocks (r, c) to (r+1, c+1):
    |  4  5 |  6  7 |            | AA | BB | CC |       taps 0  1  4  5   read block (r,   c)
    +-------+-------+            +----+----+----+       taps 2  3  6  7   read block (r,   c+1)
    |  8  9 | 10 11 |            | DD | EE | FF |       taps 8  9 12 13   read block (r+1, c)
    | 12 13 | 14 15 |            | DD | EE | FF |       taps 10 11 14 15  read block (r+1, c+1)
    +-------+-------+            +----+----+----+
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

NAME = "cpu_convolution"  # the named scope of these operations, in compiled programs and profiles
FEATURES_IN_PHASES = range(6, 81)  # as timed at 32 x 32 to 128 x 128 pixels


@jax.named_scope(NAME)
def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, padding: int) -> Float[Array, "b h2 w2 o"]:
    """Same as `convolutions.convolve`."""
    size, _, channels, features = kernel.shape
    if stride == 1 and features * size**2 <= channels:
        return _convolve_by_shifts(x, kernel, padding)
    height, width = ((side + 2 * padding - size) // stride + 1 for side in x.shape[1:3])
    if _matmul_is_faster(2 * len(x) * height * width, channels, features):
        patches = _im2col(x, size=size, stride=stride, padding=padding).reshape(size**2, -1, channels)
        return _matmul_per_tap(patches, kernel).sum(0).reshape(len(x), height, width, features).astype(x.dtype)
    return _convolution(x, kernel, stride, padding)


@jax.named_scope(NAME)
def transposed_convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], output_padding: int) -> Float[Array, "b h2 w2 o"]:
    """Same as `convolutions.transposed_convolve`; where products are faster, col2im, the transpose of im2col, adds them up."""
    size, _, channels, features = kernel.shape
    batch, height, width, _ = x.shape
    if not _matmul_is_faster(2 * batch * height * width, channels, features):
        return _transposed_convolution(x, kernel, output_padding)
    products = _matmul_per_tap(jnp.broadcast_to(x.reshape(1, -1, channels), (size**2, batch * height * width, channels)), kernel)
    upsampled = (2 * side - 4 + size + output_padding for side in (height, width))
    image = jax.ShapeDtypeStruct((batch, *upsampled, features), products.dtype)
    col2im = jax.linear_transpose(partial(_im2col, size=size, stride=2, padding=1), image)
    return col2im(products.reshape(size**2, batch, height, width, features)[::-1])[0].astype(x.dtype)


def _matmul_is_faster(pixels: Any, channels: int, features: int) -> bool:
    """Whether matrix products are faster than XLA's convolution; assumed not, where the number of pixels is unknown at export."""
    return not is_symbolic_dim(pixels) and pixels <= min(channels, features)


def _im2col(x: Float[Array, "b h w i"], *, size: int, stride: int, padding: int) -> Float[Array, "taps b h2 w2 i"]:
    """The patches of a `size` x `size` kernel: for each tap, the input pixel under it at every output pixel."""
    blocks = jnp.stack(_block_patches(x, size=size, stride=stride, padding=padding)).transpose(0, 4, 5, 1, 2, 3, 6)
    return _blocks_to_taps(blocks, size).reshape(size**2, *blocks.shape[3:])


def _block_patches(x: Float[Array, "b h w i"], *, size: int, stride: int, padding: int) -> list[Float[Array, "b h2 w2 stride stride i"]]:
    """For each stride x stride block of a `size` x `size` kernel, the input pixels under its taps at every output pixel."""
    batch, *sides, channels = x.shape
    blocks = -(-size // stride)  # along a side of the kernel
    height, width = outputs = [(side + 2 * padding - size) // stride + 1 for side in sides]
    margins = [(padding, stride * (out + blocks - 1) - side - padding, 0) for side, out in zip(sides, outputs, strict=True)]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *margins, (0, 0, 0)])
    split = padded.reshape(batch, height + blocks - 1, stride, width + blocks - 1, stride, channels).transpose(0, 1, 3, 2, 4, 5)
    corners = (((0, top, left, 0, 0, 0), (batch, top + height, left + width, stride, stride, channels)) for top, left in _square(blocks))
    return [lax.slice(split, *corner) for corner in corners]


def _blocks_to_taps(blocks: Shaped[Array, "n stride stride *rest"], size: int) -> Shaped[Array, "size size *rest"]:
    """Reorders values of taps grouped by kernel block into rows and columns of taps; drops the taps past the edge of the kernel."""
    stride, _, *rest = blocks.shape[1:]
    across = -(-size // stride)
    square = blocks.reshape(across, across, stride, stride, *rest).swapaxes(1, 2)
    return square.reshape(across * stride, across * stride, *rest)[:size, :size]


def _matmul_per_tap(patches: Float[Array, "taps n i"], kernel: Float[Array, "k k i o"]) -> Float[Array, "taps n o"]:
    """patches[t] @ kernel[t] for every tap t, accumulated in float32 or better."""
    taps = kernel.reshape(-1, *kernel.shape[2:])
    dtype = jnp.promote_types(patches.dtype, jnp.float32)
    return lax.dot_general(patches, taps, (((2,), (1,)), ((0,), (0,))), preferred_element_type=dtype)


def _convolve_by_shifts(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], padding: int) -> Float[Array, "b h2 w2 o"]:
    """Stride 1 and few features: multiplies x by all taps at once, then shifts and adds the results, which are smaller than x."""
    size = len(kernel)
    products = jnp.einsum("bhwi,klio->klbhwo", x, kernel, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32))
    padded = jnp.pad(products, ((0, 0), (0, 0), (0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (side - size + 1 for side in padded.shape[3:5])
    shifted = (padded[top, left, :, top : top + height, left : left + width] for top, left in _square(size))
    return sum(shifted, start=jnp.zeros((), products.dtype)).astype(x.dtype)


def _square(side: int) -> Iterator[tuple[int, ...]]:
    """(row, column) of every cell of a square, row by row."""
    return itertools.product(range(side), repeat=2)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """XLA's convolution, with a weight gradient of our own."""
    return xla.convolve(x, kernel, stride=stride, padding=padding)


def _forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if (stride, padding, x.shape[1:3]) == (2, 1, (2 * g.shape[1], 2 * g.shape[2])) and _phases_are_faster(kernel.swapaxes(2, 3)):
        dx = _transposed_in_phases(g, xla.adjoint_kernel(kernel))
    else:
        [dx] = jax.linear_transpose(lambda x: xla.convolve(x, kernel, stride=stride, padding=padding), x)(g)
    return dx, _weight_gradient(x, g, len(kernel), stride, padding).astype(kernel.dtype)


_convolution.defvjp(_forward, _backward)


def _weight_gradient(x: Float[Array, "b h w i"], g: Float[Array, "b h2 w2 o"], size: int, stride: int, padding: int) -> Array:
    """sum_p patches[t, p]^T g[p] for every tap t, [size, size, i, o]: one product for each kernel block."""
    pixels, dtype = ((0, 1, 2), (0, 1, 2)), jnp.promote_types(x.dtype, jnp.float32)
    patches = _block_patches(x, size=size, stride=stride, padding=padding)
    gradients = [lax.dot_general(block, g, (pixels, ((), ())), preferred_element_type=dtype) for block in patches]
    return _blocks_to_taps(jnp.stack(gradients), size)


def _phases_are_faster(kernel: Array) -> bool:
    """Whether a transposed convolution should be computed in phases: if its matrix products were narrow, as those of few features are."""
    return kernel.shape[:2] == (4, 4) and kernel.shape[3] in FEATURES_IN_PHASES


def _transposed_in_phases(x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]) -> Float[Array, "b 2*h 2*w o"]:
    """`convolutions.transposed_convolve` as one convolution with 2 x 2 taps, whose 4 o features are the pixels of 2 x 2 blocks.

    An output pixel in an even row sees the first and the third row of taps, at two rows of x; one in an odd row sees the other two.
    """
    batch, height, width, _ = x.shape
    taps = jnp.concatenate([kernel[row::2, column::2] for row, column in _square(2)], 3)
    pixels = xla.convolve(x, taps, stride=1, padding=1).reshape(batch, height + 1, width + 1, 2, 2, -1)
    phases = [[pixels[:, r : r + height, c : c + width, r, c] for c in range(2)] for r in range(2)]
    return jnp.stack([jnp.stack(row, 3) for row in phases], 2).reshape(batch, 2 * height, 2 * width, -1)


def _transposed(x: Array, kernel: Array, output_padding: int) -> Array:
    if output_padding == 0 and _phases_are_faster(kernel):
        return _transposed_in_phases(x, kernel)
    return xla.dilated_convolve(x, kernel, output_padding)


_transposed_convolution = xla.transposed_by(convolve, _transposed)
