"""The U-Net generators of pix2pix and BicycleGAN."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from i2i_jax.models.layers import RESIZE_CONVOLUTIONS, Conv, Dropout, TransposedConv, leaky_relu
from i2i_jax.models.norms import Normalize
from i2i_jax.types import Image, Latent


class UNet(nn.Module):
    """Encoder-decoder with skip connections between layers of equal size (Isola 2017, appendix 6.1; Zhu 2017, appendix).

    Attributes:
        channels: channels of the output.
        depth: times that the image is halved. Height and width must be multiples of 2**depth.
        width: features of the first convolution; deeper ones have up to 8 times as many.
        norm: normalisation: batch, instance or none.
        latent_at: where the latent adds channels, the same at every pixel: to every down convolution (all) or to the image only (input).
        skip: whether there are skip connections.
        skip_order: which features come first in a skip connection: encoder_first (pix2pix) or decoder_first (BicycleGAN).
        upsample: transposed (convolutions), or bilinear or nearest (upsampling, then a convolution).
        dropout: whether the inner up layers have dropout of rate 0.5.
        kernel_init: initialiser of the convolution kernels.
        scale_init: initialiser of the scale of batch normalisation.
        dtype: dtype of the computation (None: the dtype of inputs and parameters). The output is float32 or better.
    """

    channels: int
    depth: int = 8
    width: int = 64
    norm: str = "batch"
    latent_at: str = "all"
    skip: bool = True
    skip_order: str = "encoder_first"
    upsample: str = "transposed"
    dropout: bool = False
    kernel_init: Callable = nn.initializers.normal(0.02)
    scale_init: Callable = nn.initializers.ones
    dtype: DTypeLike | None = None

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return 2**self.depth

    @property
    def receptive_radius(self) -> None:
        """None: the whole input can affect an output pixel."""

    @nn.compact
    def __call__(
        self, image: Image, latent: Latent | None = None, *, use_running_average: bool = False, deterministic: bool = False
    ) -> Float[Array, "b h w o"]:
        """Returns target images in [-1, 1]. `use_running_average` and `deterministic` are Flax's switches of norms and dropout."""
        x, features = image, []
        for level in range(self.depth):
            x = self._down(x, latent, level, use_running_average)
            features.append(x)
        for level in reversed(range(self.depth)):
            if level < self.depth - 1 and self.skip:
                pair = (features[level], x) if self.skip_order == "encoder_first" else (x, features[level])
                x = jnp.concatenate(pair, -1)
            x = self._up(x, level, use_running_average, deterministic)
        return jnp.tanh(x.astype(jnp.promote_types(x.dtype, jnp.float32)))

    def _down(self, x: Array, latent: Array | None, level: int, use_running_average: bool) -> Array:
        z = latent if level == 0 or self.latent_at == "all" else None
        if level:
            x, z = leaky_relu(x), z if z is None else leaky_relu(z)
        normed = 0 < level < self.depth - 1
        conv = Conv(
            self._features(level), 4, 2, 1, self._has_bias(normed), kernel_init=self.kernel_init, dtype=self.dtype, name=f"down_{level}"
        )
        x = conv(x, z)
        return self._normalize(x, f"down_norm_{level}", use_running_average) if normed else x

    def _up(self, x: Array, level: int, use_running_average: bool, deterministic: bool) -> Array:
        features = self._features(level - 1) if level else self.channels
        common = {"kernel_init": self.kernel_init, "dtype": self.dtype, "name": f"up_{level}"}
        use_bias = self._has_bias(normed=level > 0) or level == 0
        if self.upsample == "transposed":
            x = TransposedConv(features, 4, use_bias=use_bias, **common)(nn.relu(x))
        else:
            x = RESIZE_CONVOLUTIONS[self.upsample](features, use_bias=use_bias, **common)(nn.relu(x))
        if level == 0:
            return x
        x = self._normalize(x, f"up_norm_{level}", use_running_average)
        if self.dropout and 4 <= level < self.depth - 1:
            x = Dropout(0.5)(x, deterministic=deterministic)
        return x

    def _normalize(self, x: Array, name: str, use_running_average: bool) -> Array:
        return Normalize(self.norm, self.scale_init, name=name)(x, use_running_average=use_running_average)

    def _features(self, level: int) -> int:
        return self.width * min(2**level, 8)

    def _has_bias(self, normed: bool) -> bool:
        """A norm cancels the bias before it. Without instance norm, the PyTorch code of pix2pix has no bias before the last layer."""
        if self.skip_order == "encoder_first" and self.norm != "instance":
            return False
        return self.norm == "none" or not normed
