"""Convolutions by XLA's own convolution operation: fast on accelerators."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, padding: int) -> Float[Array, "b h2 w2 o"]:
    """Same as `convolutions.convolve`."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=DIMENSIONS)


def with_constant(x: Float[Array, "b h w i"], constant: Float[Array, "b j"]) -> Float[Array, "b h w i+j"]:
    """x with further channels that have the same value at every pixel."""
    return jnp.concatenate([x, jnp.broadcast_to(constant[:, None, None], (*x.shape[:3], constant.shape[-1]))], -1)


def dilated_convolve(x: Array, kernel: Array, output_padding: int) -> Array:
    """`convolutions.transposed_convolve` as a convolution of x dilated by 2 (zeros between its pixels)."""
    low = len(kernel) - 2
    padding = [(low, low + output_padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS)


def transposed_by(convolve: Callable, form: Callable[[Array, Array, int], Array]) -> Callable[[Array, Array, int], Array]:
    """Returns `convolutions.transposed_convolve`, computed by `form`, whose gradients are those of the convolution whose adjoint it is.

    XLA's own weight gradient of a dilated convolution is over fifty times slower on a CPU.

    Args:
        convolve: the convolution that the gradients are computed by, with the signature of `convolutions.convolve`.
        form: computes the transposed convolution of (x, kernel, output padding).
    """
    transposed_convolve = jax.custom_vjp(form, nondiff_argnums=(2,))

    def forward(x: Array, kernel: Array, output_padding: int) -> tuple[Array, tuple[Array, Array]]:
        return transposed_convolve(x, kernel, output_padding), (x, kernel)

    def backward(output_padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
        x, kernel = saved
        dx, pull = jax.vjp(lambda k: convolve(g, k, stride=2, padding=1), adjoint_kernel(kernel))
        return dx, adjoint_kernel(pull(x)[0])

    transposed_convolve.defvjp(forward, backward)
    return transposed_convolve


def adjoint_kernel(kernel: Array) -> Array:
    """The kernel of the convolution whose adjoint the transposed convolution is."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _visibly_flipped(kernel: Array, x: Array) -> Array:
    """The same kernel as the result of a flip. XLA then has cuDNN compute the gradient of a convolution, and writes no dilated x.

    Flipping costs a copy of the kernel; one with more elements than the dilated x is left as it is. An x of any size is taken to be large.
    """
    if isinstance(x.size, int) and 4 * x.size <= kernel.size:
        return kernel
    return jnp.flip(lax.optimization_barrier(jnp.flip(kernel, (0, 1))), (0, 1))


def _dilated_by_cudnn(x: Array, kernel: Array, output_padding: int) -> Array:
    return dilated_convolve(x, _visibly_flipped(kernel, x), output_padding)


transposed_convolve = transposed_by(convolve, dilated_convolve)
cudnn_transposed_convolve = transposed_by(convolve, _dilated_by_cudnn)
