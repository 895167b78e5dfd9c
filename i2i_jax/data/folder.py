"""Pairs from the user's own files: side-by-side images, two folders paired by name, or a list."""

import dataclasses
import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from i2i_jax.data import checks, images, layouts, listing
from i2i_jax.data.labels import Labels
from i2i_jax.data.layouts import SPLITS, layout
from i2i_jax.data.listing import FolderError, by_stem, matched
from i2i_jax.data.pairs import Pair, Pairs, SideBySide, fingerprint_of
from i2i_jax.data.values import BY_TYPE, Scale
from i2i_jax.types import SampleType

__all__ = ["SPLITS", "FolderError", "Named", "TwoFiles", "by_stem", "files", "layout", "matched", "named", "pairs", "split_used"]

Named = tuple[str, tuple[Path, ...]]  # the name and the files of a pair


@dataclasses.dataclass(frozen=True)
class TwoFiles:
    """Pairs stored as two files each. Reading a pair raises ImageError if it cannot be used.

    Attributes:
        files: input and target of each pair.
        names: the name of each pair.
        input_channels: see `images.read`.
        target_channels: see `images.read`.
        max_pixels: the most pixels an image may have.
        input_labels: how the classes of the inputs are stored, if they are label maps.
        fingerprint: as of `pairs.Fingerprinted`.
        input_scale: how the samples of the inputs are scaled.
        target_scale: likewise for the targets.
    """

    files: Sequence[tuple[Path, ...]]
    names: Sequence[str]
    input_channels: int
    target_channels: int
    max_pixels: int
    input_labels: Labels | None = None
    fingerprint: str = ""
    input_scale: Scale = BY_TYPE
    target_scale: Scale = BY_TYPE

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int, /) -> str:
        return self.names[index]

    def size(self, index: int, /) -> tuple[int, int]:
        options = {"max_pixels": self.max_pixels, "labels": self.input_labels}
        return images.size(self.files[index][0], channels=self.input_channels, **options)

    def file(self, index: int, /) -> str:
        return str(self.files[index][0])

    def region(self, index: int, rows: slice, columns: slice, /) -> Pair | None:
        opened = self._tiled(index)
        return None if opened is None else Pair(*(image[rows, columns] for image in opened))

    def check(self, index: int, /) -> None:
        if (opened := self._tiled(index)) is None:
            self[index]
            return
        images.check_same_size(self.files[index], opened)
        _ = [image.thinned for image in opened]

    def _tiled(self, index: int) -> list[images.Tiled] | None:
        """Input and target, if their regions can be read."""
        if self.input_labels:
            return None
        channels = self.input_channels, self.target_channels
        scales = self.input_scale, self.target_scale
        return images.all_tiled(self.files[index], channels=channels, scales=scales, max_pixels=self.max_pixels)

    def __getitem__(self, index: int, /) -> Pair:
        files, max_pixels = self.files[index], self.max_pixels
        image = images.read(files[0], channels=self.input_channels, max_pixels=max_pixels, labels=self.input_labels, scale=self.input_scale)
        pair = Pair(image, images.read(files[1], channels=self.target_channels, max_pixels=max_pixels, scale=self.target_scale))
        images.check_same_size(files, pair)
        return pair

    def target_type(self, index: int, /) -> SampleType:
        """As of `pairs.Typed`."""
        return images.sample_type(self.files[index][-1], max_pixels=self.max_pixels)


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
    input_labels: Labels | None = None,
    input_scale: Scale = BY_TYPE,
    target_scale: Scale = BY_TYPE,
) -> Pairs:
    """Returns the pairs of a split in the order of their names, after reading all of them once.

    The folder has one of these layouts, in which every split is optional:

    - `trainA/ trainB/ valA/ ...`, `A/train/ B/train/ A/val/ ...`, `A/ B/`, `train_A/ train_B/ val_A/ ...` or
      `train/A/ train/B/ val/A/ ...`, where files of the same stem make a pair;
    - `train/ val/ test/` with side-by-side files (A left, B right), or such files in `path` itself;
    - the same, with pairs of files NAME_A and NAME_B;
    - a list `pairs.csv` with the columns input, target and, optionally, split; or `path` is such a list.

    A val split may also be called validation. Images may be in subfolders of the folders of a split; they are paired by relative path.

    Without a test split, the val split is returned for test. Without a val split, a part of train is held out for it.

    Args:
        path: the folder, or a list of pairs (.csv).
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
        input_labels: how the classes of the inputs are stored, if they are label maps.
        input_scale: how the samples of the inputs are scaled.
        target_scale: likewise for the targets.

    Raises:
        FolderError: if the folder does not hold such pairs.
        ImageError: names all pairs that cannot be read; with `skip_bad`, only if there are no others.
    """
    root = Path(path).expanduser()
    named_files = named(root, split, val_fraction=val_fraction, held_out=held_out)[:max_pairs]
    names, pair_files = [name for name, _ in named_files], [files for _, files in named_files]
    options = direction, input_channels, target_channels, max_pixels
    labels = (input_labels,) if input_labels else ()
    scales = [tuple(scale) for scale in (input_scale, target_scale) if scale.low is not None]
    identity = ([[(str(file), *_stamp(file)) for file in pair] for pair in pair_files], options, *labels, *scales)
    fingerprint = fingerprint_of(identity)
    if len(pair_files[0]) == 2:
        sorted_files = [pair if direction == "AtoB" else pair[::-1] for pair in pair_files]
        source = TwoFiles(sorted_files, names, *options[1:], input_labels, fingerprint, input_scale, target_scale)
    else:
        load, scales = lambda i: pair_files[i][0], (input_scale, target_scale)
        source = SideBySide(len(names), load, names.__getitem__, *options, input_labels, fingerprint, *scales)
    return checks.usable(source, fingerprint=identity, skip_bad=skip_bad)


def _stamp(file: Path) -> tuple[int, ...]:
    """Numbers that change when the file or its permissions do."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


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
    return [files for _, files in named(root, split, val_fraction=val_fraction, held_out=held_out)]


def named(root: Path, split: str, *, val_fraction: float, held_out: Collection[str] | None = None) -> list[Named]:
    """Like `files`, with the name of each pair: the file's stem, or its path without extension if the files are in subfolders."""
    places = layout(root)
    if split == "all":
        return [pair for each in places for pair in _listed(places, each)]
    if split not in SPLITS:
        raise FolderError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if held_out and _began_without_val(places, root, held_out):
        del places["val"]
    split = split_used(places, split, val_fraction)
    if split in places and (split != "train" or "val" in places or not val_fraction):
        return _listed(places, split)
    if "train" not in places:
        raise FolderError(f"{root}: has no {split} split and no train split, only {', '.join(places)}")
    train = _listed(places, "train")
    names = [name for name, _ in train]
    val_names = set(_held_out(names, val_fraction) if held_out is None else held_out).intersection(names)
    if split == "val" and not val_names:
        raise FolderError(f"{root}: has no val split, and {_why_no_val(len(train), val_fraction, held_out)}")
    return [pair for pair in train if (pair[0] in val_names) == (split == "val")]


def _listed(places: layouts.Layout, split: str) -> list[Named]:
    return list(listing.paired(layouts.sides(split, places[split])).items())


def _began_without_val(places: layouts.Layout, root: Path, held_out: Collection[str]) -> bool:
    """Whether the run holds out none of the pairs in a folder named validation: it began before such folders were read."""
    if "val" not in places or not places["val"][0].is_dir() or not layouts.is_renamed(places["val"], root):
        return False
    return not any(name in held_out for name, _ in _listed(places, "val"))


def _why_no_val(train_count: int, val_fraction: float, held_out: Collection[str] | None) -> str:
    if held_out:
        return f"none of the {len(held_out)} pairs that the run holds out is there: put them back, or evaluate with --split=all"
    advice = "data.val_fraction=0 evaluates on the training pairs"
    return f"val_fraction {val_fraction} of {train_count} training pairs holds out none: {advice}"


def _held_out(names: list[str], fraction: float) -> list[str]:
    """A share of the names, at least one and never all, which depends on nothing but the names."""
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    return sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())[:count]
