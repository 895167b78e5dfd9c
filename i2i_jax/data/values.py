"""The values of images: which types of samples are read, and how their range is scaled to [-1, 1] and back."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Num, Shaped, UInt8, UInt16

from i2i_jax.config import DataConfig, value_range
from i2i_jax.data.image_header import Unusable
from i2i_jax.pages import grids

TYPES = ("uint8", "uint16", "int16", "float32")  # of samples, as they are read
FLOATS = ("float16", "float32", "float64")  # in files; read as float32
ALLOWED = "must be uint8, uint16, int16, float16, float32 or float64"
ROWS = 256  # scaled at a time: bounds the memory of intermediate float64 arrays

Counts = dict[str, tuple[int, int]]  # option=LOW,HIGH -> (values outside, all values)

_counts: contextvars.ContextVar[Counts | None] = contextvars.ContextVar("counts", default=None)


class Scale(NamedTuple):
    """How the samples of one side are scaled.

    Scaled samples are uint8 or uint16, whose whole range stands for [-1, 1], or float32 in [-1, 1]; `augment.scale` takes all three.

    Attributes:
        low: the value that becomes -1, in the files' units; None: by the type of the samples, which must be integers.
        high: the value that becomes 1.
        option: the option that sets the range, for messages.
    """

    low: float | None = None
    high: float | None = None
    option: str = ""

    def __str__(self) -> str:
        return self.option + ("" if self.low is None or self.high is None else f"={number(self.low)},{number(self.high)}")

    def applied(self, pixels: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Scales samples of one of TYPES. Values outside the range are clipped to it, and counted (see `counting`).

        Raises:
            Unusable: for floats without a range.
        """
        if self.low is None or self.high is None:
            self.refuse_unknown_range(pixels)
            return (pixels.astype(np.int32) + 2**15).astype(np.uint16) if pixels.dtype == np.int16 else pixels
        low, span = self.low, self.high - self.low
        self._count(pixels)
        if pixels.dtype.kind == "f" or (span > 2**15 and span != 65535):
            return _by_rows(pixels, lambda rows: np.clip((rows - low) * (2 / span) - 1, -1, 1), np.float32)
        # 16 bits distinguish the integers of such a range well, and take half the memory of floats.
        return _by_rows(pixels, lambda rows: np.clip(np.rint((rows - low) * (65535 / span)), 0, 65535), np.uint16)

    def restored(self, images: Float[ArrayLike, "..."], dtype: str) -> Shaped[np.ndarray, "..."]:
        """Converts images in [-1, 1] to samples of one of TYPES in the files' units: clipped, and rounded if they are integers."""
        images = np.asarray(images, np.float32)
        if self.low is None or self.high is None:
            if dtype == "int16":
                return (to_uint16(images).astype(np.int32) - 2**15).astype(np.int16)
            return to_uint16(images) if dtype == "uint16" else to_uint8(images) if dtype == "uint8" else images
        values = np.clip((images.astype(np.float64) + 1) * ((self.high - self.low) / 2) + self.low, self.low, self.high)
        if dtype == "float32":
            return values.astype(np.float32)
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)

    def outside(self, pixels: Shaped[np.ndarray, "..."]) -> int:
        """How many values are outside the range; 0 without a range."""
        if self.low is None or self.high is None:
            return 0
        return int(np.count_nonzero(pixels < self.low) + np.count_nonzero(pixels > self.high))

    def _count(self, pixels: np.ndarray) -> None:
        counts = _counts.get()
        if counts is not None and (outside := self.outside(pixels)):
            before, size = counts.get(str(self), (0, 0))
            counts[str(self)] = before + outside, size + pixels.size

    def refuse_unknown_range(self, pixels: np.ndarray) -> None:
        """Raises Unusable for floats without a range."""
        if self.low is not None or pixels.dtype.kind != "f":
            return
        what = f"has floats from {number(float(pixels.min()))} to {number(float(pixels.max()))}"
        if not self.option:
            raise Unusable(f"{what}: must be integers")
        raise Unusable(f"{what}: set {self.option}=LOW,HIGH in the files' units (`i2i check` prints the range of all)")


BY_TYPE = Scale()


def of_config(data: DataConfig, side: Literal["input", "target"]) -> Scale:
    """Returns the Scale that `data.input_range` or `data.target_range` describes. Raises ConfigError if it is not valid."""
    name = f"data.{side}_range"
    limits = value_range(name, getattr(data, f"{side}_range"))
    return Scale(None, None, name) if limits is None else Scale(*limits, name)


def checked(pixels: np.ndarray) -> Num[np.ndarray, "..."]:
    """Returns samples as one of TYPES. Raises Unusable for other types, and for NaN and Inf."""
    if pixels.dtype.name in FLOATS:
        with np.errstate(over="ignore"):  # too large for float32: Inf
            pixels = pixels.astype(np.float32, copy=False)
        if bad := pixels.size - int(np.count_nonzero(np.isfinite(pixels))):
            raise Unusable(f"has {bad} NaN or Inf among its {pixels.size} values: must be finite numbers")
    if pixels.dtype.name not in TYPES:
        raise Unusable(f"has {pixels.dtype} samples: {ALLOWED}")
    return pixels


def clipped(counts: Counts) -> Iterator[str]:
    """Yields a warning for each range that values were outside of."""
    for limits, (outside, size) in counts.items():
        yield f"images have values outside {limits} ({outside} of {size}): they are clipped to the range"


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Counts the values that this thread clips inside the block: by range, those outside and all of the images that have such values."""
    counts: Counts = {}
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)


def to_uint8(images: Float[ArrayLike, "..."]) -> UInt8[np.ndarray, "..."]:
    """Converts [-1, 1] to uint8 on the host, rounded and clipped."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def to_uint16(images: Float[ArrayLike, "..."]) -> UInt16[np.ndarray, "..."]:
    """Converts [-1, 1] to uint16 on the host, rounded and clipped."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 32767.5), 0, 65535).astype(np.uint16)


def to_floats(scaled: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Converts samples that `Scale.applied` returned to floats in [-1, 1]."""
    return scaled if scaled.dtype.kind == "f" else scaled.astype(np.float32) / np.float32(np.iinfo(scaled.dtype).max / 2) - 1


def widened(images: Sequence[Shaped[np.ndarray, "..."]]) -> Sequence[Shaped[np.ndarray, "..."]]:
    """Converts images that `Scale.applied` returned to one type: floats if one of them has floats, else 16 bits if one has 16."""
    if len({image.dtype for image in images}) == 1:
        return images
    if any(image.dtype.kind == "f" for image in images):
        return [to_floats(image) for image in images]
    return [image if image.dtype == np.uint16 else image.astype(np.uint16) * 257 for image in images]


def to_8_bits(scaled: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Converts samples that `Scale.applied` returned to uint8, for display."""
    return to_uint8(scaled) if scaled.dtype.kind == "f" else grids.to_8_bits(scaled)


def number(value: float) -> str:
    """A number for messages, with as many digits as float32 has."""
    return str(round(value)) if value == round(value) and abs(value) < 2**31 else f"{value:.7g}"


def _by_rows(pixels: np.ndarray, convert, dtype: type) -> np.ndarray:
    converted = np.empty(pixels.shape, dtype)
    for start in range(0, len(pixels), ROWS):
        converted[start : start + ROWS] = convert(pixels[start : start + ROWS].astype(np.float64))
    return converted
