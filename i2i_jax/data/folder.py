"""Pairs from the user's own files: side-by-side images, two folders paired by name, or a list."""

import dataclasses
import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from i2i_jax.data import checks, concatenated, images, layouts, listing
from i2i_jax.data.image_header import Pixels
from i2i_jax.data.labels import OPTION, Labels
from i2i_jax.data.layouts import SPLITS, Listing, layout
from i2i_jax.data.listing import FolderError, by_stem, matched
from i2i_jax.data.pairs import Pair, Pairs, SideBySide, fingerprint_of
from i2i_jax.data.values import BY_TYPE, Scale
from i2i_jax.types import SampleType

__all__ = ["SPLITS", "FolderError", "Listing", "Named", "TwoFiles", "by_stem", "files", "layout", "matched", "named", "pairs", "split_used"]

Named = tuple[str, tuple[Path, ...]]  # the name and the files of a pair: one side-by-side file; or those of A, then that of B


@dataclasses.dataclass(frozen=True)
class TwoFiles:
    """Pairs stored as two files each, or several. Reading a pair raises ImageError if it cannot be used.

    Attributes:
        files: the files of the input and of the target of each pair. The channels of several are concatenated, see `concatenated.read`.
        names: the name of each pair.
        input_channels: see `images.read`.
        target_channels: see `images.read`.
        max_pixels: the most pixels an image may have.
        input_labels: how the classes of the inputs are stored, if they are label maps.
        fingerprint: as of `pairs.Fingerprinted`.
        input_scale: how the samples of the inputs are scaled.
        target_scale: likewise for the targets.
    """

    files: Sequence[tuple[tuple[Path, ...], tuple[Path, ...]]]
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
        inputs, _ = self.files[index]
        options: dict[str, Any] = {"channels": self.input_channels, "max_pixels": self.max_pixels}
        return images.size(inputs[0], labels=self.input_labels, **options) if len(inputs) == 1 else concatenated.size(inputs, **options)

    def file(self, index: int, /) -> str:
        return str(self.files[index][0][0])

    def region(self, index: int, rows: slice, columns: slice, /) -> Pair | None:
        opened = self._tiled(index)
        return None if opened is None else Pair(*(image[rows, columns] for image in opened))

    def check(self, index: int, /) -> None:
        if (opened := self._tiled(index)) is None:
            self[index]
            return
        images.check_same_size([files[0] for files in self.files[index]], opened)
        _ = [image.thinned for image in opened]

    def _tiled(self, index: int) -> list[images.Tiled | concatenated.Tiled] | None:
        """Input and target, if their regions can be read."""
        if self.input_labels:
            return None
        opened = []
        for files, side in zip(self.files[index], ("input", "target"), strict=True):
            options = self._options(side)
            if len(files) == 1:
                image = images.tiled(files[0], **options)
            else:
                image = concatenated.tiled(files, option=f"data.{side}_channels", **options)
            if image is None:
                return None
            opened.append(image)
        return opened

    def __getitem__(self, index: int, /) -> Pair:
        inputs, targets = self.files[index]
        pair = Pair(self._read(inputs, "input", self.input_labels), self._read(targets, "target"))
        images.check_same_size((inputs[0], targets[0]), pair)
        return pair

    def _read(self, files: tuple[Path, ...], side: str, side_labels: Labels | None = None) -> Pixels:
        options = self._options(side)
        if len(files) == 1:
            return images.read(files[0], labels=side_labels, **options)
        return concatenated.read(files, option=f"data.{side}_channels", **options)

    def _options(self, side: str) -> dict[str, Any]:
        """Options for reading the files of a side, input or target."""
        channels, scale = getattr(self, f"{side}_channels"), getattr(self, f"{side}_scale")
        return {"channels": channels, "scale": scale, "max_pixels": self.max_pixels}

    def target_type(self, index: int, /) -> SampleType:
        """As of `pairs.Typed`."""
        targets = self.files[index][1]
        return concatenated.sample_type(targets, scale=self.target_scale, max_pixels=self.max_pixels)

    def check_channels(self) -> None:
        """Raises ImageError if several files of the first pair do not have the number of channels that is needed."""
        for files, side, channels in zip(self.files[0], ("input", "target"), (self.input_channels, self.target_channels), strict=True):
            try:
                if len(files) > 1:
                    concatenated.file_channels(files, channels=channels, max_pixels=self.max_pixels, option=f"data.{side}_channels")
            except concatenated.ChannelsError:
                raise
            except images.ImageError:  # may be the only such pair
                return


def pairs(
    path: str | Path | Listing,
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
        path: the folder, or a list of pairs (.csv); or its Listing, if it has been listed already.
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
    source_listing = path if isinstance(path, Listing) else Listing(Path(path).expanduser())
    named_files = named(source_listing, split, val_fraction=val_fraction, held_out=held_out)[:max_pairs]
    names, pair_files = [name for name, _ in named_files], [files for _, files in named_files]
    options = direction, input_channels, target_channels, max_pixels
    labels = (input_labels,) if input_labels else ()
    scales = [tuple(scale) for scale in (input_scale, target_scale) if scale.low is not None]
    identity = ([[(str(file), *_stamp(file)) for file in pair] for pair in pair_files], options, *labels, *scales)
    fingerprint = fingerprint_of(identity)
    if len(pair_files[0]) == 1:
        load, own_scales = lambda i: pair_files[i][0], (input_scale, target_scale)
        source = SideBySide(len(names), load, names.__getitem__, *options, input_labels, fingerprint, *own_scales)
        return checks.usable(source, fingerprint=fingerprint, skip_bad=skip_bad)
    sides = [(pair[:-1], pair[-1:]) if direction == "AtoB" else (pair[-1:], pair[:-1]) for pair in pair_files]
    source = TwoFiles(sides, names, *options[1:], input_labels, fingerprint, input_scale, target_scale)
    if input_labels and (count := len(sides[0][0])) > 1:
        raise FolderError(f"{source_listing.root}: inputs have {count} files: {OPTION} reads one label map for each input")
    if not skip_bad:  # one line, in place of one for each pair
        source.check_channels()
    return checks.usable(source, fingerprint=fingerprint, skip_bad=skip_bad)


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


def files(root: Path | Listing, split: str, *, val_fraction: float, held_out: Collection[str] | None = None) -> list[tuple[Path, ...]]:
    """Returns the files of each pair of a split, by the rules of `pairs`; at least one pair. Raises FolderError."""
    return [files for _, files in named(root, split, val_fraction=val_fraction, held_out=held_out)]


def named(root: Path | Listing, split: str, *, val_fraction: float, held_out: Collection[str] | None = None) -> list[Named]:
    """Like `files`, with the name of each pair: the file's stem, or its path without extension if the files are in subfolders."""
    source = root if isinstance(root, Listing) else Listing(root)
    places = dict(source.layout)
    if split == "all":
        return [pair for each in places for pair in _listed(source, each)]
    if split not in SPLITS:
        raise FolderError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if held_out and _began_without_val(source, held_out):
        del places["val"]
    split = split_used(places, split, val_fraction)
    if split in places and (split != "train" or "val" in places or not val_fraction):
        return _listed(source, split)
    if "train" not in places:
        raise FolderError(f"{source.root}: has no {split} split and no train split, only {', '.join(places)}")
    train = _listed(source, "train")
    names = [name for name, _ in train]
    val_names = set(_held_out(names, val_fraction) if held_out is None else held_out).intersection(names)
    if split == "val" and not val_names:
        raise FolderError(f"{source.root}: has no val split, and {_why_no_val(len(train), val_fraction, held_out)}")
    return [pair for pair in train if (pair[0] in val_names) == (split == "val")]


def _listed(source: Listing, split: str) -> list[Named]:
    return list(listing.paired(source.sides(split)).items())


def _began_without_val(source: Listing, held_out: Collection[str]) -> bool:
    """Whether the run holds out none of the pairs in a folder named validation: it began before such folders were read."""
    places = source.layout
    if "val" not in places or not places["val"][0].is_dir() or not layouts.is_renamed(places["val"], source.root):
        return False
    return not any(name in held_out for name, _ in _listed(source, "val"))


def _why_no_val(train_count: int, val_fraction: float, held_out: Collection[str] | None) -> str:
    if held_out:
        return f"none of the {len(held_out)} pairs that the run holds out is there: put them back, or evaluate with --split=all"
    advice = "data.val_fraction=0 evaluates on the training pairs"
    return f"val_fraction {val_fraction} of {train_count} training pairs holds out none: {advice}"


def _held_out(names: list[str], fraction: float) -> list[str]:
    """A share of the names, at least one and never all, which depends on nothing but the names."""
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    return sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())[:count]
