"""Reads every pair once before training, reports all unusable ones at once, and remembers the result in the cache directory."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from absl import logging
from tqdm import tqdm

from i2i_jax.data.images import ImageError
from i2i_jax.data.pairs import Fingerprinted, Pair, Pairs, Regions, file_of, fingerprint_of, region_of, size_of
from i2i_jax.storage import cache
from i2i_jax.storage.files import atomic_write

SHOWN = 20  # pairs in a message; the cached file lists all


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

    @property
    def fingerprint(self) -> str:
        """As of `Fingerprinted`."""
        whole = self.pairs.fingerprint if isinstance(self.pairs, Fingerprinted) else ""
        return whole and fingerprint_of((whole, list(self.indices)))


def usable(pairs: Pairs, *, fingerprint: object, skip_bad: bool) -> Pairs:
    """Returns the pairs that can be read, in their order.

    Args:
        pairs: the pairs to check.
        fingerprint: a value that changes whenever one of the pairs does; the result of an earlier check with the same fingerprint is
          reused, except that pairs which were refused are read again.
        skip_bad: whether to leave out unreadable pairs, with a warning.

    Raises:
        ImageError: names the unreadable pairs; with `skip_bad`, only if there are no others.
    """
    record = cache.folder("checked") / f"{fingerprint_of(fingerprint)[:16]}.json"
    bad = _remembered(record)
    if bad is None or (bad and not skip_bad):  # a refused pair may be readable by now, for example if its disk was mounted
        bad = _unreadable(pairs)
        with suppress(OSError):
            atomic_write(record, json.dumps(bad, indent=1).encode())
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
    return _left_out(pairs, _problems(len(pairs), problem), where="", skip_bad=skip_bad)


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


def _unreadable(pairs: Pairs) -> dict[str, str]:
    """Index to error message, for each pair that cannot be read."""

    def problem(index: int) -> str | None:
        try:
            check(pairs, index)
        except ImageError as error:
            return str(error)

    return _problems(len(pairs), problem)


def _problems(count: int, problem: Callable[[int], str | None]) -> dict[str, str]:
    """Index to error message, for each pair that has a problem."""
    with ThreadPoolExecutor() as pool:
        problems = tqdm(pool.map(problem, range(count)), "checking", count, unit="pair", delay=2, leave=False, disable=None)
        return {str(index): message for index, message in enumerate(problems) if message}


def _remembered(record: Path) -> dict[str, str] | None:
    """The result of an earlier check; None if there is none or its file is damaged."""
    try:
        bad = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None
    return bad if isinstance(bad, dict) and all(isinstance(message, str) for message in bad.values()) else None
