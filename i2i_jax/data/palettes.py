"""Palettes of the datasets with label maps, and the class of each pixel by its colour."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

RGB = tuple[int, int, int]
Labels = Int[Array, "b h w"]

UNLABELLED = -1


class PaletteError(ValueError):
    """Images that cannot be label maps: one line that says what was found."""


class Palette(NamedTuple):
    """The colours of a dataset's label maps, RGB from 0 to 255.

    Attributes:
        classes: the colour of each class, by name; a class's index is its position.
        unlabelled: colours of pixels that belong to no class.
    """

    classes: dict[str, RGB]
    unlabelled: tuple[RGB, ...] = ()

    def colours(self) -> Float[np.ndarray, "k 3"]:
        """Returns the colours of the k classes, in [-1, 1]."""
        return np.array([*self.classes.values()], np.float32) / 127.5 - 1


PALETTES = {
    # CMP Facade Database (Tylecek 2013) in the pix2pix archive: class k of 12 has colour 5 k of MATLAB's jet(64), both counted from 0.
    "facades": Palette(
        {
            "background": (0, 0, 223),
            "facade": (0, 48, 255),
            "window": (0, 128, 255),
            "door": (0, 207, 255),
            "cornice": (32, 255, 223),
            "sill": (112, 255, 143),
            "balcony": (191, 255, 64),
            "blind": (255, 239, 0),
            "deco": (255, 159, 0),
            "molding": (255, 80, 0),
            "pillar": (255, 0, 0),
            "shop": (175, 0, 0),
        }
    ),
    # Cityscapes (Cordts 2016): its 19 training classes. Pole groups and licence plates share the colours of poles and cars.
    "cityscapes": Palette(
        {
            "road": (128, 64, 128),
            "sidewalk": (244, 35, 232),
            "building": (70, 70, 70),
            "wall": (102, 102, 156),
            "fence": (190, 153, 153),
            "pole": (153, 153, 153),
            "traffic light": (250, 170, 30),
            "traffic sign": (220, 220, 0),
            "vegetation": (107, 142, 35),
            "terrain": (152, 251, 152),
            "sky": (70, 130, 180),
            "person": (220, 20, 60),
            "rider": (255, 0, 0),
            "car": (0, 0, 142),
            "truck": (0, 0, 70),
            "bus": (0, 60, 100),
            "train": (0, 80, 100),
            "motorcycle": (0, 0, 230),
            "bicycle": (119, 11, 32),
        },
        unlabelled=(
            (0, 0, 0),  # unlabelled, ego vehicle, rectification border, out of region, static
            (111, 74, 0),  # dynamic
            (81, 0, 81),  # ground
            (250, 170, 160),  # parking
            (230, 150, 140),  # rail track
            (180, 165, 180),  # guard rail
            (150, 100, 100),  # bridge
            (150, 120, 90),  # tunnel
            (0, 0, 90),  # caravan
            (0, 0, 110),  # trailer
        ),
    ),
}


def classes_of(images: Float[Array, "b h w c"], palette: Palette) -> Labels:
    """Returns the class of each pixel: the one whose colour is nearest.

    Args:
        images: label maps in [-1, 1], with 3 channels.
        palette: the dataset's palette.

    Returns:
        Indices into `palette.classes`; UNLABELLED for pixels that are nearest to one of `palette.unlabelled`.

    Raises:
        PaletteError: if the images do not have 3 channels.
    """
    if images.shape[-1] != 3:
        raise PaletteError(f"the classes of label maps are known by colour: found images of {images.shape[-1]} channels, 3 would do")
    colours = np.array([*palette.classes.values(), *palette.unlabelled]) / 127.5 - 1
    distance = jnp.square(images[..., None, :] - colours.astype(images.dtype)[None, None, None]).sum(-1)
    nearest = distance.argmin(-1)
    return jnp.where(nearest < len(palette.classes), nearest, UNLABELLED)
