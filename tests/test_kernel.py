"""The kernel distance against its definition, its bias, and the coverage of its confidence interval."""

import numpy as np
import pytest

from i2i_jax.metrics import kernel
from i2i_jax.metrics.features import FeaturesError
from i2i_jax.metrics.kernel import kernel_distance


def sample(n, d=4, seed=0, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((n, d)) + shift).astype(np.float32)


def estimate(x, y):
    """MMD^2 by its definition, in a double loop."""
    x, y = x.astype(np.float64), y.astype(np.float64)

    def k(a, b):
        return (a @ b / a.size + 1) ** 3

    within = [np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (x, y)]
    return sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_value_and_error_by_definition():
    x, y = sample(9), sample(7, seed=1, shift=0.5)
    found = kernel_distance(x, y)
    assert found.value == pytest.approx(estimate(x, y), rel=1e-12)
    without_x = np.array([estimate(np.delete(x, i, 0), y) for i in range(9)])
    without_y = np.array([estimate(x, np.delete(y, i, 0)) for i in range(7)])
    variance = sum((len(t) - 1) / len(t) * np.square(t - t.mean()).sum() for t in (without_x, without_y))
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=1e-10)
    low, high = found.interval
    assert (high + low) / 2 == pytest.approx(found.value)
    assert high - low == pytest.approx(2 * 1.96 * found.standard_error, rel=1e-4)


def test_blocks_change_nothing(monkeypatch):
    x, y = sample(23), sample(17, seed=1)
    whole = kernel_distance(x, y)
    monkeypatch.setattr(kernel, "BLOCK", 5)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-12)


def test_order_does_not_matter():
    x, y = sample(20), sample(30, seed=1)
    assert kernel_distance(x[::-1], y[::-1]) == pytest.approx(kernel_distance(x, y), rel=1e-10)
    assert kernel_distance(y, x) == pytest.approx(kernel_distance(x, y), rel=1e-10)


def test_of_one_sample_with_itself_is_below_zero():
    x = sample(50)
    assert kernel_distance(x, x).value < 0


SUPPORT = np.array([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0], [2.0, 2.0, 0.0], [-1.0, 1.0, 1.0], [0.5, -2.0, -1.0]])
EVEN, UNEVEN = np.array([0.2, 0.2, 0.2, 0.2, 0.2]), np.array([0.5, 0.1, 0.1, 0.2, 0.1])


def drawn(p, q, times=400, n=40, m=60):
    """The true distance between the distributions p and q over SUPPORT, and estimates from `times` pairs of samples."""
    rng = np.random.default_rng(0)
    truth = (p - q) @ (SUPPORT @ SUPPORT.T / 3 + 1) ** 3 @ (p - q)
    pairs = (kernel_distance(SUPPORT[rng.choice(5, n, p=p)], SUPPORT[rng.choice(5, m, p=q)]) for _ in range(times))
    return truth, list(pairs)


def test_unbiased_and_covered_where_distributions_differ():
    truth, found = drawn(EVEN, UNEVEN)
    values = np.array([f.value for f in found])
    assert truth > 0
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(len(values))
    assert np.sqrt(np.mean([f.standard_error**2 for f in found])) == pytest.approx(values.std(), rel=0.15)
    assert 0.90 <= np.mean([low <= truth <= high for low, high in (f.interval for f in found)]) <= 0.98


def test_unbiased_and_covered_where_they_are_the_same():
    truth, found = drawn(EVEN, EVEN)
    values = np.array([f.value for f in found])
    assert truth == 0
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert 1 <= np.sqrt(np.mean([f.standard_error**2 for f in found])) / values.std() <= 1.6
    assert np.mean([low <= 0 <= high for low, high in (f.interval for f in found)]) >= 0.90


def test_two_images_are_too_few():
    with pytest.raises(FeaturesError, match="the second sample has 2 images: at least 3 are needed"):
        kernel_distance(sample(5), sample(2))
