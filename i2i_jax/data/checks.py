"""Every pair is read once before it is trained on: what cannot be used is known at once, all of it, and remembered."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from absl import logging
from tqdm import tqdm

from i2i_jax.data.images import ImageError
from i2i_jax.data.pairs import Pair, Pairs
from i2i_jax.storage import cache
from i2i_jax.storage.files import atomic_write

SHOWN = 20  # pairs in a message; the file has them all


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Those at some places of other pairs."""

    pairs: Pairs
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int, /) -> Pair:
        return self.pairs[self.places[index]]

    def name(self, index: int, /) -> str:
        return self.pairs.name(self.places[index])


def usable(pairs: Pairs, *, fingerprint: object, skip_bad: bool) -> Pairs:
    """The pairs that can be read, in their order; `fingerprint` changes whenever one of them does.

    Raises ImageError, which names those that cannot be; with `skip_bad` it warns of them and leaves them out, unless all are bad.
    """
    record = cache.folder("checked") / f"{hashlib.sha256(repr(fingerprint).encode(errors='surrogateescape')).hexdigest()[:16]}.json"
    bad = _remembered(record)
    if bad is None or (bad and not skip_bad):  # what was refused is read again: it may have been mended
        bad = _unreadable(pairs)
        with suppress(OSError):
            atomic_write(record, json.dumps(bad, indent=1).encode())
    if not bad:
        return pairs
    more = f"; and {len(bad) - SHOWN} more, which {record} lists" if len(bad) > SHOWN else ""
    found = f"{len(bad)} of {len(pairs)} pairs cannot be used: {'; '.join(list(bad.values())[:SHOWN])}{more}"
    if len(bad) == len(pairs):
        raise ImageError(found)
    if not skip_bad:
        raise ImageError(f"{found}; data.skip_bad=True leaves out what cannot be used")
    logging.warning("%s; left out", found)
    return Chosen(pairs, [place for place in range(len(pairs)) if str(place) not in bad])


def _unreadable(pairs: Pairs) -> dict[str, str]:
    """Place to reason, of those pairs that cannot be read."""

    def reason(place: int) -> str | None:
        try:
            pairs[place]
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        reasons = tqdm(pool.map(reason, range(len(pairs))), "checking", len(pairs), unit="pair", delay=2, leave=False, disable=None)
        return {str(place): why for place, why in enumerate(reasons) if why}


def _remembered(record: Path) -> dict[str, str] | None:
    try:
        found = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and all(isinstance(why, str) for why in found.values()) else None
