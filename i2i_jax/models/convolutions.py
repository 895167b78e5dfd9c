"""Convolutions with PyTorch's arithmetic. Lowering picks the implementation: `cpu_convolutions` on a CPU, else `xla_convolutions`."""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jaxtyping import Array, Float

from i2i_jax.models import cpu_convolutions as cpu
from i2i_jax.models import xla_convolutions as xla


@partial(jax.jit, static_argnames=("stride", "padding"))
def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, padding: int) -> Float[Array, "b h2 w2 o"]:
    """Convolution with `padding` zeros on every side, as PyTorch pads (XLA's `SAME` pads differently at stride 2).

    Args:
        x: images or features.
        kernel: square kernel, in Flax's HWIO layout.
        stride: in pixels, the same in both directions.
        padding: zeros added on each of the four sides, in pixels.

    Returns:
        Features with h2 = (h + 2 padding - k) // stride + 1, and w2 alike, in the dtype of `x`.
    """
    return _convolution(x, kernel, stride, padding)


@partial(jax.jit, static_argnums=2)
def transposed_convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], output_padding: int) -> Float[Array, "b h2 w2 o"]:
    """Transposed convolution with stride 2 and padding 1: upsamples by about 2, as PyTorch's `ConvTranspose2d` does.

    It is the adjoint of the convolution with stride 2 and padding 1 whose kernel is this one flipped, with i and o swapped.

    Args:
        x: images or features.
        kernel: square kernel, in Flax's HWIO layout; PyTorch's kernel flipped.
        output_padding: extra rows and columns at the bottom and on the right.

    Returns:
        Features with h2 = 2 h - 4 + k + output_padding, and w2 alike, in the dtype of `x`.
    """
    return _transposed(x, kernel, output_padding)


# A custom VJP chooses the platform once in the forward and once in the backward pass, so that JAX differentiates one implementation
# and not a branch between two.


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    on_cpu, elsewhere = (partial(module.convolve, stride=stride, padding=padding) for module in (cpu, xla))
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def _convolution_forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(x, kernel, stride, padding), (x, kernel)


def _convolution_backward(stride: int, padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    on_cpu, elsewhere = (_gradients(partial(module.convolve, stride=stride, padding=padding)) for module in (cpu, xla))
    return lax.platform_dependent(*saved, g, cpu=on_cpu, default=elsewhere)


_convolution.defvjp(_convolution_forward, _convolution_backward)


TRANSPOSED = {"cpu": cpu.transposed_convolve, "cuda": xla.cudnn_transposed_convolve, "default": xla.transposed_convolve}


def _transposed_forms(output_padding: int) -> dict[str, Callable[[Array, Array], Array]]:
    """The transposed convolution (x, kernel) of each platform."""
    return {platform: lambda x, kernel, form=form: form(x, kernel, output_padding) for platform, form in TRANSPOSED.items()}


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _transposed(x: Array, kernel: Array, output_padding: int) -> Array:
    return lax.platform_dependent(x, kernel, **_transposed_forms(output_padding))


def _transposed_forward(x: Array, kernel: Array, output_padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _transposed(x, kernel, output_padding), (x, kernel)


def _transposed_backward(output_padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    gradients = {platform: _gradients(form) for platform, form in _transposed_forms(output_padding).items()}
    return lax.platform_dependent(*saved, g, **gradients)


_transposed.defvjp(_transposed_forward, _transposed_backward)


def _gradients(function: Callable) -> Callable:
    """Returns the function (x, kernel, g) -> the gradients with respect to x and kernel, for the output's gradient g."""
    return lambda x, kernel, g: jax.vjp(function, x, kernel)[1](g)
