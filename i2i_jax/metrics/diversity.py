"""Diversity: distances between the samples of one input, and from the samples to their target."""

from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from i2i_jax.types import Image


@runtime_checkable
class Distance(Protocol):
    """A distance between images that is computed from embeddings, so that each image is embedded only once."""

    def embed(self, images: Image, /) -> Any:
        """Embeds a batch of images."""
        ...

    def between(self, embedded: Any, others: Any, /) -> Float[Array, " b"]:
        """Distances between two batches of embedded images, row by row."""
        ...


class DiversityError(ValueError):
    """Too few samples to compare; the message is one line."""


def distances(distance: Distance, target: Image, samples: Float[Array, "b n h w c"]) -> tuple[Float[Array, "n b"], Float[Array, "n-1 b"]]:
    """Distances from each sample to its target and to the next sample of the same input.

    Zhu 2017, section 5, averages the latter over 100 inputs with 20 samples each. One sample of every input is embedded at a time, so
    that memory does not grow with n.

    Args:
        distance: the distance between images.
        target: the target of each input, in [-1, 1].
        samples: n samples of each input, in [-1, 1].

    Returns:
        The distances to the target, and the n - 1 distances between consecutive samples; both with samples along the first axis.
    """
    embedded_target = distance.embed(target)

    def step(previous: Any, sample: Image) -> tuple[Any, tuple[Array, Array]]:
        embedded = distance.embed(sample)
        return embedded, (distance.between(embedded, embedded_target), distance.between(previous, embedded))

    _, (to_target, from_previous) = jax.lax.scan(step, embedded_target, samples.swapaxes(0, 1))
    return to_target, from_previous[1:]
