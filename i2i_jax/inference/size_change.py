"""Brings images to the scale that a run was trained at, and its translations back to the size of their inputs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from i2i_jax.config import Config, sides
from i2i_jax.data import loader
from i2i_jax.data.crops import TrainingSize


class SizeChange(NamedTuple):
    """The change of size of one image.

    Attributes:
        size: height and width of the image, in pixels.
        scaled: height and width after the resize.
        padded: height and width after the padding, which is on the right and at the bottom.
        input_is_labels: whether the image is a label map, which is resized by nearest neighbour.
        output_is_labels: the same for its translations.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    padded: tuple[int, int]
    input_is_labels: bool = False
    output_is_labels: bool = False

    @property
    def changes(self) -> bool:
        """Whether the image is changed at all."""
        return not self.size == self.scaled == self.padded

    def prepare(self, image: Num[np.ndarray, "_h _w c"]) -> Num[np.ndarray, "_h2 _w2 c"]:
        """Resizes and pads the image."""
        resize = loader.resize_labels if self.input_is_labels else loader.resize
        return loader.mirrored(resize(image, self.scaled), self.padded)

    def finish(self, output: Num[np.ndarray, "_h _w c"]) -> Num[np.ndarray, "_h2 _w2 c"]:
        """Cuts the padding off a translation and resizes it to the size of the image."""
        resize = loader.resize_labels if self.output_is_labels else loader.resize
        return resize(output[: self.scaled[0], : self.scaled[1]], self.size)


def of_image(config: Config, size: tuple[int, int], *, load_size: int | None = None) -> SizeChange:
    """Returns the change of size of an image to translate.

    It is none for runs with `data.resize` square, which translate images in their own size, and none.

    Args:
        config: the config of the run.
        size: height and width of the image, in pixels.
        load_size: takes the place of `data.load_size`, with `data.resize` width and pad.
    """
    data = config.data
    labels = {"input_is_labels": bool(data.input_labels), "output_is_labels": config.objective == "segmenter"}
    if data.resize not in ("width", "pad"):
        return SizeChange(size, size, size, **labels)
    training_size = TrainingSize.of_config(data)
    training_size = training_size._replace(load=sides(load_size)) if load_size else training_size
    scaled = training_size.scaled(*size)
    return SizeChange(size, scaled, training_size.load if data.resize == "pad" else scaled, **labels)
