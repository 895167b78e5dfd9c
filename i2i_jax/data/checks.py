"""Reads every pair once before training, reports all unusable ones at once, and remembers the result in the cache directory."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from absl import logging
from tqdm import tqdm

from i2i_jax.data import values
from i2i_jax.data.images import ImageError
from i2i_jax.data.pairs import Fingerprinted, Pair, Pairs, Regions, Typed, file_of, fingerprint_of, region_of, size_of
from i2i_jax.storage import cache
from i2i_jax.storage.files import atomic_write
from i2i_jax.types import SampleType

Result = TypeVar("Result")

SHOWN = 20  # pairs in a message; the cached file lists all
FORMAT = 2  # of the records: change it when files that were refused are read
CLIPPED = "clipped"  # the key of a record's note, among the indices of unusable pairs


@dataclasses.dataclass(frozen=True)
class Subset:
    """A subset of a Pairs, by index."""

    pairs: Pairs
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Pair:
        return self.pairs[self.indices[index]]

    def name(self, index: int, /) -> str:
        return self.pairs.name(self.indices[index])

    def size(self, index: int, /) -> tuple[int, int]:
        return size_of(self.pairs, self.indices[index])

    def file(self, index: int, /) -> str:
        return file_of(self.pairs, self.indices[index])

    def region(self, index: int, rows: slice, columns: slice, /) -> Pair | None:
        return region_of(self.pairs, self.indices[index], rows, columns)

    def check(self, index: int, /) -> None:
        check(self.pairs, self.indices[index])

    def target_type(self, index: int, /) -> SampleType:
        """As of `Typed`."""
        whole = self.pairs
        return whole.target_type(self.indices[index]) if isinstance(whole, Typed) else SampleType(self[index].target.dtype.name)

    @property
    def fingerprint(self) -> str:
        """As of `Fingerprinted`."""
        whole = self.pairs.fingerprint if isinstance(self.pairs, Fingerprinted) else ""
        return whole and fingerprint_of((whole, list(self.indices)))


def usable(pairs: Pairs, *, fingerprint: str, skip_bad: bool) -> Pairs:
    """Returns the pairs that can be read, in their order. Warns about values outside `data.input_range` and `data.target_range`.

    Args:
        pairs: the pairs to check.
        fingerprint: a `pairs.fingerprint_of`, which changes whenever one of the pairs does; the result of an earlier check with the same
            fingerprint is reused, except that pairs which were refused are read again.
        skip_bad: whether to leave out unreadable pairs, with a warning.

    Raises:
        ImageError: names the unreadable pairs; with `skip_bad`, only if there are no others.
    """
    record = cache.folder("checked") / f"{fingerprint_of((FORMAT, fingerprint))[:16]}.json"
    bad = _remembered(record)
    if bad is None or (bad.keys() - {CLIPPED} and not skip_bad):  # a refused pair may be readable by now: its disk may be mounted
        bad = _checked(pairs)
        with suppress(OSError):
            atomic_write(record, json.dumps(bad, indent=1).encode())
    if note := bad.pop(CLIPPED, ""):
        logging.warning("%s", note)
    return _left_out(pairs, bad, where=f", which {record} lists", skip_bad=skip_bad)


def without(pairs: Pairs, problem: Callable[[int], str | None], *, skip_bad: bool) -> Pairs:
    """Returns the pairs without a problem, in their order.

    Args:
        pairs: the pairs.
        problem: returns the error message for the pair at an index; None if it can be used.
        skip_bad: whether to leave out the other pairs, with a warning.

    Raises:
        ImageError: names the pairs with a problem; with `skip_bad`, only if there are no others.
    """
    problems = {str(index): message for index, message in enumerate(_each(len(pairs), problem)) if message}
    return _left_out(pairs, problems, where="", skip_bad=skip_bad)


def check(pairs: Pairs, index: int) -> None:
    """Decodes a pair once. Raises ImageError if it cannot be used."""
    if isinstance(pairs, Regions):
        pairs.check(index)
    else:
        pairs[index]


def _left_out(pairs: Pairs, bad: dict[str, str], *, where: str, skip_bad: bool) -> Pairs:
    """The pairs but the bad ones, whose messages are given by index. Raises ImageError."""
    if not bad:
        return pairs
    more = f"; and {len(bad) - SHOWN} more{where}" if len(bad) > SHOWN else ""
    message = f"{len(bad)} of {len(pairs)} pairs cannot be used: {'; '.join(list(bad.values())[:SHOWN])}{more}"
    if len(bad) == len(pairs):
        raise ImageError(message)
    if not skip_bad:
        raise ImageError(f"{message}; data.skip_bad=True leaves out what cannot be used")
    logging.warning("%s; left out", message)
    return Subset(pairs, [index for index in range(len(pairs)) if str(index) not in bad])


def _checked(pairs: Pairs) -> dict[str, str]:
    """Index to error message, for each pair that cannot be read; and a note about values outside their range, by CLIPPED."""

    def result(index: int) -> tuple[str, values.Counts]:
        with values.counting() as counts:
            try:
                check(pairs, index)
            except ImageError as error:
                return str(error), {}
            return "", counts

    messages, counts = zip(*_each(len(pairs), result), strict=True) if len(pairs) else ((), ())
    bad = {str(index): message for index, message in enumerate(messages) if message}
    note = "; ".join(_clipped(counts, len(pairs)))
    return bad | ({CLIPPED: note} if note else {})


def _clipped(counts: Sequence[values.Counts], total: int) -> Iterator[str]:
    pairs_outside, values_outside = Counter(), Counter()
    for of_pair in counts:
        pairs_outside.update(of_pair.keys())
        values_outside.update({scale: outside for scale, (outside, _) in of_pair.items()})
    for scale, count in pairs_outside.items():
        yield f"{count} of {total} pairs have values outside {scale} ({values_outside[scale]} values): they are clipped to the range"


def _each(count: int, result: Callable[[int], Result]) -> Iterator[Result]:
    """`result(index)` of each pair, with a progress bar."""
    with ThreadPoolExecutor() as pool:
        yield from tqdm(pool.map(result, range(count)), "checking", count, unit="pair", delay=2, leave=False, disable=None)


def _remembered(record: Path) -> dict[str, str] | None:
    """The result of an earlier check; None if there is none or its file is damaged."""
    try:
        bad = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None
    return bad if isinstance(bad, dict) and all(isinstance(message, str) for message in bad.values()) else None
