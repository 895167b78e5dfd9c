"""Losses against NumPy, at values computed by hand, and at extreme values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax import losses
from i2i_jax.types import Gaussian

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 5, 4, 1)).astype(np.float32)


def test_l1_is_the_mean_absolute_difference():
    a, b = jnp.float32(RNG.normal(size=(2, 3, 4, 5, 3)))
    np.testing.assert_allclose(losses.l1(a, b), np.abs(np.asarray(a) - np.asarray(b)).mean(), rtol=1e-6)


@pytest.mark.parametrize("other", [(2, 1), (1, 3), (3,), ()])
def test_l1_refuses_to_broadcast(other):
    with pytest.raises(ValueError, match=r"shapes differ: \(2, 3\) and"):
        losses.l1(jnp.zeros((2, 3)), jnp.zeros(other))


def test_kl_matches_the_integral_over_the_line():
    """KL(q || p) = E_q[log q - log p], dimension by dimension."""
    mean, log_var = RNG.normal(size=(2, 3, 2)).astype(np.float32)
    x = np.linspace(-20, 20, 40_001)
    std = np.exp(log_var / 2)[..., None]
    q = np.exp(-(((x - mean[..., None]) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))
    log_ratio = -(((x - mean[..., None]) / std) ** 2) / 2 - np.log(std) + x**2 / 2
    expected = np.trapezoid(q * log_ratio, x).sum(-1)
    np.testing.assert_allclose(losses.kl(Gaussian(jnp.asarray(mean), jnp.asarray(log_var))), expected, rtol=1e-5)


def test_kl_of_the_prior_is_zero_and_a_minimum():
    prior = Gaussian(jnp.zeros((1, 8)), jnp.zeros((1, 8)))
    assert losses.kl(prior) == 0
    gradient = jax.grad(lambda q: losses.kl(q).sum())(prior)
    assert not any(np.any(leaf) for leaf in gradient)


def test_kl_refuses_to_broadcast():
    with pytest.raises(ValueError, match="shapes differ"):
        losses.kl(Gaussian(jnp.zeros((2, 8)), jnp.zeros((1, 8))))


def test_mode_seeking_is_the_inverse_ratio_of_the_distances():
    np.testing.assert_allclose(losses.mode_seeking(jnp.float32(0.5), jnp.float32(2.0)), 1 / 0.25001, rtol=1e-6)


def test_mode_seeking_of_equal_images_is_finite():
    """At first the generator may ignore z: its images are equal."""
    value, gradient = jax.value_and_grad(losses.mode_seeking)(jnp.float32(0), jnp.float32(1))
    np.testing.assert_allclose(value, 1e5, rtol=1e-5)
    assert np.isfinite(gradient)


# name: (D on real, D on fake, G) as NumPy functions of the logits
ORACLES = {
    "vanilla": (
        lambda x: -np.log(1 / (1 + np.exp(-x))).mean(),
        lambda x: -np.log(1 - 1 / (1 + np.exp(-x))).mean(),
        lambda x: -np.log(1 / (1 + np.exp(-x))).mean(),
    ),
    "lsgan": (lambda x: ((x - 1) ** 2).mean(), lambda x: (x**2).mean(), lambda x: ((x - 1) ** 2).mean()),
    "hinge": (lambda x: np.maximum(0, 1 - x).mean(), lambda x: np.maximum(0, 1 + x).mean(), lambda x: -x.mean()),
    "wgan": (lambda x: -x.mean(), lambda x: x.mean(), lambda x: -x.mean()),
}


def test_cross_entropy_matches_numpy_and_ignores_unlabelled_positions():
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(0, 3, (2, 3, 4, 5)), rng.integers(-1, 5, (2, 3, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    terms = [-np.log(probabilities[i][classes[i]]) for i in np.ndindex(2, 3, 4) if classes[i] >= 0]
    np.testing.assert_allclose(losses.cross_entropy(jnp.asarray(logits), jnp.asarray(classes)), np.mean(terms), rtol=1e-5)
    assert losses.cross_entropy(jnp.asarray(logits), jnp.full((2, 3, 4), -1)) == 0


@pytest.mark.parametrize("name", losses.GAN_LOSSES)
def test_gan_losses_match_numpy(name):
    ours = losses.GAN_LOSSES[name]
    for loss, oracle in zip((ours.real, ours.fake, ours.generator), ORACLES[name], strict=True):
        np.testing.assert_allclose(loss(jnp.asarray(LOGITS)), oracle(LOGITS.astype(np.float64)), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "real", "fake", "generator"),
    [("vanilla", np.log(2), np.log(2), np.log(2)), ("lsgan", 1, 0, 1), ("hinge", 1, 1, 0), ("wgan", 0, 0, 0)],
)
def test_gan_losses_at_logits_of_zero(name, real, fake, generator):
    undecided, loss = jnp.zeros((1, 2, 2, 1)), losses.GAN_LOSSES[name]
    np.testing.assert_allclose([loss.real(undecided), loss.fake(undecided), loss.generator(undecided)], [real, fake, generator], atol=1e-7)


@pytest.mark.parametrize("name", losses.GAN_LOSSES)
def test_signs_of_the_gradients_of_gan_losses(name):
    """D lowers its loss by raising real and lowering fake logits, G by raising fake ones."""
    loss, logits = losses.GAN_LOSSES[name], jnp.full((1, 2, 2, 1), 0.5)
    slope = {part: float(jax.grad(lambda x, part=part: getattr(loss, part)(x))(logits).sum()) for part in ("real", "fake", "generator")}
    assert slope["real"] < 0 < slope["fake"] and slope["generator"] < 0


@pytest.mark.parametrize("part", ["real", "fake", "generator"])
def test_vanilla_stays_finite_at_extreme_logits(part):
    extreme = jnp.array([[-1e4], [1e4]])
    value, gradient = jax.value_and_grad(getattr(losses.GAN_LOSSES["vanilla"], part))(extreme)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_only_wgan_asks_for_a_penalty():
    assert [name for name, loss in losses.GAN_LOSSES.items() if loss.needs_penalty] == ["wgan"]


def test_over_scales_sums_means_so_that_a_small_scale_counts_as_much_as_a_large_one():
    scales = [jnp.full((2, 8, 8, 1), 3.0), jnp.full((2, 2, 2, 1), 5.0)]
    assert losses.over_scales(lambda x: x.mean(), scales) == 8.0
    assert losses.over_scales(jnp.mean, []) == 0.0


def test_gradient_penalty_matches_a_numeric_gradient():
    """The gradient of x -> sum(w tanh(x)) by central differences in float64."""
    weights, x = RNG.normal(size=(2, 2, 3, 4, 3))

    def function(image):
        return (weights * np.tanh(image)).sum()

    numeric = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-5
        numeric[index] = (function(x + step) - function(x - step)) / 2e-5
    expected = np.mean([(np.linalg.norm(image) - 1) ** 2 for image in numeric])
    gradient = jax.grad(lambda image: (weights.astype(np.float32) * jnp.tanh(image)).sum())(jnp.float32(x))
    np.testing.assert_allclose(losses.gradient_penalty(gradient), expected, rtol=1e-5)


def test_gradient_penalty_is_zero_at_unit_norm_and_smooth_at_no_gradient():
    unit = jnp.zeros((2, 4, 4, 3)).at[:, 1, 2, 0].set(1.0)
    assert losses.gradient_penalty(unit) == 0
    flat = jnp.zeros((2, 4, 4, 3))
    assert losses.gradient_penalty(flat) == pytest.approx(1)
    assert jnp.isfinite(jax.grad(losses.gradient_penalty)(flat)).all()
