"""Precision and recall against their definition, and the jackknife against known standard errors."""

import numpy as np
import pytest

from i2i_jax.metrics.features import FeaturesError
from i2i_jax.metrics.jackknife import jackknife
from i2i_jax.metrics.precision_recall import precision_recall


def sample(n, seed=0, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((n, 3)) + shift).astype(np.float32)


def share_inside(points, members, k):
    """Equations 1 and 2 in loops."""

    def distance(a, b):
        return float(np.sqrt(((a.astype(np.float64) - b) ** 2).sum()))

    radii = [sorted(distance(a, b) for j, b in enumerate(members) if j != i)[k - 1] for i, a in enumerate(members)]
    return np.mean([any(distance(point, a) <= radius for a, radius in zip(members, radii, strict=True)) for point in points])


@pytest.mark.parametrize("k", [1, 3])
def test_values_by_definition(k):
    fake, real = sample(30, shift=0.8), sample(30, seed=1)
    found = precision_recall(fake, real, neighbours=k)
    assert found.precision.value == pytest.approx(share_inside(fake, real, k), abs=1e-12)
    assert found.recall.value == pytest.approx(share_inside(real, fake, k), abs=1e-12)
    assert 0.2 < found.precision.value < 1 and 0.2 < found.recall.value < 1
    without = [share_inside(np.delete(fake, slice(i, None, 20), 0), np.delete(real, slice(i, None, 20), 0), k) for i in range(20)]
    assert found.precision.standard_error == pytest.approx(np.sqrt(19) * np.std(without), rel=1e-9)


def test_one_mode_of_two_is_precise_but_covers_half():
    real = np.concatenate([sample(50), sample(50, seed=1, shift=50)])
    fake = sample(100, seed=2) * 0.5
    found = precision_recall(fake, real)
    assert found.precision.value > 0.95
    assert found.recall.value < 0.5


def test_equal_and_distant_samples():
    x = sample(20)
    assert precision_recall(x, x).precision == precision_recall(x, x).recall == (1.0, 0.0)
    far = precision_recall(x + 100, x)
    assert (far.precision.value, far.recall.value) == (0, 0)


def test_too_few_images():
    with pytest.raises(FeaturesError, match="the first sample has 7 images: at least 8 are needed"):
        precision_recall(sample(7), sample(7))


@pytest.mark.parametrize("n", [2, 19, 40])
def test_jackknife_of_a_mean(n):
    """With one input in each group its standard error is the usual one."""
    x = np.random.default_rng(0).standard_normal(n)
    found = jackknife(lambda chosen: float(x[chosen].mean()), n)
    assert found.value == pytest.approx(x.mean())
    if n <= 20:
        assert found.standard_error == pytest.approx(x.std(ddof=1) / np.sqrt(n))
    low, high = found.interval
    assert high - low == pytest.approx(2 * 1.959964 * found.standard_error)


def test_coverage_of_the_jackknife_with_groups():
    """The 95 % interval of the mean of 100 numbers in 20 groups holds the true mean in about 93 % of samples (Student's t with 19)."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        x = rng.exponential(size=100)
        low, high = jackknife(lambda chosen, x=x: float(x[chosen].mean()), 100).interval
        hits += low <= 1 <= high
    assert 0.88 < hits / 400 < 0.97
