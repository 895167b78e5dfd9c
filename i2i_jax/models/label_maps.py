"""A segmenter's generator: class scores, shown as a label map."""

from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp

from i2i_jax.types import Image


class LabelMapGenerator(nn.Module):
    """Each pixel in the colour of its best class; `scores` is a generator with a channel for each class, in [-1, 1]."""

    scores: nn.Module
    colours: tuple[tuple[float, float, float], ...]  # of the classes, in [-1, 1]

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return cast(Any, self.scores).size_multiple

    @property
    def receptive_radius(self) -> int | None:
        """An output pixel depends on the input at most this many pixels away (None: on all of it)."""
        return cast(Any, self.scores).receptive_radius

    def __call__(self, image: Image, **switches: bool) -> Image:
        return jnp.asarray(self.colours, image.dtype)[cast(Any, self.scores)(image, **switches).argmax(-1)]
