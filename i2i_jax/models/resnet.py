"""The residual generator of the PyTorch code of pix2pix, after Johnson 2016."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from i2i_jax.models.layers import RESIZE_CONVOLUTIONS, Conv, Dropout, TransposedConv, reflect_pad
from i2i_jax.models.norms import Normalize
from i2i_jax.types import Image, Latent


class ResNet(nn.Module):
    """Downsamples twice, applies `blocks` residual blocks and upsamples twice. Height and width must be multiples of 4.

    A latent adds channels to the image that are the same at every pixel.

    Attributes:
        channels: channels of the output.
        blocks: residual blocks.
        width: features of the first convolution; the residual blocks have 4 times as many.
        norm: normalisation: batch, instance or none.
        upsample: transposed (convolutions), or bilinear or nearest (upsampling, then a convolution).
        dropout: whether the residual blocks have dropout of rate 0.5.
        kernel_init: initialiser of the convolution kernels.
        scale_init: initialiser of the scale of batch normalisation.
        dtype: dtype of the computation (None: the dtype of inputs and parameters). The output is float32 or better.
    """

    channels: int
    blocks: int = 9
    width: int = 64
    norm: str = "batch"
    upsample: str = "transposed"
    dropout: bool = False
    kernel_init: Callable = nn.initializers.normal(0.02)
    scale_init: Callable = nn.initializers.ones
    dtype: DTypeLike | None = None

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return 4

    @property
    def receptive_radius(self) -> int:
        """The largest distance in pixels at which the input affects an output pixel through convolutions.

        Normalisation by the statistics of the image depends on the whole image and is not counted.
        """
        return 8 * self.blocks + {"transposed": 12, "nearest": 15, "bilinear": 18}[self.upsample]

    @nn.compact
    def __call__(
        self, image: Image, latent: Latent | None = None, *, use_running_average: bool = False, deterministic: bool = False
    ) -> Float[Array, "b h w o"]:
        """Returns target images in [-1, 1]. `use_running_average` and `deterministic` are Flax's switches of norms and dropout."""

        def normed(x: Array, layer: Callable[[Array], Array], name: str) -> Array:
            return Normalize(self.norm, self.scale_init, name=f"{name}_norm")(layer(x), use_running_average=use_running_average)

        x = nn.relu(normed(reflect_pad(image, 3), partial(self._conv(self.width, 7, "first"), constant=latent), "first"))
        for i in (1, 2):
            x = nn.relu(normed(x, self._conv(self.width * 2**i, 3, f"down_{i}", stride=2, padding=1), f"down_{i}"))
        for i in range(self.blocks):
            y = nn.relu(normed(reflect_pad(x, 1), self._conv(self.width * 4, 3, f"block_{i}_a"), f"block_{i}_a"))
            if self.dropout:
                y = Dropout(0.5)(y, deterministic=deterministic)
            x = x + normed(reflect_pad(y, 1), self._conv(self.width * 4, 3, f"block_{i}_b"), f"block_{i}_b")
        for i in (2, 1):
            x = nn.relu(normed(x, self._up(self.width * 2 ** (i - 1), f"up_{i}"), f"up_{i}"))
        x = Conv(self.channels, 7, kernel_init=self.kernel_init, dtype=self.dtype, name="last")(reflect_pad(x, 3))
        return jnp.tanh(x.astype(jnp.promote_types(x.dtype, jnp.float32)))

    def _conv(self, features: int, kernel_size: int, name: str, *, stride: int = 1, padding: int = 0) -> nn.Module:
        return Conv(features, kernel_size, stride, padding, **self._common(name))

    def _up(self, features: int, name: str) -> nn.Module:
        if self.upsample == "transposed":
            return TransposedConv(features, 3, output_padding=1, **self._common(name))
        return RESIZE_CONVOLUTIONS[self.upsample](features, **self._common(name))

    def _common(self, name: str) -> dict:
        return {"use_bias": False, "kernel_init": self.kernel_init, "dtype": self.dtype, "name": name}
