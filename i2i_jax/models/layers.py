"""Convolutions, normalisation and initialisers, with the same arithmetic as the original PyTorch code."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from i2i_jax.devices import parallel
from i2i_jax.models.convolutions import convolve, transposed_convolve

EPSILON = 1e-5  # added to the variance in normalisation
CONVOLVED = "convolved"  # the name of convolution outputs in rematerialisation policies


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x for x > 0, else 0.2 x. At 0 the slope is 0.2, as in PyTorch; that of `jax.nn.leaky_relu` is 1."""
    return jnp.where(x > 0, x, 0.2 * x)


def reflect_pad(x: Float[Array, "b h w c"], n: int) -> Float[Array, "b h2 w2 c"]:
    """Pads every side by `n` pixels, by reflection without repeating the edge."""
    return jnp.pad(x, ((0, 0), (n, n), (n, n), (0, 0)), mode="reflect")


def upsample_bilinear(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Doubles height and width by bilinear interpolation."""
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")


def average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Average pooling over 2 x 2 windows with stride 2."""
    return nn.avg_pool(x, (2, 2), strides=(2, 2))


def downscale(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Average pooling over 3 x 3 windows with stride 2 and padding 1; the padding is not counted in the average."""
    sums = nn.pooling.pool(x, 0.0, lax.add, (3, 3), (2, 2), ((1, 1), (1, 1)))
    rows, columns = map(_pixels_of_windows, x.shape[1:3])
    return sums / np.outer(rows, columns)[None, :, :, None].astype(np.float32)


def _pixels_of_windows(side: int) -> np.ndarray:
    """The number of pixels inside the image in each window of three; in NumPy, since XLA would take seconds to fold it as a constant."""
    first = np.arange(-1, side - 1, 2)
    return np.minimum(first + 3, side) - np.maximum(first, 0)


class Conv(nn.Module):
    """Square convolution with zero padding. Parameters: kernel [k, k, i, o], bias [o].

    Attributes:
        features: output channels.
        kernel_size: side of the kernel, in pixels.
        stride: in pixels.
        padding: zeros added on every side, in pixels.
        use_bias: whether there is a bias.
        kernel_init: initialiser of the kernel.
        dtype: dtype of the computation (None: the dtype of inputs and parameters).
    """

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
    """Square transposed convolution with stride 2 and padding 1. Parameters: kernel [k, k, i, o], bias [o].

    It doubles height and width for a kernel of 4, and for a kernel of 3 with an output padding of 1. The other attributes are those
    of `Conv`.
    """

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


class NearestConv(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3 x 3 convolution with zero padding (Odena 2016). The attributes are those of `Conv`.

    Both are one transposed convolution (`nearest_kernel`): no more work than `TransposedConv`, but no checkerboards. Parameters: kernel
    [3, 3, i, o], bias [o].
    """

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None
    kernel_size = 3

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b 2*h 2*w o"]:
        kernel, bias = _parameters(self, x.shape[-1], init=self.kernel_init)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = checkpoint_name(transposed_convolve(x, nearest_kernel(kernel), 0), CONVOLVED)
        return x if bias is None else x + bias[None, None, None]


def nearest_kernel(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "4 4 i o"]:
    """The kernel of the transposed convolution that `NearestConv` is: `kernel`, convolved with a 2 x 2 box."""
    padded = jnp.pad(kernel, ((1, 1), (1, 1), (0, 0), (0, 0)))
    rows = padded[1:] + padded[:-1]
    return rows[:, 1:] + rows[:, :-1]


def _swapped(init: Callable) -> Callable:
    """The initialiser with fan-in and fan-out exchanged, as PyTorch counts them for a transposed convolution."""
    return lambda key, shape: init(key, (*shape[:2], shape[3], shape[2])).swapaxes(2, 3)


def _parameters(conv: Conv | TransposedConv | NearestConv, channels: int, init: Callable) -> tuple[Array, Array | None]:
    """The kernel and bias (None without one) of a convolution of `channels` input channels."""
    if not conv.is_initializing():  # conv.param would trace the initialisers again to compare shapes
        params = conv.variables["params"]
        return params["kernel"], params["bias"] if conv.use_bias else None
    kernel = conv.param("kernel", init, (conv.kernel_size, conv.kernel_size, channels, conv.features))
    return kernel, conv.param("bias", nn.initializers.zeros, (conv.features,)) if conv.use_bias else None


class BilinearConv(nn.Module):
    """Bilinear upsampling by 2, then a 3 x 3 convolution with reflection padding. The attributes are those of `Conv`."""

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b 2*h 2*w o"]:
        conv = Conv(self.features, 3, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype, name="conv")
        return conv(reflect_pad(upsample_bilinear(x), 1))


RESIZE_CONVOLUTIONS = {"bilinear": BilinearConv, "nearest": NearestConv}  # without checkerboards, unlike TransposedConv


_batch_norm_axis: ContextVar[str | None] = ContextVar("batch_norm_axis", default=None)


@contextlib.contextmanager
def batch_norm_over(axis: str | None) -> Iterator[None]:
    """Networks that are called inside average the statistics of batch norm over the devices of the mesh axis `axis`; None: they do not."""
    before = _batch_norm_axis.set(axis)
    try:
        yield
    finally:
        _batch_norm_axis.reset(before)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe 2015) as in PyTorch: eps 1e-5, momentum 0.1, unbiased running variance (Flax's is biased).

    Statistics are computed in float32 or better, on each device separately unless `batch_norm_over` says otherwise. Parameters: scale
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
            axis = _batch_norm_axis.get()
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


def _standardize_forward(x: Array, kept: tuple[int, ...], axis: str | None) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
    """The forward pass of `_standardize`. Its broadcasts use no reshapes.

    XLA moves reshapes differently in a forward pass with and without a gradient. The two phases of pix2pix's step would then each
    compute the generator's forward pass, which they share as it is.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = _mean(wide, kept, axis)
    centered = wide - lax.broadcast_in_dim(mean, x.shape, kept)
    var = _mean(jnp.square(centered), kept, axis)  # mean(x^2) - mean(x)^2 would cancel on flat maps
    factor = lax.rsqrt(var + EPSILON)
    y = centered * lax.broadcast_in_dim(factor, x.shape, kept)
    return (y, mean, var), (y.astype(x.dtype), factor)


def _standardize_backward(
    kept: tuple[int, ...], axis: str | None, saved: tuple[Array, Array], gradients: tuple[Array, Array, Array]
) -> tuple[Array]:
    (y, factor), (dy, _, _) = saved, gradients
    mean_dy, mean_y_dy = (lax.broadcast_in_dim(_mean(v, kept, axis), y.shape, kept) for v in (dy, y * dy))
    dx = lax.broadcast_in_dim(factor, y.shape, kept) * (dy - mean_dy - y * mean_y_dy)
    return (dx.astype(y.dtype),)


_standardized = jax.custom_vjp(_standardize, nondiff_argnums=(1, 2))
_standardized.defvjp(_standardize_forward, _standardize_backward)


def _mean(x: Array, kept: tuple[int, ...], axis: str | None) -> Array:
    """Mean over all axes except `kept`, and over the devices of the mesh axis `axis`."""
    return parallel.mean(x.mean([a for a in range(x.ndim) if a not in kept]), axis)


class Normalize(nn.Module):
    """Normalisation of the given `kind`: batch, instance or none."""

    kind: str
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, use_running_average: bool) -> Float[Array, "b h w c"]:
        if self.kind == "batch":
            return BatchNorm(self.scale_init, name="batch_norm")(x, use_running_average=use_running_average)
        return instance_norm(x) if self.kind == "instance" else x


def scale_init(gain: float) -> Callable:
    """The initialiser N(1, gain^2) of the scale of batch normalisation; `gain` is the standard deviation."""
    normal = nn.initializers.normal(gain)
    return lambda key, shape, dtype=jnp.float32: 1 + normal(key, shape, dtype)


INITIALIZERS: dict[str, Callable[[float], Callable]] = {
    "normal": nn.initializers.normal,
    "xavier": lambda gain: nn.initializers.variance_scaling(gain**2, "fan_avg", "normal"),
    "kaiming": lambda gain: nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "orthogonal": lambda gain: nn.initializers.orthogonal(gain),
}
