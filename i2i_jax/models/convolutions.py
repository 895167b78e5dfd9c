"""Convolutions with PyTorch's arithmetic. Lowering picks the form for the platform."""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jaxtyping import Array, Float

from i2i_jax.models import cpu_convolutions as cpu
from i2i_jax.models import tpu_convolutions as tpu
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
    return _of_platform(
        cpu=partial(cpu.convolve, stride=stride, padding=padding),
        tpu=partial(tpu.convolve, stride=stride, padding=padding),
        default=partial(xla.convolve, stride=stride, padding=padding),
    )(x, kernel)


@partial(jax.jit, static_argnames=("stride", "padding"))
def convolve_with_constant(
    x: Float[Array, "b h w i"], constant: Float[Array, "b j"], kernel: Float[Array, "k k i+j o"], *, stride: int, padding: int
) -> Float[Array, "b h2 w2 o"]:
    """`convolve` of x with further channels that have the same value at every pixel, as those of a latent have.

    Args:
        x: images or features.
        constant: the values of the further channels, in the dtype of `x`.
        kernel, stride, padding: as in `convolve`. The last j input channels of the kernel are those of the constant.
    """

    def tiled(x: Array, constant: Array, kernel: Array) -> Array:
        return convolve(xla.with_constant(x, constant), kernel, stride=stride, padding=padding)

    on_tpu = partial(tpu.convolve_with_constant, stride=stride, padding=padding)
    return _of_platform(tpu=on_tpu, default=tiled)(x, constant, kernel)


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
    return _of_platform(
        cpu=lambda x, kernel: cpu.transposed_convolve(x, kernel, output_padding),
        cuda=lambda x, kernel: xla.cudnn_transposed_convolve(x, kernel, output_padding),
        default=lambda x, kernel: xla.transposed_convolve(x, kernel, output_padding),
    )(x, kernel)


def _of_platform(**forms: Callable[..., Array]) -> Callable[..., Array]:
    """Returns the form of a function for the platform that it is lowered for.

    Its custom VJP chooses once in the forward and once in the backward pass, so that JAX differentiates one form and not a branch
    between several.
    """

    @jax.custom_vjp
    def chosen(*arguments: Array) -> Array:
        return lax.platform_dependent(*arguments, **forms)

    def forward(*arguments: Array) -> tuple[Array, tuple[Array, ...]]:
        return chosen(*arguments), arguments

    def backward(arguments: tuple[Array, ...], g: Array) -> tuple[Array, ...]:
        gradients = {platform: lambda g, *arguments, form=form: jax.vjp(form, *arguments)[1](g) for platform, form in forms.items()}
        return lax.platform_dependent(g, *arguments, **gradients)

    chosen.defvjp(forward, backward)
    return chosen
