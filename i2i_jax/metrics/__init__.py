"""What evaluation measures: each metric one file of pure functions; here the form in which they are put together."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

Figures = dict[str, float | list[float]]


class EvalExamples(NamedTuple):
    """Inputs with what a system made of them, images in [-1, 1] at 8 bits; None is what there is not.

    `input` and `target` [b, h, w, c]; `samples` [b, n, h, w, c] from the latents `z` [b, n, d]; `encoded` [b, h, w, c], the translation
    from the target's own latent; `posterior` the Gaussian E(target), `recovered` [b, n, d] E(samples).mean.
    """

    input: Any = None
    target: Any = None
    samples: Any = None
    encoded: Any = None
    z: Any = None
    posterior: Any = None
    recovered: Any = None


def means(measured: Mapping[str, np.ndarray]) -> Figures:
    """Over all cases, of each quantity."""
    return {name: float(values.mean()) for name, values in measured.items()}


class Metric(NamedTuple):
    """Quantities [b, ...] of each case by itself, and the figures that those of all cases come to.

    A quantity of one number a case has the name of its figure. `needs` names the fields of EvalExamples that are measured; a metric
    that is `unpaired` compares all samples with all targets, and measures either alone as well. `weights` are the SHA-256 of the
    pretrained weights it depends on, by file. Metrics with the same `measure` share its work.
    """

    measure: Callable[[EvalExamples], Mapping[str, Array | np.ndarray]]
    summarise: Callable[[Mapping[str, np.ndarray]], Figures] = means
    needs: tuple[str, ...] = ("target", "samples")
    unpaired: bool = False
    weights: Mapping[str, str] = {}
