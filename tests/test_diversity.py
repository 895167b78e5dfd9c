"""Distance between consecutive samples, against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.metrics import distortion, diversity


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).uniform(-1, 1, (3, 5, 8, 9, 3)).astype(np.float32)


def measured(samples: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(lambda x: diversity.consecutive(distortion.l1, x))(jnp.asarray(samples)))


def test_mean_over_consecutive_pairs(samples):
    expected = [np.mean([np.abs(a - b).mean() / 2 for a, b in zip(x[:-1], x[1:], strict=True)]) for x in samples]
    np.testing.assert_allclose(measured(samples), expected, rtol=1e-5)


def test_each_sample_is_compared_with_the_next_of_its_own_input():
    """By a distance that is not symmetric, on samples that carry their names."""
    named = jnp.arange(6.0).reshape(2, 3, 1, 1, 1)
    distance = lambda images, others: (10 * images + others).sum((1, 2, 3))  # noqa: E731
    np.testing.assert_allclose(diversity.consecutive(distance, named), [(1 + 12) / 2, (34 + 45) / 2])


def test_equal_samples_have_none(samples):
    assert (measured(np.repeat(samples[:, :1], 5, 1)) == 0).all()


def test_grows_with_the_spread_of_the_samples(samples):
    found = [measured(samples * spread) for spread in (0.1, 0.3, 1)]
    assert (np.diff(found, axis=0) > 0).all()


def test_two_samples_are_one_pair(samples):
    np.testing.assert_allclose(measured(samples[:, :2]), distortion.l1(jnp.asarray(samples[:, 0]), jnp.asarray(samples[:, 1])), rtol=1e-6)


def test_independent_of_the_batch(samples):
    np.testing.assert_allclose(measured(samples), np.concatenate([measured(x[None]) for x in samples]), rtol=1e-6)


def test_one_sample_is_refused(samples):
    with pytest.raises(diversity.DiversityError, match="at least 2 samples an input: found 1"):
        measured(samples[:, :1])
