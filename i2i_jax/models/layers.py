"""Convolutions, normalisation and initialisers, with the exact arithmetic of the PyTorch originals."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from i2i_jax.models.convolutions import convolve, transposed_convolve

EPSILON = 1e-5  # of normalisations
CONVOLVED = "convolved"  # the name of what convolutions give, to rules of rematerialisation


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """With PyTorch's slope at 0, which is the negative side's; that of jax.nn.leaky_relu is 1."""
    return jnp.where(x > 0, x, 0.2 * x)


def reflect_pad(x: Float[Array, "b h w c"], n: int) -> Float[Array, "b h2 w2 c"]:
    return jnp.pad(x, ((0, 0), (n, n), (n, n), (0, 0)), mode="reflect")


def upsample_bilinear(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")


def average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Mean of non-overlapping 2x2 squares."""
    return nn.avg_pool(x, (2, 2), strides=(2, 2))


def downscale(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Average pooling 3x3 with stride 2, padding 1, padding not counted."""
    sums = nn.pooling.pool(x, 0.0, lax.add, (3, 3), (2, 2), ((1, 1), (1, 1)))
    rows, columns = map(_pixels_of_windows, x.shape[1:3])
    return sums / np.outer(rows, columns)[None, :, :, None].astype(np.float32)


def _pixels_of_windows(side: int) -> np.ndarray:
    """Of the windows of three along a side, how many pixels each holds. XLA would sum ones while it compiles, for seconds."""
    first = np.arange(-1, side - 1, 2)
    return np.minimum(first + 3, side) - np.maximum(first, 0)


class Conv(nn.Module):
    """Square convolution. Parameters: kernel [k, k, i, o], bias [o]."""

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        kernel, bias = _parameters(self, x.shape[-1], init=self.kernel_init)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = checkpoint_name(convolve(x, kernel, stride=self.stride, padding=self.padding), CONVOLVED)
        return x if bias is None else x + bias[None, None, None]


class TransposedConv(nn.Module):
    """Square convolution that doubles height and width. Parameters: kernel [k, k, i, o], bias [o]."""

    features: int
    kernel_size: int
    output_padding: int = 0
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        kernel, bias = _parameters(self, x.shape[-1], init=_swapped(self.kernel_init))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = checkpoint_name(transposed_convolve(x, kernel, self.output_padding), CONVOLVED)
        return x if bias is None else x + bias[None, None, None]


def _swapped(init: Callable) -> Callable:
    """PyTorch counts a transposed convolution's inputs as outputs."""
    return lambda key, shape: init(key, (*shape[:2], shape[3], shape[2])).swapaxes(2, 3)


def _parameters(conv: Conv | TransposedConv, channels: int, init: Callable) -> tuple[Array, Array | None]:
    if not conv.is_initializing():  # conv.param would trace the initialisers to compare shapes
        given = conv.variables["params"]
        return given["kernel"], given["bias"] if conv.use_bias else None
    kernel = conv.param("kernel", init, (conv.kernel_size, conv.kernel_size, channels, conv.features))
    return kernel, conv.param("bias", nn.initializers.zeros, (conv.features,)) if conv.use_bias else None


class BilinearConv(nn.Module):
    """Twofold bilinear upsampling, then a 3x3 convolution with reflected border."""

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b 2*h 2*w o"]:
        conv = Conv(self.features, 3, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype, name="conv")
        return conv(reflect_pad(upsample_bilinear(x), 1))


class BatchNorm(nn.Module):
    """Batch normalisation as in PyTorch: eps 1e-5, momentum 0.1, and an unbiased running variance (Flax's own is biased).

    Statistics are computed in float32 or better, per device.
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
            y, mean, var = _standardized(x, (3,))
            if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
                count = x.size // x.shape[-1]
                running_mean.value = 0.9 * running_mean.value + 0.1 * mean
                running_var.value = 0.9 * running_var.value + 0.1 * var * (count / max(count - 1, 1))
        scale, bias = (lax.broadcast_in_dim(v, x.shape, (3,)) for v in (scale, bias))
        return (y * scale + bias).astype(x.dtype)


@jax.jit
def instance_norm(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Each image and channel to mean 0 and variance 1; no parameters, eps 1e-5; statistics in float32 or better (Ulyanov 2016)."""
    return _standardized(x, (0, 3))[0].astype(x.dtype)


def _standardize(x: Array, kept: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """y = (x - mean) / sqrt(var + eps), and the mean and the variance, over all but the axes `kept`, in float32 or better.

    Only y has a gradient, written out: dx = (dy - mean(dy) - y mean(y dy)) / sqrt(var + eps)  (Ioffe 2015, section 3). That of the
    formulas below would take twice as many sums over the image.
    """
    return _standardize_forward(x, kept)[0]


def _standardize_forward(x: Array, kept: tuple[int, ...]) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
    """Means are broadcast back without reshapes, which XLA would move differently in a forward pass that is differentiated and one that
    is not: pix2pix's two turns, which share the generator's forward pass, would each compute it.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = _mean(wide, kept)
    centered = wide - lax.broadcast_in_dim(mean, x.shape, kept)
    var = _mean(jnp.square(centered), kept)  # mean(x^2) - mean(x)^2 would cancel on flat maps
    factor = lax.rsqrt(var + EPSILON)
    y = centered * lax.broadcast_in_dim(factor, x.shape, kept)
    return (y, mean, var), (y.astype(x.dtype), factor)


def _standardize_backward(kept: tuple[int, ...], saved: tuple[Array, Array], gradients: tuple[Array, Array, Array]) -> tuple[Array]:
    (y, factor), (dy, _, _) = saved, gradients
    mean_dy, mean_y_dy = (lax.broadcast_in_dim(_mean(v, kept), y.shape, kept) for v in (dy, y * dy))
    dx = lax.broadcast_in_dim(factor, y.shape, kept) * (dy - mean_dy - y * mean_y_dy)
    return (dx.astype(y.dtype),)


_standardized = jax.custom_vjp(_standardize, nondiff_argnums=(1,))
_standardized.defvjp(_standardize_forward, _standardize_backward)


def _mean(x: Array, kept: tuple[int, ...]) -> Array:
    return x.mean([axis for axis in range(x.ndim) if axis not in kept])


class Normalize(nn.Module):
    """`kind` of normalisation: batch, instance or none."""

    kind: str
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, use_running_average: bool) -> Float[Array, "b h w c"]:
        if self.kind == "batch":
            return BatchNorm(self.scale_init, name="batch_norm")(x, use_running_average=use_running_average)
        return instance_norm(x) if self.kind == "instance" else x


def scale_init(gain: float) -> Callable:
    """N(1, gain), for the scale of batch normalisation."""
    normal = nn.initializers.normal(gain)
    return lambda key, shape, dtype=jnp.float32: 1 + normal(key, shape, dtype)


INITIALIZERS: dict[str, Callable[[float], Callable]] = {
    "normal": nn.initializers.normal,
    "xavier": lambda gain: nn.initializers.variance_scaling(gain**2, "fan_avg", "normal"),
    "kaiming": lambda gain: nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "orthogonal": lambda gain: nn.initializers.orthogonal(gain),
}
