"""Distances of samples to their target and to the next sample, against NumPy."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.metrics import distortion, diversity

L1 = SimpleNamespace(embed=lambda images: images, between=distortion.l1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (3, 6, 8, 9, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def target(images):
    return images[:, 5]


@pytest.fixture(scope="module")
def samples(images):
    return images[:, :5]


def measured(target: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = jax.jit(lambda *x: diversity.distances(L1, *x))(jnp.asarray(target), jnp.asarray(samples))
    return tuple(map(np.asarray, found))


def test_every_sample_to_its_target_and_to_the_next(target, samples):
    to_target, to_next = measured(target, samples)
    distance = lambda a, b: np.abs(a - b).mean((2, 3, 4)) / 2  # noqa: E731
    np.testing.assert_allclose(to_target.T, distance(samples, target[:, None]), rtol=1e-5)
    np.testing.assert_allclose(to_next.T, distance(samples[:, :-1], samples[:, 1:]), rtol=1e-5)


def test_a_sample_is_compared_with_the_next_of_its_own_input():
    """With a distance that is not symmetric, on samples whose pixels hold their index."""
    named = jnp.arange(6.0).reshape(2, 3, 1, 1, 1)
    distance = SimpleNamespace(embed=lambda x: 10 * x.sum((1, 2, 3)), between=lambda embedded, others: embedded + others / 10)
    to_target, to_next = diversity.distances(distance, jnp.full((2, 1, 1, 1), 7.0), named)
    np.testing.assert_allclose(to_target, [[7, 37], [17, 47], [27, 57]])
    np.testing.assert_allclose(to_next, [[1, 34], [12, 45]])


def test_every_image_is_embedded_once(target, samples):
    embedded = []
    distance = SimpleNamespace(embed=lambda x: jax.debug.callback(embedded.append, len(x)) or x, between=distortion.l1)
    jax.block_until_ready(diversity.distances(distance, jnp.asarray(target), jnp.asarray(samples)))
    jax.effects_barrier()
    assert sum(map(int, embedded)) == 3 * (1 + 5)


def test_equal_samples_have_no_distance(target, samples):
    assert (measured(target, np.repeat(samples[:, :1], 5, 1))[1] == 0).all()


def test_independent_of_the_batch(target, samples):
    one_by_one = [measured(t[None], x[None]) for t, x in zip(target, samples, strict=True)]
    for whole, parts in zip(measured(target, samples), zip(*one_by_one, strict=True), strict=True):
        np.testing.assert_allclose(whole, np.concatenate(parts, 1), rtol=1e-6)


def test_one_sample_has_no_next(target, samples):
    to_target, to_next = measured(target, samples[:, :1])
    assert (to_target.shape, to_next.shape) == ((1, 3), (0, 3))
