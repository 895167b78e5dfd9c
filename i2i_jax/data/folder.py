"""Pairs from the user's own files: side-by-side images, or two folders paired by name."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

from i2i_jax.data import checks, images
from i2i_jax.data.pairs import Pair, Pairs, SideBySide, fingerprint_of

SPLITS = ("train", "val", "test")
SHOWN = 3  # names in an error message


class FolderError(ValueError):
    """A folder that does not hold pairs: one line that names it, what was found and what is needed."""


@dataclasses.dataclass(frozen=True)
class TwoFiles:
    """Pairs stored as two files each. Reading a pair raises ImageError if it cannot be used.

    Attributes:
      files: input and target of each pair.
      input_channels: see `images.read`.
      target_channels: see `images.read`.
      max_pixels: the most pixels an image may have.
      fingerprint: as of `pairs.Fingerprinted`.
    """

    files: Sequence[tuple[Path, ...]]
    input_channels: int
    target_channels: int
    max_pixels: int
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int, /) -> str:
        return self.files[index][0].stem

    def __getitem__(self, index: int, /) -> Pair:
        files, channels = self.files[index], (self.input_channels, self.target_channels)
        pair = Pair(*(images.read(file, channels=c, max_pixels=self.max_pixels) for file, c in zip(files, channels, strict=True)))
        images.check_same_size(files, pair)
        return pair


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
    """Returns the pairs of a split in the order of their names, after reading all of them once.

    The folder has one of these layouts, in which every split is optional:

    - `train/ val/ test/` with side-by-side files (A left, B right), or such files in `path` itself;
    - `trainA/ trainB/ valA/ ...`, `A/train/ B/train/ A/val/ ...` or `A/ B/`, where files of the same stem make a pair.

    Without a test split, the val split is returned for test. Without a val split, a part of train is held out for it.

    Args:
      path: the folder.
      split: train, val, test or all.
      direction: AtoB or BtoA, from input to target.
      input_channels: 1 for grey, 3 for RGB, or the number of channels in the files.
      target_channels: likewise.
      val_fraction: share of train to hold out without a val split, in [0, 1]; which pairs depends on their names only. With 0,
        train is returned for val.
      held_out: the names of the pairs to hold out, in place of `val_fraction`.
      max_pairs: return only the first pairs, at most so many; None returns all.
      max_pixels: the most pixels an image may have.
      skip_bad: leave out pairs that cannot be read, with a warning.

    Raises:
      FolderError: if the folder does not hold such pairs.
      ImageError: names all pairs that cannot be read; with `skip_bad`, only if there are no others.
    """
    root = Path(path).expanduser()
    pair_files = files(root, split, val_fraction=val_fraction, held_out=held_out)[:max_pairs]
    options = direction, input_channels, target_channels, max_pixels
    identity = [[(str(file), *_stamp(file)) for file in pair] for pair in pair_files], options
    fingerprint = fingerprint_of(identity)
    if len(pair_files[0]) == 2:
        source = TwoFiles([pair if direction == "AtoB" else pair[::-1] for pair in pair_files], *options[1:], fingerprint)
    else:
        source = SideBySide(len(pair_files), lambda i: pair_files[i][0], lambda i: pair_files[i][0].stem, *options, fingerprint)
    return checks.usable(source, fingerprint=identity, skip_bad=skip_bad)


def _stamp(file: Path) -> tuple[int, ...]:
    """Numbers that change when the file or its permissions do."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def layout(root: Path) -> dict[str, tuple[Path, ...]]:
    """Returns the folders of each split in `root`: one folder of side-by-side files, or those of A and B.

    Raises:
      FolderError: if `root` does not exist, or only one of the folders A and B.
    """
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
        if incomplete := [folders for folders in present.values() if not all(folder.is_dir() for folder in folders)]:
            missing, partner = sorted(incomplete[0], key=Path.is_dir)
            raise FolderError(f"{missing}: no such folder, though {partner} exists")
        if present:
            return present
    return {"train": (root,)}


def split_used(layout: dict[str, tuple[Path, ...]], split: str, val_fraction: float) -> str:
    """Returns the split that is used for `split`: val if there is no test split, train for val if nothing is held out.

    Args:
      layout: the folders of each split, as `layout` returns them.
      split: train, val or test.
      val_fraction: as in `pairs`.
    """
    if split == "test" and "test" not in layout:
        split = "val"
    return "train" if split == "val" and "val" not in layout and not val_fraction else split


def files(root: Path, split: str, *, val_fraction: float, held_out: Collection[str] | None = None) -> list[tuple[Path, ...]]:
    """Returns the files of each pair of a split, by the rules of `pairs`; at least one pair. Raises FolderError."""
    folders_of_split = layout(root)
    if split == "all":
        return [pair for folders in folders_of_split.values() for pair in matched(folders)]
    if split not in SPLITS:
        raise FolderError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    split = split_used(folders_of_split, split, val_fraction)
    if split in folders_of_split and (split != "train" or "val" in folders_of_split or not val_fraction):
        return matched(folders_of_split[split])
    if "train" not in folders_of_split:
        raise FolderError(f"{root}: has no {split} split and no train split, only {', '.join(folders_of_split)}")
    train = matched(folders_of_split["train"])
    stems = [files[0].stem for files in train]
    val_stems = set(_held_out(stems, val_fraction) if held_out is None else held_out).intersection(stems)
    if split == "val" and not val_stems:
        raise FolderError(f"{root}: has no val split, and {_why_no_val(len(train), val_fraction, held_out)}")
    return [files for files in train if (files[0].stem in val_stems) == (split == "val")]


def _why_no_val(train_count: int, val_fraction: float, held_out: Collection[str] | None) -> str:
    if held_out:
        return f"none of the {len(held_out)} pairs that the run holds out is there: put them back, or evaluate with --split=all"
    advice = "data.val_fraction=0 evaluates on the training pairs"
    return f"val_fraction {val_fraction} of {train_count} training pairs holds out none: {advice}"


def _held_out(stems: list[str], fraction: float) -> list[str]:
    """A share of the names, at least one and never all, which depends on nothing but the names."""
    count = min(max(1, round(fraction * len(stems))), len(stems) - 1)
    return sorted(stems, key=lambda stem: hashlib.sha256(os.fsencode(stem)).digest())[:count]


def matched(folders: tuple[Path, ...]) -> list[tuple[Path, ...]]:
    """Returns the files of each stem, one from each folder, sorted by stem. Raises FolderError if a stem is not in all folders."""
    files_by_stem = [by_stem(folder) for folder in folders]
    stems = set.union(*map(set, files_by_stem))
    unpaired = sorted(stem for stem in stems if not all(stem in files for files in files_by_stem))
    if unpaired:
        where = " and ".join(map(str, folders))
        alike = len({unicodedata.normalize("NFC", stem).casefold() for stem in unpaired}) < len(unpaired)
        hint = ": some names differ only in case or in Unicode normalization" if alike else ""
        raise FolderError(f"{where}: {_some(unpaired)} in one folder only ({len(unpaired)} of {len(stems)} names){hint}")
    return [tuple(files[stem] for files in files_by_stem) for stem in sorted(stems)]


def by_stem(folder: Path) -> dict[str, Path]:
    """Returns the image files of a folder by stem; hidden and other files are ignored.

    Raises:
      FolderError: if there are none, or two with the same stem.
    """
    files = [f for f in folder.iterdir() if f.suffix.lower() in images.EXTENSIONS and not f.name.startswith(".")]
    if not files:
        raise FolderError(f"{folder}: has no image files ({', '.join(images.EXTENSIONS)})")
    file_by_stem = {file.stem: file for file in sorted(files)}
    if len(file_by_stem) < len(files):
        repeated = sorted({file.stem for file in files if file_by_stem[file.stem] != file})
        raise FolderError(f"{folder}: {_some(repeated)} found more than once, with different extensions ({len(repeated)} names)")
    return file_by_stem


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more
