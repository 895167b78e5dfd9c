"""Discriminators: PatchGAN with any receptive field, PixelGAN, and a multi-scale discriminator."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from i2i_jax.models.layers import Conv, downscale, leaky_relu
from i2i_jax.models.norms import Normalize
from i2i_jax.types import Image

Logits = Float[Array, "b patches_down patches_across 1"]


class PatchGAN(nn.Module):
    """Classifies overlapping patches of an image as real or fake (Isola 2017, appendix 6.1.2).

    Attributes:
        layers: convolutions between the first and the last. 1 to 6 give receptive fields of 16, 34, 70, 142, 286 and 574 pixels.
        width: features of the first convolution; later ones have up to 8 times as many.
        norm: normalisation: batch, instance or none.
        kernel_init: initialiser of the convolution kernels.
        scale_init: initialiser of the scale of batch normalisation.
        dtype: dtype of the computation (None: the dtype of inputs and parameters). Logits are float32 or better.
    """

    layers: int = 3
    width: int = 64
    norm: str = "batch"
    kernel_init: Callable = nn.initializers.normal(0.02)
    scale_init: Callable = nn.initializers.ones
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, image: Image, *, use_running_average: bool = False) -> Logits:
        x = leaky_relu(self._conv(self.width, "conv_0", stride=2)(image))
        for i in range(1, self.layers + 1):
            conv = self._conv(self.width * min(2**i, 8), f"conv_{i}", stride=2 if i < self.layers else 1, use_bias=False)
            norm = Normalize(self.norm, self.scale_init, name=f"norm_{i}")
            x = leaky_relu(norm(conv(x), use_running_average=use_running_average))
        logits = self._conv(1, "logits")(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _conv(self, features: int, name: str, *, stride: int = 1, use_bias: bool = True) -> Conv:
        return Conv(features, 4, stride, 1, use_bias, kernel_init=self.kernel_init, dtype=self.dtype, name=name)


class PixelGAN(nn.Module):
    """Classifies each pixel independently as real or fake: the 1 x 1 discriminator of Isola 2017, section 4.4.

    The attributes are those of `PatchGAN`.
    """

    width: int = 64
    norm: str = "batch"
    kernel_init: Callable = nn.initializers.normal(0.02)
    scale_init: Callable = nn.initializers.ones
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, image: Image, *, use_running_average: bool = False) -> Logits:
        x = leaky_relu(self._conv(self.width, "conv_0")(image))
        x = self._conv(2 * self.width, "conv_1", use_bias=False)(x)
        x = Normalize(self.norm, self.scale_init, name="norm_1")(x, use_running_average=use_running_average)
        # As in the PyTorch code of pix2pix, which has this bias with instance norm only.
        logits = self._conv(1, "logits", use_bias=self.norm == "instance")(leaky_relu(x))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _conv(self, features: int, name: str, *, use_bias: bool = True) -> Conv:
        return Conv(features, 1, use_bias=use_bias, kernel_init=self.kernel_init, dtype=self.dtype, name=name)


class MultiScale(nn.Module):
    """One discriminator for each scale: the first sees the image at full size, each later one at half the previous size (Zhu 2017).

    Returns a list with the logits of each scale.
    """

    scales: tuple[nn.Module, ...]

    @nn.compact
    def __call__(self, image: Image, *, use_running_average: bool = False) -> list[Logits]:
        logits = []
        for i, discriminator in enumerate(self.scales):
            image = downscale(image) if i else image
            logits.append(discriminator(image, use_running_average=use_running_average))
        return logits
