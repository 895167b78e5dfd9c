"""Pairs from the user's own files: side by side, or in two folders paired by name."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

from i2i_jax.data import checks, images
from i2i_jax.data.pairs import Pair, Pairs, SideBySide

SPLITS = ("train", "val", "test")
SHOWN = 3  # names in an error message


class FolderError(ValueError):
    """A folder that is no set of pairs: one line that names it, what was found and what would do."""


@dataclasses.dataclass(frozen=True)
class TwoFiles:
    """Pairs kept as two files each, `files[i]` being input and target. Reading a pair raises ImageError."""

    files: Sequence[tuple[Path, ...]]
    input_channels: int
    target_channels: int
    max_pixels: int

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int, /) -> str:
        return self.files[index][0].stem

    def __getitem__(self, index: int, /) -> Pair:
        files, channels = self.files[index], (self.input_channels, self.target_channels)
        read = [images.read(file, channels=c, max_pixels=self.max_pixels) for file, c in zip(files, channels, strict=True)]
        if read[0].shape[:2] != read[1].shape[:2]:
            found = " but ".join(f"{file} is {x.shape[1]}x{x.shape[0]}" for file, x in zip(files, read, strict=True))
            raise images.ImageError(f"{found}: must be of one size")
        return Pair(*read)


def pairs(
    path: str | Path,
    split: str,
    *,
    direction: str = "AtoB",
    input_channels: int = 3,
    target_channels: int = 3,
    val_fraction: float = 0.1,
    held_out: Collection[str] | None = None,
    max_pairs: int | None = None,
    max_pixels: int = images.MAX_PIXELS,
    skip_bad: bool = False,
) -> Pairs:
    """The pairs of `split` (train, val, test or all) under `path`, by name, at most `max_pairs` of them, all of which can be read.

    Layouts, each folder optional but one: `train/ val/ test/` of side-by-side files (A left, B right), or such files in `path`
    itself; `trainA/ trainB/ valA/ ...`, `A/train/ B/train/ A/val/ ...` or `A/ B/`, where files of one stem make a pair.
    Without a val split the names `held_out` of train are it, or `val_fraction` of train (the same for the same names), or where
    that is 0 the train split is it too; without a test split the val split is it.
    Raises FolderError, and ImageError for all pairs that cannot be read; with `skip_bad` these are left out.
    """
    root = Path(path).expanduser()
    found = files(root, split, val_fraction=val_fraction, held_out=held_out)[:max_pairs]
    reading = direction, input_channels, target_channels, max_pixels
    if len(found[0]) == 2:
        read = TwoFiles([pair if direction == "AtoB" else pair[::-1] for pair in found], *reading[1:])
    else:
        read = SideBySide(len(found), lambda i: found[i][0], lambda i: found[i][0].stem, *reading)
    stamps = [[(str(file), *_stamp(file)) for file in pair] for pair in found]
    return checks.usable(read, fingerprint=(stamps, reading), skip_bad=skip_bad)


def _stamp(file: Path) -> tuple[int, ...]:
    """What changes when the file does, or who may read it."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def layout(root: Path) -> dict[str, tuple[Path, ...]]:
    """Splits that there are: the folder of side-by-side files, or those of A and of B."""
    if not root.is_dir():
        raise FolderError(f"{root}: no such folder")
    layouts = (
        {split: (root / f"{split}A", root / f"{split}B") for split in SPLITS},
        {split: (root / "A" / split, root / "B" / split) for split in SPLITS},
        {"train": (root / "A", root / "B")},
        {split: (root / split,) for split in SPLITS},
    )
    for layout in layouts:
        present = {split: folders for split, folders in layout.items() if any(folder.is_dir() for folder in folders)}
        if missing := [folder for folders in present.values() for folder in folders if not folder.is_dir()]:
            raise FolderError(f"{missing[0]}: no such folder, though its other half is there")
        if present:
            return present
    return {"train": (root,)}


def split_used(layout: dict[str, tuple[Path, ...]], split: str, val_fraction: float) -> str:
    """The split that stands for `split`: val for a test split that there is not, train for val where nothing is held out."""
    if split == "test" and "test" not in layout:
        split = "val"
    return "train" if split == "val" and "val" not in layout and not val_fraction else split


def files(root: Path, split: str, *, val_fraction: float, held_out: Collection[str] | None = None) -> list[tuple[Path, ...]]:
    """The files of a split's pairs, as `pairs` chooses them; never empty. Raises FolderError."""
    found = layout(root)
    if split == "all":
        return [pair for folders in found.values() for pair in matched(folders)]
    if split not in SPLITS:
        raise FolderError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    split = split_used(found, split, val_fraction)
    if split in found and (split != "train" or "val" in found or not val_fraction):
        return matched(found[split])
    if "train" not in found:
        raise FolderError(f"{root}: has no {split} split and no train split, only {', '.join(found)}")
    train = matched(found["train"])
    stems = [files[0].stem for files in train]
    apart = set(_held_out(stems, val_fraction) if held_out is None else held_out).intersection(stems)
    if split == "val" and not apart:
        why = f"val_fraction {val_fraction} of {len(train)} training pairs holds out none: 0 measures on these"
        gone = f"none of the {len(held_out or ())} pairs that the run holds out is there: put them back, or evaluate with --split=all"
        raise FolderError(f"{root}: has no val split, and {gone if held_out else why}")
    return [files for files in train if (files[0].stem in apart) == (split == "val")]


def _held_out(stems: list[str], fraction: float) -> list[str]:
    """A share of the names, at least one and never all; which ones depends on nothing but the names."""
    count = min(max(1, round(fraction * len(stems))), len(stems) - 1)
    return sorted(stems, key=lambda stem: hashlib.sha256(os.fsencode(stem)).digest())[:count]


def matched(folders: tuple[Path, ...]) -> list[tuple[Path, ...]]:
    """Files of the same stem, one of each folder."""
    found = [by_stem(folder) for folder in folders]
    stems = set.union(*map(set, found))
    unpaired = sorted(stem for stem in stems if not all(stem in files for files in found))
    if unpaired:
        where = " and ".join(map(str, folders))
        alike = len({unicodedata.normalize("NFC", stem).casefold() for stem in unpaired}) < len(unpaired)
        hint = ": some differ in upper and lower case or in Unicode's form only" if alike else ""
        raise FolderError(f"{where}: {_some(unpaired)} in one folder only ({len(unpaired)} of {len(stems)} names){hint}")
    return [tuple(files[stem] for files in found) for stem in sorted(stems)]


def by_stem(folder: Path) -> dict[str, Path]:
    """Stem to image file; hidden and other files are ignored. Raises FolderError where there is none, or two of a stem."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in images.EXTENSIONS and not f.name.startswith(".")]
    if not files:
        raise FolderError(f"{folder}: has no image files ({', '.join(images.EXTENSIONS)})")
    found = {file.stem: file for file in sorted(files)}
    if len(found) < len(files):
        twice = sorted({file.stem for file in files if found[file.stem] != file})
        raise FolderError(f"{folder}: {_some(twice)} there more than once, with different extensions ({len(twice)} names)")
    return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more
