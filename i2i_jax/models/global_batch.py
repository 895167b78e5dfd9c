"""What layers know, while a step is traced, of the global batch of which they compute some rows."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from i2i_jax.types import Shard


class Part(NamedTuple):
    """A part of the global batch.

    Attributes:
        shard: the rows that are computed. `Dropout` draws their masks.
        norm_axis: name of the mesh axis over whose devices `BatchNorm` averages its statistics; None: it does not.
    """

    shard: Shard = Shard()
    norm_axis: str | None = None


ALL = Part()
_current: ContextVar[Part] = ContextVar("part_of_the_global_batch", default=ALL)


def current() -> Part:
    """The part of the global batch that layers compute now; all of it, unless `computing` says otherwise."""
    return _current.get()


@contextlib.contextmanager
def computing(part: Part) -> Iterator[None]:
    """Networks that are called inside compute `part` of the global batch."""
    before = _current.set(part)
    try:
        yield
    finally:
        _current.reset(before)
