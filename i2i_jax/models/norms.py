"""Normalisation, with the same arithmetic as the original PyTorch code."""

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from i2i_jax.devices import parallel
from i2i_jax.models import global_batch

EPSILON = 1e-5  # added to the variance


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe 2015) as in PyTorch: eps 1e-5, momentum 0.1, unbiased running variance (Flax's is biased).

    Statistics are computed in float32 or better, on each device separately unless `global_batch` says otherwise. Parameters: scale
    [c], bias [c]. The collection `batch_stats` holds the running mean [c] and var [c].
    """

    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, use_running_average: bool) -> Float[Array, "b h w c"]:
        channels = (x.shape[-1],)
        scale, bias = self.param("scale", self.scale_init, channels), self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if use_running_average:
            mean, factor = (lax.broadcast_in_dim(v, x.shape, (3,)) for v in (running_mean.value, lax.rsqrt(running_var.value + EPSILON)))
            y = (x - mean) * factor
        else:
            axis = global_batch.current().norm_axis
            y, mean, var = _standardized(x, (3,), axis)
            if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
                count = x.size // x.shape[-1] * (1 if axis is None else lax.axis_size(axis))
                running_mean.value = 0.9 * running_mean.value + 0.1 * mean
                running_var.value = 0.9 * running_var.value + 0.1 * var * (count / max(count - 1, 1))
        scale, bias = (lax.broadcast_in_dim(v, x.shape, (3,)) for v in (scale, bias))
        return (y * scale + bias).astype(x.dtype)


@jax.jit
def instance_norm(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Instance normalisation (Ulyanov 2016): scales every channel of every image to mean 0 and variance 1.

    It has no parameters; eps is 1e-5; statistics are computed in float32 or better.
    """
    return _standardized(x, (0, 3), None)[0].astype(x.dtype)


def _standardize(x: Array, kept: tuple[int, ...], axis: str | None) -> tuple[Array, Array, Array]:
    """Returns y = (x - mean) / sqrt(var + eps), mean and var, over all axes except `kept` and over the devices of the mesh axis `axis`.

    They are computed in float32 or better.

    Only y has a gradient, written out: dx = (dy - mean(dy) - y mean(y dy)) / sqrt(var + eps)  (Ioffe 2015, section 3). Automatic
    differentiation of the forward pass would take twice as many sums over the image.
    """
    return _standardize_forward(x, kept, axis)[0]


def _standardize_forward(x: Array, kept: tuple[int, ...], axis: str | None) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    """The forward pass of `_standardize`. Its broadcasts use no reshapes.

    XLA moves reshapes differently in a forward pass with and without a gradient. The two phases of pix2pix's step would then each
    compute the generator's forward pass, which they share as it is.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = _mean(wide, kept, axis)
    var = _mean(jnp.square(wide - lax.broadcast_in_dim(mean, x.shape, kept)), kept, axis)  # mean(x^2) - mean(x)^2 would cancel on flat maps
    factor = lax.rsqrt(var + EPSILON)
    return (_scaled(x, mean, factor, kept), mean, var), (x, mean, factor)


def _standardize_backward(
    kept: tuple[int, ...], axis: str | None, saved: tuple[Array, ...], gradients: tuple[Array, Array, Array]
) -> tuple[Array]:
    (x, mean, factor), (dy, _, _) = saved, gradients
    dy = dy.astype(x.dtype)  # as it is kept in memory

    def mean_over_pixels(v: Array) -> Array:
        return lax.broadcast_in_dim(_mean(v, kept, axis), x.shape, kept)

    wide = _read_again(dy).astype(mean.dtype)
    mean_dy, mean_y_dy = mean_over_pixels(wide), mean_over_pixels(_scaled(x, mean, factor, kept) * wide)
    dx = _read_again(dy).astype(mean.dtype) - mean_dy - _scaled(x, mean, factor, kept) * mean_y_dy
    return ((lax.broadcast_in_dim(factor, x.shape, kept) * dx).astype(x.dtype),)


def _scaled(x: Array, mean: Array, factor: Array, kept: tuple[int, ...]) -> Array:
    """(x - mean) factor"""
    mean, factor = (lax.broadcast_in_dim(v, x.shape, kept) for v in (mean, factor))
    return (_read_again(x).astype(mean.dtype) - mean) * factor


_standardized = jax.custom_vjp(_standardize, nondiff_argnums=(1, 2))
_standardized.defvjp(_standardize_forward, _standardize_backward)


def _mean(x: Array, kept: tuple[int, ...], axis: str | None) -> Array:
    """Mean over all axes except `kept`, and over the devices of the mesh axis `axis`."""
    axes = tuple(a for a in range(x.ndim) if a not in kept)
    on_device = lax.platform_dependent(x, cuda=partial(_mean_in_two_passes, axes=axes), default=lambda x: x.mean(axes))
    return parallel.mean(on_device, axis)


# On NVIDIA GPUs, XLA would write float32 images to memory: the squares, before it sums them, and x - mean, to use it again. It does not if
# it sums over one axis first, and if an optimization barrier hides that both uses read the same x.


def _mean_in_two_passes(x: Array, axes: tuple[int, ...]) -> Array:
    sums = lax.optimization_barrier(x.sum(axes[-1]))
    return sums.sum(axes[:-1]) / math.prod(x.shape[a] for a in axes)


def _read_again(x: Array) -> Array:
    return lax.platform_dependent(x, cuda=lax.optimization_barrier, default=lambda x: x)


class Normalize(nn.Module):
    """Normalisation of the given `kind`: batch, instance or none."""

    kind: str
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, use_running_average: bool) -> Float[Array, "b h w c"]:
        if self.kind == "batch":
            return BatchNorm(self.scale_init, name="batch_norm")(x, use_running_average=use_running_average)
        return instance_norm(x) if self.kind == "instance" else x
