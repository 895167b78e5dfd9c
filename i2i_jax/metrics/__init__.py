"""Evaluation metrics. Each metric is one file of pure functions; this file defines how evaluation calls them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

Figures = dict[str, float | list[float]]


class EvalExamples(NamedTuple):
    """A batch of inputs with their translations. Images are in [-1, 1], rounded to 8 bits. Fields that do not exist are None.

    Attributes:
        input: [b, h, w, c].
        target: [b, h, w, c].
        samples: n translations of each input, [b, n, h, w, c].
        encoded: the translation from the target's own latent, [b, h, w, c].
        z: the latents of `samples`, [b, n, d].
        posterior: the Gaussian E(target) of each target.
        recovered: E(samples).mean, [b, n, d].
    """

    input: Any = None
    target: Any = None
    samples: Any = None
    encoded: Any = None
    z: Any = None
    posterior: Any = None
    recovered: Any = None


def means(measured: Mapping[str, np.ndarray]) -> Figures:
    """Returns the mean of each quantity over all examples."""
    return {name: float(values.mean()) for name, values in measured.items()}


class Metric(NamedTuple):
    """A metric: quantities measured on each example, and a summary of them over all examples.

    Attributes:
        measure: maps examples to named quantities, each [b, ...]. Metrics with the same `measure` are measured once. A quantity that is
            one number for each example has the name of its figure in the summary.
        summarise: maps the quantities of all examples to the figures that are reported.
        needs: the fields of `EvalExamples` that `measure` uses.
        unpaired: whether the metric compares the distributions of samples and targets. Then `measure` can be called with only one of
            the two.
        weights: SHA-256 of the files of pretrained weights that the metric uses, by file name.
        image_size: height and width in pixels that the metric resizes images to; None if it does not.
    """

    measure: Callable[[EvalExamples], Mapping[str, Array | np.ndarray]]
    summarise: Callable[[Mapping[str, np.ndarray]], Figures] = means
    needs: tuple[str, ...] = ("target", "samples")
    unpaired: bool = False
    weights: Mapping[str, str] = {}
    image_size: int | None = None
