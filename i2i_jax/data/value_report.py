"""What `check` says about the values of one side of the pairs: type, range, histogram, and the option that would use the range better."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from i2i_jax.data.values import Scale, number

DARK = 0.25  # of the range: a side that uses no more than this is reported
BINS, PARTS = 64, 8  # of an image, and of the report
OPTIONS = {"A": ("data.input_range", "data.target_range"), "B": ("data.target_range", "data.input_range")}  # AtoB, BtoA
LIMITS = {name: (float(np.iinfo(name).min), float(np.iinfo(name).max)) for name in ("uint8", "uint16", "int16")}


class Spread(NamedTuple):
    """The values of one image.

    Attributes:
        dtype: the type of its samples.
        low: the smallest value.
        high: the largest value.
        counts: how many values are in each of BINS equal parts from the smallest to the largest.
        outside: how many are outside the range that was asked about.
    """

    dtype: str
    low: float
    high: float
    counts: Int[np.ndarray, " bins"]
    outside: int = 0

    @property
    def end(self) -> float:
        """The upper end of the last part: that of an integer includes the integer."""
        return self.high + 1 if self.dtype in LIMITS else self.high


def spread(image: Num[np.ndarray, "h w c"], scale: Scale) -> Spread:
    """Summarizes the values of an image; `scale` is the range that is asked about."""
    low, high = float(image.min()), float(image.max())
    summary = Spread(image.dtype.name, low, high, np.zeros(BINS, np.int64), scale.outside(image))
    samples = image.astype(np.float64) if summary.dtype not in LIMITS else image  # float32 may not have as many edges in the range
    return summary._replace(counts=np.histogram(samples, BINS, (low, summary.end))[0])


def lines(side: str, spreads: Sequence[Spread], scale: Scale) -> Iterator[str]:
    """Yields the report on one side of all pairs: "A" or "B", or "A1", "A2" ... for the files of A."""
    for dtype in sorted({each.dtype for each in spreads}):
        alike = [each for each in spreads if each.dtype == dtype]
        low, high = min(each.low for each in alike), max(each.high for each in alike)
        shares = " ".join(_percent(share) for share in _histogram(alike, low, high))
        yield f"{side} values: {number(low)} to {number(high)} ({dtype}); in {PARTS} equal parts of this range: {shares} %"
        if scale.low is None:
            yield from _advice(side, dtype, alike, low, high)
    if count := sum(each.outside for each in spreads):
        share = _percent(count / sum(int(each.counts.sum()) for each in spreads))
        pairs = sum(each.outside > 0 for each in spreads)
        yield f"{side}: {count} values ({share} %) in {pairs} pairs are outside {scale}: training clips them to it"


def _histogram(spreads: Sequence[Spread], low: float, high: float) -> Float[np.ndarray, " parts"]:
    """The share of all values in each of PARTS equal parts of the range; inside the bins of an image, values are taken as uniform."""
    edges = np.linspace(low, max(each.end for each in spreads), PARTS + 1)
    below = np.zeros(PARTS + 1)
    for each in spreads:
        own_edges = np.linspace(each.low, each.end, BINS + 1)
        cumulative = np.concatenate([[0], np.cumsum(each.counts)])
        if each.low == each.end:  # all values are equal
            own_edges, cumulative = np.array([each.low, np.nextafter(each.low, np.inf)]), cumulative[[0, -1]]
        below += np.interp(edges, own_edges, cumulative)
        below[-1] += cumulative[-1] - np.interp(edges[-1], own_edges, cumulative)
    return np.diff(below) / below[-1]


def _percent(share: float) -> str:
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"


def _advice(side: str, dtype: str, spreads: Sequence[Spread], low: float, high: float) -> Iterator[str]:
    """A line if the values use a small part of the range of their type, as 12-bit data in 16-bit files do, or the type has no range."""
    option, reverse = OPTIONS[side[0]]
    reversed_option = f"(with data.direction=BtoA: {reverse}{'' if len(side) == 1 else '; one range for all files of A'})"
    if dtype not in LIMITS:
        limits = "0,1" if low >= 0 and DARK < high <= 1 else _outward(low, high) if low < high else "LOW,HIGH"
        yield f"{side} has floats, which have no range of their own: --config.{option}={limits} would do {reversed_option}"
        return
    first, last = LIMITS[dtype]
    if first == 0 and all(0 < each.high <= DARK * last for each in spreads):
        bits, seen = int(high).bit_length(), "black"
        used = f"{100 * high / last:.0f} % of its range (up to {number(high)} of {number(last)}, {bits} bits in {_bits(last)}-bit files)"
        low, high = 0.0, 2.0**bits - 1
    elif dtype != "uint8" and 0 < high - low <= DARK * (last - first):
        seen = "one grey"
        share = 100 * (high - low) / (last - first)
        used = f"{share:.0f} % of its range ({number(low)} to {number(high)} of {number(first)} to {number(last)})"
    else:
        return
    advice = f"--config.{option}={number(low)},{number(high)} scales it to the whole range {reversed_option}"
    yield f"{side} uses {used}: networks see almost only {seen}: {advice}"


def _bits(last: float) -> int:
    return int(last).bit_length()


def _outward(low: float, high: float) -> str:
    """LOW,HIGH rounded to about a hundredth of the range, which then contains both."""
    step = 10.0 ** (math.floor(math.log10(high - low)) - 2)
    return f"{number(math.floor(low / step) * step)},{number(math.ceil(high / step) * step)}"
