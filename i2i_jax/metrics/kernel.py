"""The kernel distance between two samples of features: KID where the features are those of `inception`."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from i2i_jax.metrics.features import comparable

BLOCK = 256  # rows of a kernel matrix held at once
NORMAL_95 = 1.959964  # standard errors to either side that hold 95 % of a normal distribution


class KernelDistance(NamedTuple):
    """An estimate of the squared maximum mean discrepancy, and its standard error over samples of these sizes."""

    value: float
    standard_error: float

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 % confidence: value -+ 1.96 standard errors."""
        return self.value - NORMAL_95 * self.standard_error, self.value + NORMAL_95 * self.standard_error


def kernel_distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m e"]) -> KernelDistance:
    """Unbiased estimate of MMD^2 with the kernel k(x, y) = (x'y / d + 1)^3 (Binkowski 2018), over all pairs, in float64.

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    Unbiased at any sample size, it **can be negative** where the distributions are close. The published protocol averages it over
    random subsets of 1000 images: the same in the mean, with more noise, and an error bar that tells of subsets of 1000, not of the
    whole sample. Here the standard error is the jackknife's (Efron 1981): with t_i the estimate without image i,

    standard_error^2 = sum over both samples of (n - 1) / n * sum_i (t_i - mean t)^2

    In the mean it is right where the distributions differ and too large where they hardly do; simulated with 10 to 400 images the
    interval held the truth in 91 to 99 %. The rows of a sample are taken as independent: several generated images of one input are
    not, so compare one image per input. Where the rows of both come in pairs, the estimate is too low by 2 / n of what a pair's
    kernel exceeds that of strangers, in this as in the published estimator.

    Needs 3 images of each; raises FeaturesError.
    """
    first, second = comparable(first, second, least=3)
    parts = [_Sample.of(first, second), _Sample.of(second, first)]
    value = sum(part.within for part in parts) - 2 * parts[0].across
    variance = sum((len(part.without) - 1) * part.without.var() for part in parts)
    return KernelDistance(float(value), float(np.sqrt(variance)))


class _Sample(NamedTuple):
    """Means of the kernel over a sample's pairs and over pairs with the other sample, and what both give without each image in turn."""

    within: float
    across: float
    without: Float[np.ndarray, " n"]  # within - 2 across

    @classmethod
    def of(cls, sample: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"]) -> "_Sample":
        n, m = len(sample), len(other)
        itself = _cubed(np.square(sample).sum(1), sample.shape[1])
        within, across = _kernel_sums(sample, sample) - itself, _kernel_sums(sample, other)
        without = (within.sum() - 2 * within) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / ((n - 1) * m)
        return cls(within.sum() / (n * (n - 1)), across.sum() / (n * m), without)


def _kernel_sums(sample: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " n"]:
    """For each image of `sample` the sum of its kernel with all of `other`."""
    blocks = (sample[start : start + BLOCK] @ other.T for start in range(0, len(sample), BLOCK))
    return np.concatenate([_cubed(block, sample.shape[1]).sum(1) for block in blocks])


def _cubed(products: np.ndarray, dimension: int) -> np.ndarray:
    return (products / dimension + 1) ** 3
