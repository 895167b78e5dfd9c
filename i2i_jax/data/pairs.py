"""The interface of every source of pairs, and pairs stored side by side in one image."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from i2i_jax.data import images
from i2i_jax.data.labels import Labels
from i2i_jax.data.values import Scale
from i2i_jax.types import SampleType


class Pair(NamedTuple):
    """A decoded pair: `input` and `target` [h, w, c] in their original size; uint8, uint16 or floats in [-1, 1] (see `values.Scale`)."""

    input: np.ndarray
    target: np.ndarray


@runtime_checkable
class Pairs(Protocol):
    """A dataset: pairs by index, in an order that never changes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pair: ...

    def name(self, index: int, /) -> str:
        """Returns a name for file names and messages, unique within the dataset."""
        ...


@runtime_checkable
class Regions(Protocol):
    """Pairs whose sizes are read from the headers of their files, and of which regions can be read."""

    def size(self, index: int, /) -> tuple[int, int]:
        """Returns height and width of both images."""
        ...

    def file(self, index: int, /) -> str:
        """Returns the name of the pair's file, or of its input's, for messages."""
        ...

    def region(self, index: int, rows: slice, columns: slice, /) -> Pair | None:
        """Returns a region of both images, or None if they have to be decoded as a whole."""
        ...

    def check(self, index: int, /) -> None:
        """Decodes a pair once, in parts if possible. Raises ImageError if it cannot be used."""
        ...


def size_of(pairs: Pairs, index: int) -> tuple[int, int]:
    """Returns height and width of a pair's images. Raises ImageError."""
    if isinstance(pairs, Regions):
        return pairs.size(index)
    height, width = pairs[index].input.shape[:2]
    return height, width


def file_of(pairs: Pairs, index: int) -> str:
    """Returns the name of a pair's file, for messages."""
    return pairs.file(index) if isinstance(pairs, Regions) else pairs.name(index)


def region_of(pairs: Pairs, index: int, rows: slice, columns: slice) -> Pair | None:
    """Returns a region of a pair's images, or None if they have to be decoded as a whole. Raises ImageError."""
    return pairs.region(index, rows, columns) if isinstance(pairs, Regions) else None


@runtime_checkable
class Fingerprinted(Protocol):
    """Pairs whose pixels may be kept after the process ends.

    Attributes:
        fingerprint: text that changes whenever a pixel of a pair or the order of the pairs does; "" if unknown.
    """

    @property
    def fingerprint(self) -> str: ...


@runtime_checkable
class Typed(Protocol):
    """Pairs that know how their files store samples."""

    def target_type(self, index: int, /) -> SampleType:
        """Returns how the samples of a target are stored. Raises ImageError."""
        ...


def target_type(pairs: Pairs) -> SampleType:
    """Returns how the samples of the first target are stored; if the source does not know, by the bits of the first target."""
    return pairs.target_type(0) if isinstance(pairs, Typed) else SampleType(pairs[0].target.dtype.name)


def fingerprint_of(value: object) -> str:
    """Returns a SHA-256 of the representation of `value`, in hexadecimal."""
    return hashlib.sha256(repr(value).encode(errors="surrogateescape")).hexdigest()


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """Pairs stored as one image each, A in the left half and B in the right. Reading a pair raises ImageError if it cannot be used.

    Attributes:
        count: number of pairs.
        load: index to image file, a path or its content.
        name: index to name.
        direction: AtoB if A is the input, BtoA if B is.
        input_channels: see `images.read`.
        target_channels: see `images.read`.
        max_pixels: the most pixels an image may have, both halves together.
        input_labels: how the classes of the inputs are stored, if they are label maps.
        fingerprint: as of `Fingerprinted`.
        input_scale: how the samples of the inputs are scaled.
        target_scale: likewise for the targets.
    """

    count: int
    load: Callable[[int], Path | bytes]
    name: Callable[[int], str]
    direction: str = "AtoB"
    input_channels: int = 3
    target_channels: int = 3
    max_pixels: int = images.MAX_PIXELS
    input_labels: Labels | None = None
    fingerprint: str = ""
    input_scale: Scale = Scale()
    target_scale: Scale = Scale()

    def __len__(self) -> int:
        return self.count

    @property
    def _channels(self) -> tuple[int, int]:
        """Channels of A and B."""
        a_is_input = self.direction == "AtoB"
        return (self.input_channels, self.target_channels) if a_is_input else (self.target_channels, self.input_channels)

    @property
    def _scales(self) -> tuple[Scale, Scale]:
        """Scales of A and B."""
        return (self.input_scale, self.target_scale) if self.direction == "AtoB" else (self.target_scale, self.input_scale)

    def size(self, index: int, /) -> tuple[int, int]:
        channels = self.target_channels if self.input_labels else self.input_channels
        height, width = images.size(self.load(index), channels=channels, max_pixels=self.max_pixels, name=self.name(index))
        return height, width // 2

    def file(self, index: int, /) -> str:
        source = self.load(index)
        return self.name(index) if isinstance(source, bytes) else str(source)

    def region(self, index: int, rows: slice, columns: slice, /) -> Pair | None:
        if (halves := self._tiled(index)) is None:
            return None
        half = halves[0].shape[1] // 2
        a, b = halves[0][rows, columns], halves[1][rows, slice(columns.start + half, columns.stop + half)]
        return Pair(a, b) if self.direction == "AtoB" else Pair(b, a)

    def check(self, index: int, /) -> None:
        halves = self._tiled(index)
        if halves is None or halves[0].shape[1] % 2:
            self[index]
        else:
            _ = [whole.thinned for whole in halves]

    def _tiled(self, index: int) -> list[images.Tiled] | None:
        """The file with the channels of A, and with those of B, if its regions can be read."""
        source = self.load(index)
        if isinstance(source, bytes) or self.input_labels:
            return None
        return images.all_tiled([source, source], channels=self._channels, scales=self._scales, max_pixels=self.max_pixels)

    def target_type(self, index: int, /) -> SampleType:
        """As of `Typed`."""
        return images.sample_type(self.load(index), max_pixels=self.max_pixels, name=self.name(index))

    def __getitem__(self, index: int, /) -> Pair:
        a_is_input = self.direction == "AtoB"
        channels = self._channels
        labels = (self.input_labels, None) if a_is_input else (None, self.input_labels)
        options = {"max_pixels": self.max_pixels, "name": self.name(index), "labels": labels, "scales": self._scales}
        a, b = images.read_halves(self.load(index), channels=channels, **options)
        return Pair(a, b) if a_is_input else Pair(b, a)
