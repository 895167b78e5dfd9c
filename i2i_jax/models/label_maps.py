"""The generator of the segmenter, which turns class scores into a label map."""

from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp

from i2i_jax.types import Image


class LabelMapGenerator(nn.Module):
    """Returns label maps: each pixel has the colour of the class with the highest score.

    Attributes:
        scores: a generator with one output channel for each class, in [-1, 1].
        colours: RGB colour of each class, in [-1, 1].
    """

    scores: nn.Module
    colours: tuple[tuple[float, float, float], ...]

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return cast(Any, self.scores).size_multiple

    @property
    def receptive_radius(self) -> int | None:
        """The largest distance in pixels at which the input can affect an output pixel; None: the whole input can."""
        return cast(Any, self.scores).receptive_radius

    def __call__(self, image: Image, **switches: bool) -> Image:
        return jnp.asarray(self.colours, image.dtype)[cast(Any, self.scores)(image, **switches).argmax(-1)]
