"""What a folder of pairs holds, before hours of training on it: every image is read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from i2i_jax.data import duplicates, folder, images, outputs
from i2i_jax.pages import grids

NAMED = 10  # problems and duplicates, of each kind
SHEET = (8, 3)  # rows and pairs in a row
THUMBNAIL = (128, 128)  # pixels


class Case(NamedTuple):
    """One file side by side, or two of a stem; fewer where one is missing, which the `problem` says."""

    split: str
    files: tuple[Path, ...]
    problem: str

    @property
    def name(self) -> str:
        return f"{self.split}/{self.files[0].stem}"


class Seen(NamedTuple):
    """What is in a pair: both images' size and kind, and their difference hashes; all None where there is a problem."""

    case: Case
    problem: str
    size: str | None = None
    kinds: tuple[str, str] | None = None
    hashes: tuple[np.uint64, np.uint64] | None = None


class Survey(NamedTuple):
    """All pairs, and of the good ones the groups of near-duplicates."""

    seen: list[Seen]
    groups: list[list[Seen]]

    @property
    def problems(self) -> list[str]:
        return [seen.problem for seen in self.seen if seen.problem]

    @property
    def good(self) -> list[Seen]:
        return [seen for seen in self.seen if not seen.problem]


def survey(root: Path, *, max_pixels: int = images.MAX_PIXELS) -> Survey:
    """Looks at every pair under `root`, in the layouts of `folder.pairs`. Raises FolderError where there is none."""
    cases = list(_cases(root))
    with ThreadPoolExecutor() as pool:
        seen = list(tqdm(pool.map(partial(_look, max_pixels=max_pixels), cases), total=len(cases), unit="pair", leave=False, disable=None))
    good = [pair for pair in seen if not pair.problem]
    number = duplicates.groups(np.array([pair.hashes for pair in good], np.uint64).reshape(-1, 2))
    groups = [[good[place] for place in np.flatnonzero(number == one)] for one, count in Counter(number.tolist()).items() if count > 1]
    return Survey(seen, groups)


def report(found: Survey) -> Iterator[str]:
    """Lines for people."""
    yield ", ".join(f"{split}: {count} pairs" for split, count in Counter(seen.case.split for seen in found.seen).items())
    yield _counted("size, width x height", (seen.size for seen in found.good))
    for place, side in enumerate("AB"):
        yield _counted(side, (seen.kinds[place] for seen in found.good if seen.kinds))
    yield from _some("cannot be used", found.problems)
    leaks = [group for group in found.groups if len({seen.case.split for seen in group}) > 1]
    yield from _some("near-duplicates", [_names(group) for group in found.groups if group not in leaks])
    yield from _some("near-duplicates in several splits, so that figures are too good", [_names(group) for group in leaks])


def save_sheet(path: Path, found: Survey, *, max_pixels: int = images.MAX_PIXELS) -> None:
    """Writes a picture of good pairs, as many as fit, from first to last."""
    rows, across = SHEET
    places = np.unique(np.linspace(0, len(found.good) - 1, rows * across).astype(int))
    shown = [grids.fitted(image, THUMBNAIL) for place in places for image in _halves(found.good[place].case, max_pixels)]
    shown += [np.full_like(shown[0], grids.SHEET)] * (-len(shown) % (2 * across))
    lines = [shown[start : start + 2 * across] for start in range(0, len(shown), 2 * across)]
    grids.save_grid(path, lines, labels=["A", "B"] * across)


def _cases(root: Path) -> Iterator[Case]:
    for split, folders in folder.layout(root).items():
        found = [folder.by_stem(each) for each in folders]
        for stem in sorted(set().union(*found)):
            files = tuple(by_stem[stem] for by_stem in found if stem in by_stem)
            missing = [str(each) for each, by_stem in zip(folders, found, strict=True) if stem not in by_stem]
            yield Case(split, files, f"{files[0]}: has no partner in {missing[0]}" if missing else "")


def _look(case: Case, *, max_pixels: int) -> Seen:
    if case.problem:
        return Seen(case, case.problem)
    try:
        a, b = _halves(case, max_pixels)
    except (images.ImageError, folder.FolderError) as error:
        return Seen(case, str(error))
    if a.shape[:2] != b.shape[:2]:
        return Seen(case, f"{case.files[0]} is {_size(a)} but {case.files[1]} is {_size(b)}: must be of one size")
    return Seen(case, "", _size(a), (_kind(a), _kind(b)), (duplicates.difference_hash(a), duplicates.difference_hash(b)))


def _halves(case: Case, max_pixels: int) -> Sequence[np.ndarray]:
    """A and B. Raises ImageError or FolderError."""
    if len(case.files) == 2:
        return [outputs.pixels(file, max_pixels=max_pixels) for file in case.files]
    whole = outputs.pixels(case.files[0], max_pixels=max_pixels)
    half, odd = divmod(whole.shape[1], 2)
    if odd:
        raise folder.FolderError(f"{case.files[0]}: {images.odd_width(whole.shape[1])}")
    return [whole[:, :half], whole[:, half:]]


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _kind(image: np.ndarray) -> str:
    colour = {1: "grey", 3: "colour"}.get(image.shape[2], f"{image.shape[2]} channels")
    return f"{colour} of {8 * image.dtype.itemsize} bits"


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
