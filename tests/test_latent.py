"""Latent consistency and posterior collapse, for encoders with known results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax import losses
from i2i_jax.metrics import latent
from i2i_jax.types import Gaussian


def draw(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def certain(mean: np.ndarray) -> Gaussian:
    return Gaussian(jnp.asarray(mean), jnp.full(mean.shape, -10.0))


def test_consistency_by_hand():
    found = jax.jit(latent.consistency)(jnp.array([[1.0, -2], [0, 0.5]]), jnp.array([[0.0, 0], [0, 0]]))
    np.testing.assert_allclose(found, [1.5, 0.25])


def test_an_encoder_that_finds_z_is_consistent():
    z = draw((4, 8))
    assert (latent.consistency(jnp.asarray(z), jnp.asarray(z)) == 0).all()


def test_an_encoder_that_always_returns_zero():
    z = draw((2000, 8))
    assert latent.consistency(jnp.asarray(0 * z), jnp.asarray(z)).mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)


def test_a_worse_encoder_is_less_consistent():
    z, error = draw((4, 8)), draw((4, 8), 1)
    found = [latent.consistency(jnp.asarray(z + strength * error), jnp.asarray(z)) for strength in (0.1, 0.3, 1)]
    assert (np.diff(found, axis=0) > 0).all()


def test_latents_of_another_size_are_refused():
    with pytest.raises(latent.LatentError, match=r"\(4, 8\), the drawn ones \(4, 1\)"):
        latent.consistency(jnp.asarray(draw((4, 8))), jnp.zeros((4, 1)))


def test_kl_against_its_integral():
    x = np.linspace(-12, 12, 20001)
    mean, log_var = np.array([0.0, 1.5, -0.3]), np.array([0.0, -1.2, 0.7])
    density = np.exp(-((x - mean[:, None]) ** 2) / 2 / np.exp(log_var[:, None])) / np.sqrt(2 * np.pi * np.exp(log_var[:, None]))
    logs = -0.5 * ((x - mean[:, None]) ** 2 / np.exp(log_var[:, None]) + log_var[:, None]) + 0.5 * x**2
    found = jax.jit(latent.kl)(Gaussian(jnp.asarray(mean[None]), jnp.asarray(log_var[None])))
    np.testing.assert_allclose(found[0], np.trapezoid(density * logs, x), atol=1e-5)


def test_kl_sums_to_the_loss():
    q = Gaussian(jnp.asarray(draw((4, 8))), jnp.asarray(draw((4, 8), 1)))
    np.testing.assert_allclose(latent.kl(q).sum(-1), losses.kl(q), rtol=1e-5)


def test_active_dimensions_are_those_whose_mean_varies():
    spread = np.array([1.0, 0.2, 0.05, 0.0])
    means = spread * draw((500, 4)) + np.array([0, 0, 0, 3.0])
    assert jax.jit(latent.active_dimensions)(jnp.asarray(means)) == 2


def test_active_threshold_is_of_the_unbiased_variance():
    deviation = np.array([0.0699, 0.0715])  # of two images from their mean: the unbiased variance is 2 deviation^2
    assert latent.active_dimensions(jnp.stack([jnp.asarray(deviation), jnp.asarray(-deviation)])) == 1


def test_active_dimensions_of_one_image_are_refused():
    with pytest.raises(latent.LatentError, match="at least 2 images: found 1"):
        latent.active_dimensions(jnp.zeros((1, 8)))


def test_independent_of_the_batch():
    q, z = Gaussian(jnp.asarray(draw((4, 8))), jnp.asarray(draw((4, 8), 1))), jnp.asarray(draw((4, 8), 2))
    one = [Gaussian(q.mean[i : i + 1], q.log_var[i : i + 1]) for i in range(4)]
    np.testing.assert_allclose(latent.kl(q), np.concatenate([latent.kl(x) for x in one]), rtol=1e-6)
    np.testing.assert_allclose(
        latent.consistency(q.mean, z), np.concatenate([latent.consistency(x.mean, z[i : i + 1]) for i, x in enumerate(one)]), rtol=1e-6
    )
