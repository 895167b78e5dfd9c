"""Inspection of a folder of pairs before training on it: every image is read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from i2i_jax.config import DataConfig, sides, size_text
from i2i_jax.data import duplicates, folder, images, layouts, value_report, values
from i2i_jax.data.crops import TrainingSize
from i2i_jax.data.values import BY_TYPE, Scale
from i2i_jax.pages import grids

NAMED = 10  # problems and duplicates that a report lists, of each kind
SHEET = (8, 3)  # rows and pairs in a row
GREY = {
    "A": "data.input_channels=1 reads it as one channel (with data.direction=BtoA: data.target_channels=1)",
    "B": "data.target_channels=1 reads it as one channel (with data.direction=BtoA: data.input_channels=1)",
}
THUMBNAIL = (128, 128)  # pixels
SIGNED = {"int16": ", signed", "float32": ", floats"}


Scales = tuple[Scale, Scale]


class Case(NamedTuple):
    """The files of one pair: one side-by-side file, or A and B; fewer if one is missing, as `problem` then says."""

    split: str
    stem: str
    files: tuple[Path, ...]
    problem: str

    @property
    def name(self) -> str:
        return f"{self.split}/{self.stem}"


class Seen(NamedTuple):
    """What was found in a pair.

    Attributes:
        case: the pair's files.
        problem: why the pair cannot be used; "" if it can, else the following are None.
        size: of both images, as WIDTHxHEIGHT.
        kinds: colour and depth of A and B.
        hashes: difference hashes of A and B.
        grey: whether A and B are grey.
        spreads: the values of A and B.
    """

    case: Case
    problem: str
    size: str | None = None
    kinds: tuple[str, str] | None = None
    hashes: tuple[np.uint64, np.uint64] | None = None
    grey: tuple[bool, bool] | None = None
    spreads: tuple[value_report.Spread, value_report.Spread] | None = None


class Survey(NamedTuple):
    """All pairs of a folder, the groups of near-duplicates among the usable ones, and what else the folder holds, in words.

    `scales` are the ranges of A and B that were asked about.
    """

    seen: list[Seen]
    groups: list[list[Seen]]
    unused: str
    scales: Scales = (BY_TYPE, BY_TYPE)

    @property
    def problems(self) -> list[str]:
        return [seen.problem for seen in self.seen if seen.problem]

    @property
    def good(self) -> list[Seen]:
        return [seen for seen in self.seen if not seen.problem]


def survey(root: Path, *, max_pixels: int = images.MAX_PIXELS, scales: Scales = (BY_TYPE, BY_TYPE)) -> Survey:
    """Reads every pair of a folder.

    Args:
        root: the folder, in one of the layouts of `folder.pairs`, or a list of pairs (.csv).
        max_pixels: the most pixels an image may have.
        scales: the ranges of A and B that training will use; values outside them are counted.

    Raises:
        FolderError: if the folder does not hold pairs.
    """
    cases = list(_cases(root))
    with ThreadPoolExecutor() as pool:
        results = pool.map(partial(_inspected, max_pixels=max_pixels, scales=scales), cases)
        seen = list(tqdm(results, total=len(cases), unit="pair", leave=False, disable=None))
    good = [pair for pair in seen if not pair.problem]
    group = duplicates.groups(np.array([pair.hashes for pair in good], np.uint64).reshape(-1, 2))
    repeated = [number for number, count in Counter(group.tolist()).items() if count > 1]
    groups = [[good[index] for index in np.flatnonzero(group == number)] for number in repeated]
    return Survey(seen, groups, layouts.unused(root), scales)


def report(survey: Survey) -> Iterator[str]:
    """Yields the lines of a report for people: splits, sizes, kinds, values, problems and near-duplicates."""
    yield ", ".join(f"{split}: {count} pairs" for split, count in Counter(seen.case.split for seen in survey.seen).items())
    yield _counted("size, width x height", (seen.size for seen in survey.good))
    yield from _proportions([(int(width), int(height)) for width, height in (seen.size.split("x") for seen in survey.good if seen.size)])
    for index, side in enumerate("AB"):
        yield _counted(side, (seen.kinds[index] for seen in survey.good if seen.kinds))
    for index, side in enumerate("AB"):
        yield from value_report.lines(side, [seen.spreads[index] for seen in survey.good if seen.spreads], survey.scales[index])
    for side, options in GREY.items():
        if survey.good and all(seen.grey and seen.grey["AB".index(side)] for seen in survey.good):
            yield f"{side} is grey in all pairs: {options}"
    if survey.unused:
        yield f"not used: {survey.unused}"
    yield from _some("cannot be used", survey.problems)
    leaks = [group for group in survey.groups if len({seen.case.split for seen in group}) > 1]
    yield from _some("near-duplicates", [_names(group) for group in survey.groups if group not in leaks])
    yield from _some("near-duplicates in several splits, so that test metrics are too good", [_names(group) for group in leaks])


def _proportions(sizes: Sequence[tuple[int, int]]) -> Iterator[str]:
    """The proportions of images of these widths and heights, and what each `data.resize` makes of the most frequent size."""
    if not sizes:
        return
    proportions = sorted({float(f"{width / height:.3g}") for width, height in sizes})
    spread = f"from {proportions[0]:g} to {proportions[-1]:g}" if len(proportions) > 1 else f"{proportions[0]:g} in all pairs"
    yield f"proportions, width / height: {spread}"
    (width, height), _ = Counter(sizes).most_common(1)[0]
    load, least = DataConfig.load_size, size_text(min(height for _, height in sizes), min(width for width, _ in sizes))

    def scaled(resize: str) -> tuple[int, int]:
        return TrainingSize(resize, sides(load), (1, 1)).scaled(height, width)

    (wide_height, wide_width), (pad_height, pad_width) = scaled("width"), scaled("pad")
    if all(width == height for width, height in sizes):
        yield "  data.resize=square (the default): the images are squares already, and keep their proportions"
    else:
        yield f"  data.resize=square (the default): pairs of {width}x{height} are squeezed to squares: data.resize=width keeps proportions"
    yield f"  data.resize=width: {width}x{height} becomes {wide_width}x{wide_height} with data.load_size={load}"
    yield f"  data.resize=none: crops of the images as they are: every pair has room for data.crop_size={least} (HEIGHTxWIDTH)"
    filled = 100 - 100 * pad_height * pad_width / (sides(load)[0] * sides(load)[1])
    becomes = f"{width}x{height} becomes {pad_width}x{pad_height}"
    yield f"  data.resize=pad: {becomes}, and {filled:.0f} % of a square of {load} is filled by reflection"


def save_sheet(path: Path, survey: Survey, *, max_pixels: int = images.MAX_PIXELS) -> None:
    """Writes a contact sheet of usable pairs, evenly spaced over the folder.

    Args:
        path: the image file to write.
        survey: what `survey` found.
        max_pixels: the most pixels an image may have.
    """
    rows, across = SHEET
    indices = np.unique(np.linspace(0, len(survey.good) - 1, rows * across).astype(int))
    shown = [
        grids.fitted(values.to_8_bits(_display_scale(image, scale).applied(image)), THUMBNAIL)
        for index in indices
        for image, scale in zip(_halves(survey.good[index].case, max_pixels), survey.scales, strict=True)
    ]
    shown += [np.full_like(shown[0], grids.SHEET)] * (-len(shown) % (2 * across))
    lines = [shown[start : start + 2 * across] for start in range(0, len(shown), 2 * across)]
    grids.save_grid(path, lines, labels=["A", "B"] * across)


def _display_scale(image: np.ndarray, scale: Scale) -> Scale:
    """The scale; for floats without a range, from their smallest to their largest value."""
    if scale.low is not None or image.dtype.kind != "f":
        return scale
    low, high = float(image.min()), float(image.max())
    return Scale(low, high if high > low else low + 1)


def _cases(root: Path) -> Iterator[Case]:
    for split, places in layouts.layout(root).items():
        sides = layouts.sides(split, places)
        for name in sorted(set().union(*(side.files for side in sides))):
            files = tuple(side.files[name] for side in sides if name in side.files)
            missing = [str(side.place) for side in sides if name not in side.files]
            yield Case(split, name, files, f"{files[0]}: has no partner in {missing[0]}" if missing else "")


def _inspected(case: Case, *, max_pixels: int, scales: Scales) -> Seen:
    if case.problem:
        return Seen(case, case.problem)
    try:
        a, b = _halves(case, max_pixels)
        images.check_same_size(case.files, (a, b))
    except (images.ImageError, folder.FolderError) as error:
        return Seen(case, str(error))
    hashes = duplicates.difference_hash(a), duplicates.difference_hash(b)
    size, kinds, grey = f"{a.shape[1]}x{a.shape[0]}", (_kind(a), _kind(b)), (images.is_grey(a), images.is_grey(b))
    spreads = value_report.spread(a, scales[0]), value_report.spread(b, scales[1])
    return Seen(case, "", size, kinds, hashes, grey, spreads)


def _halves(case: Case, max_pixels: int) -> Sequence[np.ndarray]:
    """A and B. Raises ImageError or FolderError."""
    if len(case.files) == 2:
        return [_stored(file, max_pixels) for file in case.files]
    whole = _stored(case.files[0], max_pixels)
    half, odd = divmod(whole.shape[1], 2)
    if odd:
        raise folder.FolderError(f"{case.files[0]}: {images.odd_width(whole.shape[1])}")
    return [whole[:, :half], whole[:, half:]]


def _stored(file: Path, max_pixels: int) -> np.ndarray:
    """An image with all bands of its file, without alpha. Raises ImageError."""
    return images.read(file, channels=images.bands(file, max_pixels=max_pixels), max_pixels=max_pixels)


def _kind(image: np.ndarray) -> str:
    colour = {1: "grey", 3: "colour"}.get(image.shape[2], f"{image.shape[2]} channels")
    return f"{colour} of {8 * image.dtype.itemsize} bits{SIGNED.get(image.dtype.name, '')}"


def _counted(title: str, values: Iterator[str | None]) -> str:
    return f"{title}: {_listed([f'{value} ({count})' for value, count in Counter(values).most_common()])}"


def _names(group: list[Seen]) -> str:
    return _listed([seen.case.name for seen in group])


def _listed(words: list[str]) -> str:
    return ", ".join(words[:NAMED]) + (f" and {len(words) - NAMED} more" if len(words) > NAMED else "")


def _some(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"{title}: {len(lines)}"
        yield from (f"  {line}" for line in lines[:NAMED])
        if len(lines) > NAMED:
            yield f"  and {len(lines) - NAMED} more"
