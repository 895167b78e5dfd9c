"""Convolutions with PyTorch's arithmetic, in the form that is fast on the platform that a program is lowered for."""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jaxtyping import Array, Float

from i2i_jax.models import cpu_convolutions as cpu
from i2i_jax.models import xla_convolutions as xla


@partial(jax.jit, static_argnames=("stride", "padding"))
def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, padding: int) -> Float[Array, "b h2 w2 o"]:
    """Convolution with explicit zero padding on both sides (`SAME` is another thing at stride 2)."""
    return _convolution(x, kernel, stride, padding)


@partial(jax.jit, static_argnums=2)
def transposed_convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], output_padding: int) -> Float[Array, "b h2 w2 o"]:
    """Twofold upsampling: the adjoint of the stride-2, padding-1 convolution whose kernel is flipped and has i and o swapped."""
    return _transposed(x, kernel, output_padding)


# The platform is asked for once forward and once backward: what is differentiated is one form, not a choice between forms.


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    on_cpu, elsewhere = (partial(form.convolve, stride=stride, padding=padding) for form in (cpu, xla))
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def _convolution_forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(x, kernel, stride, padding), (x, kernel)


def _convolution_backward(stride: int, padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    on_cpu, elsewhere = (_gradients(partial(form.convolve, stride=stride, padding=padding)) for form in (cpu, xla))
    return lax.platform_dependent(*saved, g, cpu=on_cpu, default=elsewhere)


_convolution.defvjp(_convolution_forward, _convolution_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _transposed(x: Array, kernel: Array, output_padding: int) -> Array:
    on_cpu, elsewhere = (lambda x, kernel, form=form: form.transposed_convolve(x, kernel, output_padding) for form in (cpu, xla))
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def _transposed_forward(x: Array, kernel: Array, output_padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _transposed(x, kernel, output_padding), (x, kernel)


def _transposed_backward(output_padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    on_cpu, elsewhere = (
        _gradients(lambda x, kernel, form=form: form.transposed_convolve(x, kernel, output_padding)) for form in (cpu, xla)
    )
    return lax.platform_dependent(*saved, g, cpu=on_cpu, default=elsewhere)


_transposed.defvjp(_transposed_forward, _transposed_backward)


def _gradients(function: Callable) -> Callable:
    """(x, kernel, g) -> the gradients of both."""
    return lambda x, kernel, g: jax.vjp(function, x, kernel)[1](g)
