"""What people draw for a model: the subject, the brushes, and drawings to begin with."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from i2i_jax.config import Config
from i2i_jax.data import facade_layouts, labels, shapes
from i2i_jax.data.palettes import RGB

SEEDS = {"facades": 60, "shapes": 378}  # of the first drawing: the first inputs of `inference.demo`

Drawing = UInt8[np.ndarray, "h w 3"]


class Subject(NamedTuple):
    """What a page to draw on is about.

    Attributes:
        title: its title.
        instruction: one sentence that says what to draw.
    """

    title: str
    instruction: str


SUBJECTS = {
    ("facades", "BtoA"): Subject("House fronts", "Paint a house front, its facade, windows and door, and see what it could look like."),
    ("cityscapes", "BtoA"): Subject("Streets", "Paint a street, its road, buildings, cars and sky, and see what it could look like."),
    ("shapes", "AtoB"): Subject("Shapes", "Draw the outline of one closed shape, and see how it could be filled."),
    ("edges2shoes", "AtoB"): Subject("Shoes", "Draw the outlines of a shoe from the side, and see what it could look like."),
    ("edges2handbags", "AtoB"): Subject("Handbags", "Draw the outlines of a handbag, and see what it could look like."),
}
INSTRUCTIONS = {
    "classes": "Paint with the brushes, one for each class, and see what it could look like.",
    "pen": "Draw with the pen, or upload a picture, and see what it could look like.",
    "photo": "Upload a picture, and see what it could look like.",
}


def subject(config: Config, *, name: str) -> Subject:
    """The subject of a model; `name` is its title unless its dataset has one."""
    return SUBJECTS.get((config.data.name, config.data.direction), Subject(name, INSTRUCTIONS[brushes(config)[0]]))


def brushes(config: Config) -> tuple[str, dict[str, RGB]]:
    """What inputs are (classes to paint, lines to draw with a pen, photos), and the colours to draw with; the first is the background's."""
    data = config.data
    if classes := labels.drawn_classes(data):
        return "classes", classes
    drawn = (data.name, data.direction) in SUBJECTS or data.name == "folder"
    return ("pen" if drawn else "photo"), {"white": (255, 255, 255), "black": (0, 0, 0)}


def examples(config: Config, number: int) -> list[Drawing]:
    """Drawings to begin with, made by this package, of their own size; none if it cannot draw the model's inputs."""
    data = config.data
    seeds = range(first := SEEDS.get(data.name, 0), first + number)
    if (data.name, data.direction) == ("facades", "BtoA"):
        return [facade_layouts.layout(seed) for seed in seeds]
    if (data.name, data.direction) == ("shapes", "AtoB"):
        return [np.repeat(shapes.outline(np.random.RandomState(seed))[..., None], 3, 2) for seed in seeds]
    return []
