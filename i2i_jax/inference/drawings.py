"""What people draw for a model: the subject, the brushes, and drawings to begin with."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from i2i_jax import build
from i2i_jax.config import Config, sides
from i2i_jax.data import facade_layouts, found_colours, labels, shapes
from i2i_jax.data.palettes import RGB
from i2i_jax.pages import grids

SEEDS = {"facades": 60, "shapes": 378}  # of the first drawing: the first inputs of `inference.demo`
INPUTS = 32  # of a run that are looked at
PEN = {"white": (255, 255, 255), "black": (0, 0, 0)}

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


def subject(config: Config, *, name: str, kind: str = "") -> Subject:
    """The subject of a model; `name` is its title unless its dataset has one. `kind` is that of `brushes`, by default without inputs."""
    return SUBJECTS.get((config.data.name, config.data.direction), Subject(name, INSTRUCTIONS[kind or brushes(config)[0]]))


def brushes(config: Config, inputs: Sequence[Drawing] = ()) -> tuple[str, dict[str, RGB]]:
    """What inputs are (classes to paint, lines to draw with a pen, photos), and the colours to draw with; the first is the background's.

    Args:
        config: the model's config.
        inputs: some inputs of the model, which say what the config does not.
    """
    data = config.data
    if classes := labels.drawn_classes(data):
        return "classes", classes
    if inputs:
        return _brushes_found(inputs)
    drawn = (data.name, data.direction) in SUBJECTS or data.name == "folder"
    return ("pen" if drawn else "photo"), PEN


def _brushes_found(inputs: Sequence[Drawing]) -> tuple[str, dict[str, RGB]]:
    if colours := found_colours.label_colours(inputs):
        palette = found_colours.known_palette(colours)
        return "classes", palette.classes if palette else {_named(colour, share): colour for colour, share in colours.items()}
    paper = found_colours.paper(inputs)
    return ("pen" if paper else "photo"), dict(reversed(PEN.items())) if paper == PEN["black"] else PEN


def _named(colour: RGB, share: float) -> str:
    """A colour of label maps without names, with its share of the pixels."""
    percent = f"{share:.0%}" if share >= 0.01 else f"{100 * share:.1g}%"
    return "#{:02x}{:02x}{:02x} {}".format(*colour, percent)


def inputs(config: Config) -> list[Drawing]:
    """Some inputs of a run on the user's own pairs, as pictures; none for runs on files of labels, and where `own_inputs` gives none."""
    if config.data.input_labels:
        return []
    evenly = lambda count: np.linspace(0, count - 1, min(INPUTS, count), dtype=int)  # noqa: E731
    return [grids.to_rgb8(pixels) for pixels in own_inputs(config, "train", evenly)]


def own_inputs(config: Config, split: str, chosen: Callable[[int], Iterable[int]]) -> list[np.ndarray]:
    """Inputs of a run on the user's own pairs; none for other runs, or if the pairs are not there any more.

    Args:
        config: the run's config.
        split: train, val or test.
        chosen: `chosen(count)` returns which of `count` pairs to read.
    """
    if config.data.name != "folder" or not config.data.path:
        return []
    try:
        pairs = build.pairs(config, split)
        return [pairs[int(index)].input for index in chosen(len(pairs))]
    except (ValueError, OSError):  # the folder has moved or changed since
        return []


def line_width(config: Config) -> int:
    """The width of the pen in pixels of a drawing of the size of training."""
    return shapes.STROKE if config.data.name == "shapes" else max(1, min(sides(config.data.crop_size)) // 128)


def examples(config: Config, number: int) -> list[Drawing]:
    """Drawings to begin with, made by this package, of their own size; none if it cannot draw the model's inputs."""
    data = config.data
    seeds = range(first := SEEDS.get(data.name, 0), first + number)
    if (data.name, data.direction) == ("facades", "BtoA"):
        return [facade_layouts.layout(seed) for seed in seeds]
    if (data.name, data.direction) == ("shapes", "AtoB"):
        return [np.repeat(shapes.outline(np.random.RandomState(seed))[..., None], 3, 2) for seed in seeds]
    return []
