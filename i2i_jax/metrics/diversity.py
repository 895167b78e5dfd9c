"""How far apart the answers to one input are."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from i2i_jax.types import Image

Distance = Callable[[Image, Image], Float[Array, " b"]]


class DiversityError(ValueError):
    """Too few samples to compare: one line."""


def consecutive(distance: Distance, samples: Float[Array, "b n h w c"]) -> Float[Array, " b"]:
    """Mean distance between each sample of an input and the next, n - 1 pairs an input (Zhu 2017, section 5: 100 inputs of 20 samples).

    One pair of every input is compared at a time, so memory does not grow with n. Raises DiversityError for n = 1.
    """
    n = samples.shape[1]
    if n < 2:
        raise DiversityError(f"diversity needs at least 2 samples an input: found {n}")
    by_sample = samples.swapaxes(0, 1)
    distances = jax.lax.map(lambda pair: distance(*pair), (by_sample[:-1], by_sample[1:]))
    return distances.mean(0)
