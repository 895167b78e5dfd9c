"""How far the answers to one input are from its target, and from one another."""

from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from i2i_jax.types import Image


@runtime_checkable
class Distance(Protocol):
    """Between what is made of images, each image once."""

    def embed(self, images: Image, /) -> Any: ...

    def between(self, embedded: Any, others: Any, /) -> Float[Array, " b"]: ...


class DiversityError(ValueError):
    """Too few samples to compare: one line."""


def distances(distance: Distance, target: Image, samples: Float[Array, "b n h w c"]) -> tuple[Float[Array, "n b"], Float[Array, "n-1 b"]]:
    """Of each sample of an input to its target, and of each to the next (Zhu 2017, section 5: 100 inputs of 20 samples).

    One sample of every input is embedded at a time, so memory does not grow with n.
    """
    embedded_target = distance.embed(target)

    def step(previous: Any, sample: Image) -> tuple[Any, tuple[Array, Array]]:
        embedded = distance.embed(sample)
        return embedded, (distance.between(embedded, embedded_target), distance.between(previous, embedded))

    _, (to_target, from_previous) = jax.lax.scan(step, embedded_target, samples.swapaxes(0, 1))
    return to_target, from_previous[1:]
