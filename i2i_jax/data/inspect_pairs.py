"""Inspection of a folder of pairs before training on it: every image is read."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from i2i_jax.config import DataConfig, size_text
from i2i_jax.config import sides as height_and_width
from i2i_jax.data import concatenated, duplicates, folder, images, layouts, value_report, values
from i2i_jax.data.crops import TrainingSize
from i2i_jax.data.labels import Labels
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


class LabelMaps(NamedTuple):
    """The side of the pairs, A or B, that are label maps, how they store classes, and the classes' names."""

    side: str
    labels: Labels
    names: tuple[str, ...]


class Case(NamedTuple):
    """The files of one pair: one side-by-side file, or those of A, then B; fewer if one is missing, as `problem` then says."""

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
        size: of all images, as WIDTHxHEIGHT.
        hashes: difference hashes of A and B.
        kinds: colour and depth of A and B, or of each file of A, and B; likewise:
        channels: the number of channels.
        grey: whether the image is grey.
        spreads: the values; None for label maps.
        pixels: of a label map, the number of pixels of each class.
    """

    case: Case
    problem: str
    size: str | None = None
    hashes: tuple[np.uint64, np.uint64] | None = None
    kinds: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    grey: tuple[bool, ...] = ()
    spreads: tuple[value_report.Spread | None, ...] = ()
    pixels: np.ndarray | None = None


class Survey(NamedTuple):
    """What was found in a folder.

    Attributes:
        seen: all pairs.
        groups: the groups of near-duplicates among the usable ones.
        unused: what else the folder holds, in words.
        scales: the ranges of A and B that were asked about.
        label_maps: the side that was read as label maps; None if there is none.
    """

    seen: list[Seen]
    groups: list[list[Seen]]
    unused: str
    scales: Scales = (BY_TYPE, BY_TYPE)
    label_maps: LabelMaps | None = None

    @property
    def problems(self) -> list[str]:
        return [seen.problem for seen in self.seen if seen.problem]

    @property
    def good(self) -> list[Seen]:
        return [seen for seen in self.seen if not seen.problem]


def survey(
    root: Path, *, max_pixels: int = images.MAX_PIXELS, scales: Scales = (BY_TYPE, BY_TYPE), label_maps: LabelMaps | None = None
) -> Survey:
    """Reads every pair of a folder.

    Args:
        root: the folder, in one of the layouts of `folder.pairs`, or a list of pairs (.csv).
        max_pixels: the most pixels an image may have.
        scales: the ranges of A and B that training will use; values outside them are counted.
        label_maps: the side that is read as label maps; None for photos on both sides.

    Raises:
        FolderError: if the folder does not hold pairs, or label maps of several files.
    """
    listing = layouts.Listing(root)
    cases = list(_cases(listing))
    if label_maps and label_maps.side == "A" and (count := len(cases[0].files) - 1) > 1:
        raise folder.FolderError(f"{root}: inputs have {count} files: data.input_labels reads one label map for each input")
    with ThreadPoolExecutor() as pool:
        results = pool.map(partial(_inspected, max_pixels=max_pixels, scales=scales, label_maps=label_maps), cases)
        seen = list(tqdm(results, total=len(cases), unit="pair", leave=False, disable=None))
    good = [pair for pair in seen if not pair.problem]
    group = duplicates.groups(np.array([pair.hashes for pair in good], np.uint64).reshape(-1, 2))
    repeated = [number for number, count in Counter(group.tolist()).items() if count > 1]
    groups = [[good[index] for index in np.flatnonzero(group == number)] for number in repeated]
    return Survey(seen, groups, listing.unused(), scales, label_maps)


def report(survey: Survey) -> Iterator[str]:
    """Yields the lines of a report for people: splits, sizes, kinds, values, problems and near-duplicates."""
    yield ", ".join(f"{split}: {count} pairs" for split, count in Counter(seen.case.split for seen in survey.seen).items())
    yield _counted("size, width x height", (seen.size for seen in survey.good))
    yield from _proportions([_size(seen) for seen in survey.good])
    sides = _sides(len(survey.good[0].kinds) if survey.good else 2)
    for index, side in enumerate(sides):
        yield _counted(side, (seen.kinds[index] for seen in survey.good))
    yield from _channels(survey.good)
    for index, side in enumerate(sides):
        spreads = [spread for seen in survey.good if (spread := seen.spreads[index])]
        yield from value_report.lines(side, spreads, survey.scales[side == "B"])
    for index, side in enumerate(sides):
        if side in GREY and survey.good and all(seen.grey[index] for seen in survey.good):
            yield f"{side} is grey in all pairs: {GREY[side]}"
    yield from _classes(survey)
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
        return TrainingSize(resize, height_and_width(load), (1, 1)).scaled(height, width)

    (wide_height, wide_width), (pad_height, pad_width) = scaled("width"), scaled("pad")
    if all(width == height for width, height in sizes):
        yield "  data.resize=square (the default): the images are squares already, and keep their proportions"
    else:
        yield f"  data.resize=square (the default): pairs of {width}x{height} are squeezed to squares: data.resize=width keeps proportions"
    yield f"  data.resize=width: {width}x{height} becomes {wide_width}x{wide_height} with data.load_size={load}"
    yield f"  data.resize=none: crops of the images as they are: every pair has room for data.crop_size={least} (HEIGHTxWIDTH)"
    filled = 100 - 100 * pad_height * pad_width / (height_and_width(load)[0] * height_and_width(load)[1])
    becomes = f"{width}x{height} becomes {pad_width}x{pad_height}"
    yield f"  data.resize=pad: {becomes}, and {filled:.0f} % of a square of {load} is filled by reflection"


def _sides(count: int) -> list[str]:
    """A and B, or A1, A2 ... for the files of A."""
    return ["A", "B"] if count == 2 else [*(f"A{i + 1}" for i in range(count - 1)), "B"]


def _channels(good: Sequence[Seen]) -> Iterator[str]:
    """A line about the channels of inputs of several files."""
    if good and (count := len(good[0].channels) - 1) > 1:
        sums = Counter(seen.channels[:-1] for seen in good).most_common()
        listed = _listed([f"{' + '.join(map(str, channels))} = {sum(channels)} ({pairs})" for channels, pairs in sums])
        option = f": data.input_channels={sum(sums[0][0])}" if len(sums) == 1 else ": must be as many in all pairs"
        yield f"A has {count} files, channels {listed}{option}"


def _classes(survey: Survey) -> Iterator[str]:
    """Lines about the classes of the label maps."""
    counts = [seen.pixels for seen in survey.good if seen.pixels is not None]
    if survey.label_maps is None or not counts:
        return
    names, pixels, pairs = survey.label_maps.names, np.sum(counts, 0), np.count_nonzero(counts, 0)
    total = sum(math.prod(_size(seen)) for seen in survey.good)
    absent = [name for name, count in zip(names, pixels, strict=True) if not count]
    none = f"; in no pair: {_listed(absent)}" if absent else ""
    yield f"classes of {survey.label_maps.side}: {len(names) - len(absent)} of {len(names)}{none}"
    for index in np.argsort(-pixels, kind="stable")[: len(names) - len(absent)]:
        yield f"  {names[index]}: {100 * pixels[index] / total:.2g} % of the pixels, in {pairs[index]} pairs"
    if (unlabelled := total - pixels.sum()) > 0:
        yield f"  of no class: {100 * unlabelled / total:.2g} % of the pixels"


def _size(seen: Seen) -> tuple[int, int]:
    """Width and height of a usable pair."""
    width, height = map(int, (seen.size or "0x0").split("x"))
    return width, height


def save_sheet(path: Path, survey: Survey, *, max_pixels: int = images.MAX_PIXELS) -> None:
    """Writes a contact sheet of usable pairs, evenly spaced over the folder.

    Args:
        path: the image file to write.
        survey: what `survey` found.
        max_pixels: the most pixels an image may have.
    """
    rows, across = SHEET
    sides = _sides(len(survey.good[0].kinds))
    indices = np.unique(np.linspace(0, len(survey.good) - 1, rows * across).astype(int))
    parts = [part for index in indices for part in _displayed(survey.good[index].case, survey, max_pixels)]
    shown = [grids.fitted(part, THUMBNAIL) for part in parts]
    columns = len(sides) * across
    shown += [np.full_like(shown[0], grids.SHEET)] * (-len(shown) % columns)
    grids.save_grid(path, [shown[start : start + columns] for start in range(0, len(shown), columns)], labels=sides * across)


def _displayed(case: Case, survey: Survey, max_pixels: int) -> Iterator[np.ndarray]:
    """The images of a pair as 8 bits; label maps in the classes' colours."""
    parts, _ = _images(case, max_pixels, survey.label_maps)
    for part, side in zip(parts, _sides(len(parts)), strict=True):
        scale = BY_TYPE if _is_label_map(side, survey.label_maps) else survey.scales[side == "B"]
        yield values.to_8_bits(_display_scale(part, scale).applied(part))


def _display_scale(image: np.ndarray, scale: Scale) -> Scale:
    """The scale; for floats without a range, from their smallest to their largest value."""
    if scale.low is not None or image.dtype.kind != "f":
        return scale
    low, high = float(image.min()), float(image.max())
    return Scale(low, high if high > low else low + 1)


def _is_label_map(side: str, label_maps: LabelMaps | None) -> bool:
    return label_maps is not None and side == label_maps.side


def _cases(listing: layouts.Listing) -> Iterator[Case]:
    for split in listing.layout:
        sides = listing.sides(split)
        for name in sorted(set().union(*(side.files for side in sides))):
            files = tuple(side.files[name] for side in sides if name in side.files)
            missing = [str(side.place) for side in sides if name not in side.files]
            yield Case(split, name, files, f"{files[0]}: has no partner in {missing[0]}" if missing else "")


def _inspected(case: Case, *, max_pixels: int, scales: Scales, label_maps: LabelMaps | None) -> Seen:
    if case.problem:
        return Seen(case, case.problem)
    try:
        parts, pixels = _images(case, max_pixels, label_maps)
        for index in range(1, len(case.files)):
            images.check_same_size((case.files[0], case.files[index]), (parts[0], parts[index]))
    except (images.ImageError, folder.FolderError) as error:
        return Seen(case, str(error))
    sides, b = _sides(len(parts)), parts[-1]
    a = parts[0] if len(parts) == 2 else concatenated.joined([_display_scale(part, scales[0]).applied(part) for part in parts[:-1]])
    are_photos = [not _is_label_map(side, label_maps) for side in sides]
    return Seen(
        case,
        "",
        size=f"{b.shape[1]}x{b.shape[0]}",
        hashes=(duplicates.difference_hash(a), duplicates.difference_hash(b)),
        kinds=tuple(_kind(part) if photo else "label map" for part, photo in zip(parts, are_photos, strict=True)),
        channels=tuple(part.shape[2] for part in parts),
        grey=tuple(photo and images.is_grey(part) for part, photo in zip(parts, are_photos, strict=True)),
        spreads=tuple(
            value_report.spread(part, scales[side == "B"]) if photo else None
            for part, side, photo in zip(parts, sides, are_photos, strict=True)
        ),
        pixels=pixels,
    )


def _images(case: Case, max_pixels: int, label_maps: LabelMaps | None) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The images of a pair, label maps in the classes' colours, and the pixels of each class. Raises ImageError or FolderError."""
    if label_maps is None:
        return _halves(case, max_pixels), None
    index = "AB".index(label_maps.side)
    parts: list[np.ndarray]
    if len(case.files) == 1:
        channels = images.bands(case.files[0], max_pixels=max_pixels)
        sides = (None, label_maps.labels) if index else (label_maps.labels, None)
        options: dict[str, Any] = {"channels": (channels, channels), "labels": sides}
        parts = [*images.read_halves(case.files[0], max_pixels=max_pixels, **options)]
    else:
        index *= len(case.files) - 1
        parts = [
            images.read(file, channels=3, max_pixels=max_pixels, labels=label_maps.labels) if i == index else _stored(file, max_pixels)
            for i, file in enumerate(case.files)
        ]
    one_hot, parts[index] = parts[index], label_maps.labels.painted(parts[index])
    return parts, np.count_nonzero(one_hot, (0, 1))


def _halves(case: Case, max_pixels: int) -> list[np.ndarray]:
    """The files of A, then B. Raises ImageError or FolderError."""
    stored = [_stored(file, max_pixels) for file in case.files]
    if len(stored) > 1:
        return stored
    half, odd = divmod(stored[0].shape[1], 2)
    if odd:
        raise folder.FolderError(f"{case.files[0]}: {images.odd_width(stored[0].shape[1])}")
    return [stored[0][:, :half], stored[0][:, half:]]


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
