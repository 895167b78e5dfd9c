"""What every source of pairs offers, and pairs kept side by side in one image."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from i2i_jax.data import images


class Pair(NamedTuple):
    """Decoded `input` and `target`: uint8 or uint16 [h, w, c], in their original size."""

    input: np.ndarray
    target: np.ndarray


@runtime_checkable
class Pairs(Protocol):
    """Pairs by their position; the order is always the same."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pair: ...

    def name(self, index: int, /) -> str:
        """Names the pair in file names and messages; unique within the set."""
        ...


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """Pairs kept as one image each, A in the left half and B in the right.

    `load(i)` returns image i as a path or as encoded bytes. Reading a pair raises ImageError.
    """

    count: int
    load: Callable[[int], Path | bytes]
    name: Callable[[int], str]
    direction: str = "AtoB"
    input_channels: int = 3
    target_channels: int = 3
    max_pixels: int = images.MAX_PIXELS

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Pair:
        a_is_input = self.direction == "AtoB"
        channels = (self.input_channels, self.target_channels) if a_is_input else (self.target_channels, self.input_channels)
        a, b = images.read_halves(self.load(index), channels=channels, max_pixels=self.max_pixels, name=self.name(index))
        return Pair(a, b) if a_is_input else Pair(b, a)
