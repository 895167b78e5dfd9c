"""The pictures of docs/gallery.md: label maps of facades, drawn here, and what a model makes of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from i2i_jax import sampling
from i2i_jax.data import augment
from i2i_jax.data.palettes import PALETTES
from i2i_jax.inference import tiling, translation
from i2i_jax.inference.model import Model
from i2i_jax.pages import grids

SIZE = 128  # pixels, the size of the networks
COLOURS = PALETTES["facades"].classes
FRAMES = 10  # of the film, from one latent to the next
STAGES = ("wall", "+ windows", "+ door, shops", "+ balconies", "+ ornament")


def facade(columns: int = 4, floors: int = 4, *, height: int = SIZE, width: int = SIZE, stage: str = STAGES[-1]) -> np.ndarray:
    """Draws a label map in the colours of the facades dataset.

    Args:
        columns: windows of a floor.
        floors: floors, the ground floor included.
        height: in pixels.
        width: in pixels.
        stage: how much of it is drawn, one of `STAGES`; each adds to the one before.

    Returns:
        The label map, uint8 [height, width, 3].
    """
    sheet = np.empty((height, width, 3), np.uint8)
    sheet[:] = COLOURS["background"]
    for label, top, bottom, left, right in _rectangles(columns, floors, height, width, STAGES.index(stage)):
        sheet[round(top) : round(bottom), round(left) : round(right)] = COLOURS[label]
    return sheet


def _rectangles(columns: int, floors: int, height: int, width: int, stage: int) -> Iterator[tuple[str, float, float, float, float]]:
    """(class, top, bottom, left, right) of everything that is drawn up to a stage, in the order of drawing."""
    roof, ground, left, right = 6.0, height - 4.0, 5.0, width - 5.0
    storey, bay = (ground - roof - 4) / floors, (right - left) / columns
    tops = [roof + 8 + storey * floor for floor in range(floors - 1)]
    lefts = [left + bay * (column + 0.23) for column in range(columns)]
    window_height, window_width = 0.56 * storey, 0.54 * bay
    yield "facade", roof, ground, left, right
    if stage >= 4:
        yield "cornice", roof - 2, roof + 3, left - 2, right + 2
        yield "molding", ground - 1.16 * storey, ground - 1.16 * storey + 3, left, right
    for top in tops if stage >= 1 else ():
        for x in lefts:
            if stage >= 4:
                yield "deco", top - 3, top, x - 1, x + window_width + 1
                yield "sill", top + window_height, top + window_height + 2, x - 2, x + window_width + 2
            yield "window", top, top + window_height, x, x + window_width
    for column in range(columns if stage >= 2 else 0):
        is_door = column % 4 == columns // 2 % 4
        margin = 0.3 if is_door else 0.1
        yield "door" if is_door else "shop", ground - (0.92 if is_door else 0.8) * storey, ground, *_span(left, bay, column, margin)
    for top in tops[1::2] if stage >= 3 else ():
        for column in range(columns):
            yield "balcony", top + 0.62 * window_height, top + window_height + 2, *_span(left, bay, column, 0.16)


def _span(left: float, bay: float, column: int, margin: float) -> tuple[float, float]:
    """Left and right edge of something in a bay, with a margin in bays on both sides."""
    return left + bay * (column + margin), left + bay * (column + 1 - margin)


LABEL_MAPS = (facade(), facade(3, 3), facade(6, 5), facade(5, 4))


def answers(model: Model, seed: int) -> Image.Image:
    """One label map and eight answers."""
    images = [LABEL_MAPS[0], *model(LABEL_MAPS[0], n=8, seed=seed)]
    return _sheet([images[:3], images[3:6], images[6:]], ["label map", "eight answers", ""])


def walk(model: Model, seed: int) -> list[Image.Image]:
    """The frames of a walk through four latents and back, the same for four label maps."""
    stations = translation.synced(model.networks, samples=4, seed=seed)
    latents = np.asarray(sampling.walk(stations, FRAMES)).reshape(-1, model.networks.latent_dim)
    films = model(np.stack(LABEL_MAPS), z=latents)
    return [_frame(outputs) for outputs in zip(*films, strict=True)]


def _frame(outputs: Sequence[np.ndarray]) -> Image.Image:
    """The outputs for LABEL_MAPS in two columns, each with its label map in the corner."""
    side = SIZE + grids.GAP
    frame = Image.new("RGB", (2 * side - grids.GAP,) * 2, grids.SHEET)
    for i, (label_map, output) in enumerate(zip(LABEL_MAPS, outputs, strict=True)):
        position = (i % 2 * side, i // 2 * side)
        frame.paste(Image.fromarray(output), position)
        frame.paste(Image.fromarray(label_map).resize((SIZE // 4, SIZE // 4)), position)
    return frame


def style(model: Model, seed: int) -> Image.Image:
    """Three label maps in the styles of three facades, which are generated themselves, from another label map."""
    styles = model(LABEL_MAPS[3], n=3, seed=seed)
    outputs = model(np.stack(LABEL_MAPS[:3]), z=model.encode(styles))
    blank = np.full_like(LABEL_MAPS[0], grids.SHEET)
    rows = [[blank, *LABEL_MAPS[:3]], *([styles[i], *outputs[:, i]] for i in range(3))]
    return _sheet(rows, ["style", "label maps, and the style on them", "", ""])


def tiles(model: Model, seed: int) -> Image.Image:
    """A label map of four by two times the size of the networks, translated in overlapping tiles."""
    label_map = facade(14, 8, height=2 * SIZE, width=4 * SIZE)
    network = model.networks.generator
    grid = tiling.grid(*label_map.shape[:2], size_multiple=network.size_multiple, receptive_radius=network.receptive_radius, tile=SIZE)
    z = translation.synced(model.networks, samples=1, seed=seed)
    outputs = model(np.stack([*tiling.cut(label_map / 127.5 - 1, grid)]), z=np.asarray(z))
    whole = np.concatenate([*tiling.blend(outputs, grid)], 1)[0]
    return _sheet([[label_map], [augment.to_uint8(whole)]], [f"{4 * SIZE} x {2 * SIZE}, in {grid.number} tiles of {SIZE} x {SIZE}"])


def painting(model: Model, seed: int) -> Image.Image:
    """A drawing that grows, and its answers."""
    drawings = [facade(stage=stage) for stage in STAGES]
    outputs = model(np.stack(drawings), z=np.asarray(translation.synced(model.networks, samples=2, seed=seed)))
    return _sheet([drawings, *([images[i] for images in outputs] for i in range(2))], STAGES)


def label_map(model: Model, seed: int) -> Image.Image:
    """A label map, to translate."""
    return Image.fromarray(LABEL_MAPS[0])


PICTURES: dict[str, Callable[[Model, int], Image.Image | list[Image.Image]]] = {
    "answers.jpg": answers, "walk.gif": walk, "style.jpg": style, "tiles.jpg": tiles, "painting.jpg": painting, "label_map.png": label_map,
}  # fmt: skip


def _sheet(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str]) -> Image.Image:
    return Image.fromarray(grids.grid(rows, labels=labels))


def save(path: Path, picture: Image.Image | Iterable[Image.Image]) -> None:
    """Writes a picture, or the frames of a film; all frames of a film get the same colours, so that they do not flicker."""
    if isinstance(picture, Image.Image):
        picture.save(path, quality=88, optimize=True)
        return
    frames = list(picture)
    few = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames[::4]])).quantize(64)
    first, *others = (frame.quantize(palette=few, dither=Image.Dither.NONE) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=80, loop=0, optimize=True)
