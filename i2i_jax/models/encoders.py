"""The encoders of BicycleGAN, which map a target image to a Gaussian over its latent (Zhu 2017, section 4)."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from i2i_jax.models.layers import Conv, PooledConv, average_pool, leaky_relu
from i2i_jax.models.norms import Normalize
from i2i_jax.types import Gaussian, Image


class _Encoder(nn.Module):
    """Attributes and layers that both encoders have in common.

    Attributes:
        latent_dim: dimensions of the latent.
        width: features of the first convolution; later ones have up to 4 times as many.
        norm: normalisation: batch, instance or none.
        kernel_init: initialiser of the kernels.
        scale_init: initialiser of the scale of batch normalisation.
        std: standard deviation of every Gaussian: the constant-variance encoder of Ghosh 2020 (0: it is predicted).
        dtype: dtype of the convolutions (None: the dtype of inputs and parameters). The Gaussian is float32 or better.
    """

    latent_dim: int = 8
    width: int = 64
    norm: str = "instance"
    kernel_init: Callable = nn.initializers.xavier_normal()
    scale_init: Callable = nn.initializers.ones
    std: float = 0.0
    dtype: DTypeLike | None = None

    def _conv(self, features: int, kernel_size: int, name: str, *, stride: int = 1, padding: int = 0, use_bias: bool = True) -> Conv:
        return Conv(features, kernel_size, stride, padding, use_bias, kernel_init=self.kernel_init, dtype=self.dtype, name=name)

    def _normalize(self, x: Array, name: str, use_running_average: bool) -> Array:
        return Normalize(self.norm, self.scale_init, name=name)(x, use_running_average=use_running_average)

    def _gaussian(self, x: Float[Array, "b h w c"]) -> Gaussian:
        """Averages the features over space and maps them to mean and log variance."""
        x = x.mean((1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
        mean = self._head("mean")(x)
        return Gaussian(mean, jnp.full_like(mean, _log_var(self.std)) if self.std else self._head("log_var")(x))

    def _head(self, name: str) -> nn.Dense:
        return nn.Dense(self.latent_dim, kernel_init=self.kernel_init, dtype=None, name=name)


def with_predicted_std(module: nn.Module, params: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """An encoder of constant standard deviation as one that predicts it, always the same; other networks unchanged."""
    if not isinstance(module, _Encoder) or not module.std:
        return module, params
    kernel, bias = params["mean"]["kernel"], params["mean"]["bias"]
    head = {"kernel": np.zeros_like(kernel), "bias": np.full_like(bias, _log_var(module.std))}
    return module.clone(std=0.0), params | {"log_var": head}


def _log_var(std: float) -> float:
    return 2 * math.log(std)


class ResNetEncoder(_Encoder):
    """A stride-2 convolution, `blocks` pre-activation residual blocks that halve the size, global average pooling, two linear heads."""

    blocks: int = 4

    @nn.compact
    def __call__(self, image: Image, *, use_running_average: bool = False) -> Gaussian:
        x = self._conv(self.width, 4, "first", stride=2, padding=1)(image)
        for i in range(self.blocks):
            x = self._block(x, self.width * min(4, i + 2), f"block_{i}", use_running_average)
        return self._gaussian(leaky_relu(x))

    def _block(self, x: Array, features: int, name: str, use_running_average: bool) -> Array:
        y = leaky_relu(self._normalize(x, f"{name}_norm_a", use_running_average))
        y = self._conv(x.shape[-1], 3, f"{name}_a", padding=1, use_bias=self.norm == "none")(y)
        y = leaky_relu(self._normalize(y, f"{name}_norm_b", use_running_average))
        y = PooledConv(features, kernel_init=self.kernel_init, dtype=self.dtype, name=f"{name}_b")(y)
        return y + self._conv(features, 1, f"{name}_shortcut")(average_pool(x))


class ConvEncoder(_Encoder):
    """`layers` stride-2 convolutions, global average pooling, two linear heads."""

    layers: int = 5

    @nn.compact
    def __call__(self, image: Image, *, use_running_average: bool = False) -> Gaussian:
        x = leaky_relu(self._conv(self.width, 4, "conv_0", stride=2, padding=1)(image))
        for i in range(1, self.layers):
            x = self._conv(self.width * min(4, 2**i), 4, f"conv_{i}", stride=2, padding=1, use_bias=self.norm == "none")(x)
            x = leaky_relu(self._normalize(x, f"norm_{i}", use_running_average))
        return self._gaussian(x)
