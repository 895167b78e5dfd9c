"""The interface of every source of pairs, and pairs stored side by side in one image."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from i2i_jax.data import images
from i2i_jax.data.labels import Labels


class Pair(NamedTuple):
    """A decoded pair: `input` and `target`, uint8 or uint16 [h, w, c], in their original size."""

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
class Fingerprinted(Protocol):
    """Pairs whose pixels may be kept after the process ends.

    Attributes:
        fingerprint: text that changes whenever a pixel of a pair or the order of the pairs does; "" if unknown.
    """

    @property
    def fingerprint(self) -> str: ...


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

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Pair:
        a_is_input = self.direction == "AtoB"
        channels = (self.input_channels, self.target_channels) if a_is_input else (self.target_channels, self.input_channels)
        labels = (self.input_labels, None) if a_is_input else (None, self.input_labels)
        a, b = images.read_halves(self.load(index), channels=channels, max_pixels=self.max_pixels, name=self.name(index), labels=labels)
        return Pair(a, b) if a_is_input else Pair(b, a)
