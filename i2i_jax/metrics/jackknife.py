"""Confidence intervals of a statistic of a sample, by leaving groups of inputs out."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

NORMAL_95 = 1.959964  # half-width of the interval that holds 95 % of a normal distribution, in standard deviations
GROUPS = 20


class Estimate(NamedTuple):
    """An estimate and its standard error.

    Attributes:
        value: the estimate.
        standard_error: its standard error for a sample of this size.
    """

    value: float
    standard_error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval: value -+ 1.96 standard errors."""
        return self.value - NORMAL_95 * self.standard_error, self.value + NORMAL_95 * self.standard_error


def jackknife(statistic: Callable[[Int[np.ndarray, " m"]], float], count: int) -> Estimate:
    """Estimates a statistic and its standard error by the jackknife that leaves out one of at most 20 groups of inputs (Efron 1981).

    standard_error^2 = (g - 1) / g * sum_i (t_i - mean t)^2

    with t_i the statistic without group i of g. It accounts for the choice of inputs, not for a bias of the statistic itself.

    Args:
        statistic: maps the indices of some inputs to the statistic of these inputs.
        count: number of inputs, at least 2; if they are in no particular order, every 20th is in the same group.
    """
    every = np.arange(count)
    groups = min(GROUPS, count)
    without = np.array([statistic(every[every % groups != group]) for group in range(groups)])
    return Estimate(float(statistic(every)), float(np.sqrt((groups - 1) * without.var())))
