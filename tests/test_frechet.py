"""The Fréchet distance of Gaussians with a known distance, and against a matrix square root."""

import warnings

import numpy as np
import pytest
import scipy.linalg

from i2i_jax.metrics import frechet
from i2i_jax.metrics.features import FeaturesError
from i2i_jax.metrics.frechet import SampleTooSmall, frechet_distance, frechet_joint_distance, too_small

pytestmark = pytest.mark.filterwarnings("ignore::i2i_jax.metrics.frechet.SampleTooSmall")


def sample(n, d, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * scale + rng.standard_normal(d)).astype(np.float32)


def with_moments(mean, covariance, n=50, seed=0):
    """A sample with exactly this mean and this unbiased covariance."""
    x = np.random.default_rng(seed).standard_normal((n, len(mean)))
    x = np.linalg.qr(x - x.mean(0))[0] * np.sqrt(n - 1)
    return x @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize(("n", "m"), [(200, 300), (300, 31)])
def test_formula(n, m):
    x, y = sample(n, 6).astype(np.float64), sample(m, 6, seed=1).astype(np.float64)
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s_x + s_y - 2 * scipy.linalg.sqrtm(s_x @ s_y).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_of_gaussians_that_commute():
    x = with_moments([0.0, 1.0, 2.0], np.diag([1.0, 4.0, 9.0]))
    y = with_moments([2.0, 1.0, 1.0], np.diag([4.0, 1.0, 16.0]), n=40, seed=1)
    assert frechet_distance(x, y) == pytest.approx((4 + 0 + 1) + (1 + 1 + 1), rel=1e-12)


def test_of_gaussians_that_do_not_commute():
    # In two dimensions tr (AB)^(1/2) = (tr AB + 2 (det AB)^(1/2))^(1/2).
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 5.0]])
    product = a @ b
    expected = np.trace(a) + np.trace(b) - 2 * np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(with_moments([0, 0], a), with_moments([0, 0], b, n=30, seed=1)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(100, 8), (9, 40)])
def test_of_equal_samples_is_zero_and_never_below(n, d):
    for seed in range(8):
        x = sample(n, d, seed, scale=100)
        assert 0 <= frechet_distance(x, x[::-1]) < 1e-9 * np.square(x).sum(1).mean()


@pytest.mark.parametrize(("n", "d"), [(100, 8), (9, 40)])
def test_order_does_not_matter(n, d):
    x, y = sample(n, d), sample(n, d, seed=1)
    assert frechet_distance(x[::-1], y) == pytest.approx(frechet_distance(x, y), rel=1e-10)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y), rel=1e-10)


def test_shifting_a_sample_adds_the_squared_shift():
    x, y = sample(80, 5), sample(70, 5, seed=1)
    y = y - y.mean(0) + x.mean(0)
    assert frechet_distance(x, y + np.float32(3)) == pytest.approx(frechet_distance(x, y) + 5 * 9, rel=1e-5)


def test_singular_covariances():
    """Fewer images than dimensions, in orthogonal subspaces: the trace of the matrix square root is 0."""
    x, y = np.zeros((4, 30)), np.zeros((5, 30))
    x[:, :3], y[:, 10:14] = sample(4, 3), sample(5, 4, seed=1)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.filterwarnings("error")
def test_a_small_sample_is_warned_of():
    x = sample(40, 8)
    with pytest.warns(SampleTooSmall, match="40 images: the distance is too high"):
        frechet_distance(x, sample(60, 8))
    with pytest.warns(SampleTooSmall, match="8 images, 8 features: the covariance is singular"):
        frechet_distance(x, x[:8])
    assert "2048 images, 2048 features" in too_small(2048, 2048)
    assert "10000 or more" in too_small(2049, 2048)
    assert not too_small(frechet.RECOMMENDED, 2048)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(np.tile(sample(100, 2), (100, 1)), np.tile(sample(100, 2), (100, 1)))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (sample(5, 4), sample(5, 3), "features of 4 and of 3 dimensions"),
        (sample(5, 4), sample(1, 4), "the second sample has 1 images: at least 2 are needed"),
        (
            np.where(np.eye(5, 4) == 1, np.nan, 0),
            sample(5, 4),
            "the first sample has NaN or Inf in the features of 4 images, the first of which is number 0",
        ),
        (sample(5, 4), np.full((3, 4), np.inf), "the second sample has NaN or Inf in the features of 3 images"),
    ],
)
def test_features_without_a_distance(first, second, message):
    with pytest.raises(FeaturesError, match=message):
        frechet_distance(first, second)


def joint(fake, real, inputs):
    """FJD by its definition, with SciPy's matrix square root."""
    fake, real, inputs = (x.astype(np.float64) for x in (fake, real, inputs))
    scaled = inputs * np.mean(np.sqrt((real**2).sum(1))) / np.mean(np.sqrt((inputs**2).sum(1)))
    x = np.stack([np.append(sample, scaled[i]) for i in range(len(fake)) for sample in fake[i]])
    y = np.stack([np.append(real[i], scaled[i]) for i in range(len(real))])
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s_x + s_y - 2 * scipy.linalg.sqrtm(s_x @ s_y).real)


def test_joint_distance_by_definition():
    fake, real, inputs = sample(120, 4, seed=1).reshape(60, 2, 4), sample(60, 4), sample(60, 3, seed=2, scale=7)
    found = frechet_joint_distance(fake, real, inputs)
    assert found.value == pytest.approx(joint(fake, real, inputs), rel=1e-9)
    without = [joint(*(np.delete(x, slice(group, None, 20), 0) for x in (fake, real, inputs))) for group in range(20)]
    # alpha is that of the whole sample, so that leaving inputs out does not change the unit.
    assert found.standard_error == pytest.approx(np.sqrt(19) * np.std(without), rel=0.1)


def test_joint_distance_sees_swapped_inputs():
    """Swapping outputs between inputs leaves the distance of the images alone unchanged."""
    inputs = sample(200, 3, seed=2)
    real = np.concatenate([inputs, inputs], 1)
    assert frechet_joint_distance(real[:, None], real, inputs).value == pytest.approx(0, abs=1e-9)
    swapped = np.roll(real, 1, axis=0)
    assert frechet_distance(swapped, real) == pytest.approx(0, abs=1e-9)
    assert frechet_joint_distance(swapped[:, None], real, inputs).value > 0.1 * np.square(real).sum(1).mean()


def test_joint_distance_of_bad_features():
    good = sample(10, 3)
    with pytest.raises(FeaturesError, match="4 and of 3 dimensions"):
        frechet_joint_distance(sample(10, 4)[:, None], good, good)
    with pytest.raises(FeaturesError, match="NaN or Inf in the features of 1 images"):
        frechet_joint_distance(good[:, None], good, np.where(np.arange(10)[:, None] == 3, np.nan, good))
