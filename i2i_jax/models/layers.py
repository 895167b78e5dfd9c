"""Convolutions, dropout and initialisers, with the same arithmetic as the original PyTorch code."""

from collections.abc import Callable
from functools import partial
from typing import Any

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
from i2i_jax.models import global_batch
from i2i_jax.models.convolutions import convolve, convolve_with_constant, transposed_convolve

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
    def __call__(self, x: Float[Array, "b h w i"], constant: Float[Array, "b j"] | None = None) -> Float[Array, "b h2 w2 o"]:
        """`constant` holds further channels, which come after those of `x` and have the same value at every pixel."""
        further = 0 if constant is None else constant.shape[-1]
        kernel, bias = _parameters(self, x.shape[-1] + further, init=self.kernel_init)
        x, constant, kernel, bias = promote_dtype(x, constant, kernel, bias, dtype=self.dtype)
        if constant is None:
            x = convolve(x, kernel, stride=self.stride, padding=self.padding)
        else:
            x = convolve_with_constant(x, constant, kernel, stride=self.stride, padding=self.padding)
        return _with_bias(x, bias)


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
        return _with_bias(transposed_convolve(x, kernel, self.output_padding), bias)


class NearestConv(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3 x 3 convolution with zero padding (Odena 2016). The attributes are those of `Conv`.

    Both are one transposed convolution (`box_kernel`): no more work than `TransposedConv`, but no checkerboards. Parameters: kernel
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
        x, kernel, bias = promote_dtype(x, box_kernel(kernel), bias, dtype=self.dtype)
        return _with_bias(transposed_convolve(x, kernel, 0), bias)


class PooledConv(nn.Module):
    """A 3 x 3 convolution with zero padding, then average pooling over 2 x 2 windows with stride 2. The attributes are those of `Conv`.

    Both are one convolution with stride 2: fewer operations, and no features at full size. Parameters: kernel [3, 3, i, o], bias [o].
    """

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None
    kernel_size = 3

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        kernel, bias = _parameters(self, x.shape[-1], init=self.kernel_init)
        x, kernel, bias = promote_dtype(x, box_kernel(kernel) / 4, bias, dtype=self.dtype)
        return _with_bias(convolve(x, kernel, stride=2, padding=1), bias)


def box_kernel(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "4 4 i o"]:
    """`kernel`, convolved with a 2 x 2 box of ones: the kernel of the transposed convolution that `NearestConv` is."""
    for axis in (0, 1):
        first, second, third = jnp.split(kernel, 3, axis)
        kernel = jnp.concatenate([first, first + second, second + third, third], axis)  # not jnp.pad, which is slow on a CPU
    return kernel


def _swapped(init: Callable) -> Callable:
    """The initialiser with fan-in and fan-out exchanged, as PyTorch counts them for a transposed convolution."""
    return lambda key, shape: init(key, (*shape[:2], shape[3], shape[2])).swapaxes(2, 3)


def _parameters(conv: Conv | TransposedConv | NearestConv | PooledConv, channels: int, init: Callable) -> tuple[Array, Array | None]:
    """The kernel and bias (None without one) of a convolution of `channels` input channels."""
    if not conv.is_initializing():  # conv.param would trace the initialisers again to compare shapes
        params = conv.variables["params"]
        return params["kernel"], params["bias"] if conv.use_bias else None
    kernel = conv.param("kernel", init, (conv.kernel_size, conv.kernel_size, channels, conv.features))
    return kernel, conv.param("bias", nn.initializers.zeros, (conv.features,)) if conv.use_bias else None


def _with_bias(convolved: Float[Array, "b h w o"], bias: Array | None) -> Float[Array, "b h w o"]:
    """The output of a convolution, named for rematerialisation, plus its bias if it has one."""
    convolved = checkpoint_name(convolved, CONVOLVED)
    return convolved if bias is None else convolved + bias[None, None, None]


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


class Dropout(nn.Module):
    """Dropout (Srivastava 2014) as `flax.linen.Dropout`, but a row of the global batch has the same mask however the batch is split.

    Attributes:
        rate: probability that a feature is set to 0. The others are divided by 1 - rate.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, deterministic: bool) -> Float[Array, "b h w c"]:
        if deterministic:
            return x
        is_kept = partial(_bernoulli, 1 - self.rate)
        mask = parallel.draw(is_kept, self.make_rng("dropout"), x.shape, global_batch.current().shard)
        return jnp.where(mask, x / (1 - self.rate), 0)


def _bernoulli(p: float, key: jax.Array, shape: tuple[Any, ...]) -> Array:
    return jax.random.bernoulli(key, p, shape)


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
