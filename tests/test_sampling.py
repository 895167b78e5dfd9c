"""Latents, interpolation, padding, and translation and encoding of new images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax import build, sampling

pytestmark = pytest.mark.slow


def image(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)


@pytest.fixture(params=["bicycle", "pix2pix"])
def run(request, trained):
    """(networks, state, mode) of a trained run."""
    game, state = build.load(trained(request.param))
    return game.networks, state, build.mode(build.read_config(trained(request.param)))


def test_latents_depend_only_on_the_key_and_the_index():
    key = jax.random.key(3)
    z = sampling.latents(key, 4, 5, 8)
    assert z.shape == (4, 5, 8)
    np.testing.assert_array_equal(z[:2], sampling.latents(key, 2, 5, 8))
    assert len(np.unique(np.asarray(z))) == z.size
    synced = sampling.latents(key, 4, 5, 8, sync=True)
    np.testing.assert_array_equal(synced, np.broadcast_to(synced[:1], synced.shape))
    assert len(np.unique(np.asarray(synced))) == 5 * 8
    many = np.asarray(sampling.latents(key, 1, 4000, 8))
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.02


def test_padding_is_a_reflection():
    images = image(2, 3, 5, 1)
    padded = sampling.pad_to_multiple(images, 4)
    np.testing.assert_array_equal(padded, np.pad(images, ((0, 0), (0, 1), (0, 3), (0, 0)), mode="symmetric"))
    np.testing.assert_array_equal(sampling.pad_to_multiple(padded, 4), padded)
    dot = sampling.pad_to_multiple(images[:, :1, :1], 64)
    np.testing.assert_array_equal(dot, np.broadcast_to(images[:, :1, :1], (2, 64, 64, 1)))


def test_translation_of_a_size_that_needs_no_padding(run):
    networks, state, mode = run
    inputs, z = image(1, 64, 128, 3), jnp.ones((1, 1, networks.latent_dim))
    variables = {"params": state.params["generator"], "batch_stats": state.batch_stats.get("generator", {})}
    key = jax.random.split(jax.random.fold_in(jax.random.key(1), 0), 1)[0]
    direct, _ = networks.generator.apply(
        variables, inputs, *([z[0]] if networks.latent_dim else []), use_running_average=False, deterministic=not mode.dropout,
        rngs={"dropout": key}, mutable=["batch_stats"],
    )  # fmt: skip
    found = sampling.translate(networks, state, inputs, z, jax.random.key(1), mode=mode)
    np.testing.assert_allclose(found[0, 0], direct[0], atol=1e-5)


def test_other_sizes_are_padded_and_cropped(run):
    networks, state, mode = run
    inputs, z = image(1, 70, 100, 3), jnp.ones((1, 2, networks.latent_dim))
    found = sampling.translate(networks, state, inputs, z, jax.random.key(1), mode=mode)
    assert found.shape == (1, 2, 70, 100, 3)
    padded = np.pad(inputs, ((0, 0), (0, 58), (0, 28), (0, 0)), mode="symmetric")
    whole = sampling.translate(networks, state, jnp.asarray(padded), z, jax.random.key(1), mode=mode)
    np.testing.assert_array_equal(found, whole[:, :, :70, :100])


def test_an_output_does_not_depend_on_its_neighbours(run):
    networks, state, mode = run
    translate = jax.jit(lambda inputs, z: sampling.translate(networks, state, inputs, z, jax.random.key(1), mode=mode))
    z = sampling.latents(jax.random.key(0), 3, 2, networks.latent_dim)
    first = image(3, 64, 64, 3)
    other = first.at[1:].set(image(2, 64, 64, 3, seed=1) * 0.1)
    np.testing.assert_array_equal(translate(first, z)[0], translate(other, z)[0])
    assert not np.array_equal(translate(first, z)[1], translate(other, z)[1])
    np.testing.assert_allclose(translate(first, z)[0], translate(first[:1], z[:1])[0], atol=1e-5)


def test_encode(trained):
    game, state = build.load(trained("bicycle"))
    targets = image(3, 64, 64, 3)
    posterior = sampling.encode(game.networks, state, targets)
    assert posterior.mean.shape == posterior.log_var.shape == (3, game.networks.latent_dim)
    single = sampling.encode(game.networks, state, targets[1:2])
    np.testing.assert_allclose(single.mean[0], posterior.mean[1], atol=1e-6)
    np.testing.assert_allclose(single.log_var[0], posterior.log_var[1], atol=1e-6)


def test_dropout_and_statistics_are_as_the_mode_says(trained):
    game, state = build.load(trained("pix2pix"))
    z, inputs = jnp.zeros((1, 1, 0)), image(1, 64, 64, 3)
    outputs = {
        (mode, seed): np.asarray(sampling.translate(game.networks, state, inputs, z, jax.random.key(seed), mode=sampling.Mode(*mode)))
        for mode in ((False, False), (True, False), (False, True))
        for seed in (0, 1)
    }
    np.testing.assert_array_equal(outputs[(False, False), 0], outputs[(False, False), 1])
    assert not np.array_equal(outputs[(True, False), 0], outputs[(True, False), 1])
    assert not np.array_equal(outputs[(False, False), 0], outputs[(False, True), 0])


@pytest.mark.parametrize("dim", [2, 8])
def test_slerp_moves_along_the_arc_at_constant_speed(dim):
    start, end = np.random.default_rng(0).normal(size=(2, dim))
    path = np.stack([sampling.slerp(jnp.asarray(start), jnp.asarray(end), jnp.float32(t)) for t in np.linspace(0, 1, 5)])
    np.testing.assert_allclose(path[[0, -1]], [start, end], atol=1e-5)
    for size in (1, 3.0):  # the norm stays constant between vectors of equal norm
        ends = [jnp.asarray(size * x / np.linalg.norm(x)) for x in (start, end)]
        arc = np.stack([sampling.slerp(*ends, jnp.float32(t)) for t in np.linspace(0, 1, 5)])
        np.testing.assert_allclose(np.linalg.norm(arc, axis=1), size, rtol=1e-5)
        steps = np.linalg.norm(np.diff(arc, axis=0), axis=1)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-4)


@pytest.mark.parametrize("end", [[2.0, 4.0], [-1.0, -2.0], [1.0, 2.0], [0.0, 0.0]])
def test_slerp_between_parallel_latents_is_finite_and_exact_at_the_ends(end):
    start, end = jnp.array([1.0, 2.0]), jnp.array(end)
    path = np.stack([sampling.slerp(start, end, jnp.float32(t)) for t in (0, 0.5, 1)])
    assert np.isfinite(path).all()
    np.testing.assert_allclose(path[[0, 2]], [start, end], atol=1e-6)


def test_a_walk_visits_each_station_once_and_returns():
    stations = sampling.latents(jax.random.key(0), 1, 3, 4)[0]
    walk = sampling.walk(stations, 5)
    assert walk.shape == (3, 5, 4)
    np.testing.assert_allclose(walk[:, 0], stations, atol=1e-6)
    path = np.asarray(walk).reshape(-1, 4)
    assert len(np.unique(path.round(5), axis=0)) == 15
    steps = np.linalg.norm(np.roll(path, -1, 0) - path, axis=1)
    assert steps.min() > 0 and steps.max() < np.linalg.norm(stations[0] - stations[1])
