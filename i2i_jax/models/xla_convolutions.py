"""Convolutions as XLA has them."""

from jax import lax
from jaxtyping import Array, Float

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, padding: int) -> Float[Array, "b h2 w2 o"]:
    """`convolutions.convolve`."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=DIMENSIONS)


def transposed_convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], output_padding: int) -> Float[Array, "b h2 w2 o"]:
    """`convolutions.transposed_convolve`: x with zeros between its pixels, convolved."""
    low = kernel.shape[0] - 2
    padding = [(low, low + output_padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS)
