"""The training step: the order of updates, its determinism and its batch statistics."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from i2i_jax.objectives import Losses
from i2i_jax.types import PLAYERS, Batch, Shard
from tiny import KEY, batch_of, config_of, game_of, state_of

pytestmark = pytest.mark.slow

BATCH = batch_of(4)


def step_of(game):
    return jax.jit(game.train_step)


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool(jnp.array_equal(x, y)), a, b))


def differ(a, b):
    return {name for name in a if not same(a[name], b[name])}


@pytest.fixture(scope="module")
def bicycle():
    game = game_of(config_of("bicycle_gan"))
    return step_of(game), state_of(game, BATCH)


def test_terms_are_multiplied_by_their_factors():
    plain = game_of(config_of("pix2pix"))
    scaled = dataclasses.replace(plain, factors=lambda step: {"l1": 0.5 * step, "of another objective": 3.0})
    state = dataclasses.replace(state_of(plain, BATCH), step=jnp.int32(3))
    (expected, _), (found, _) = (jax.jit(game.losses_of(state, KEY, PLAYERS, Shard(), BATCH))(state.params) for game in (plain, scaled))
    np.testing.assert_allclose(found.generator.pop("l1"), 1.5 * expected.generator.pop("l1"), rtol=1e-6)
    assert found == expected


def test_same_key_gives_the_same_state_bit_by_bit(bicycle):
    step, state = bicycle
    first, second = (step(state, BATCH, jax.random.key(1)) for _ in range(2))
    assert same(first, second)


def test_key_and_step_change_the_noise(bicycle):
    step, state = bicycle
    _, losses = step(state, BATCH, jax.random.key(1))
    _, losses_of_other_key = step(state, BATCH, jax.random.key(2))
    _, losses_of_later_step = step(state.replace(step=jnp.int32(7)), BATCH, jax.random.key(1))
    for other in (losses_of_other_key, losses_of_later_step):
        assert losses.generator["l1"] != other.generator["l1"]
        assert losses.generator["latent"] != other.generator["latent"]
        assert losses.generator["kl"] == other.generator["kl"]  # depends on the images only


def test_step_moves_every_network_and_its_optimizer_and_counts(bicycle):
    step, state = bicycle
    after, _ = step(state, BATCH, jax.random.key(1))
    assert after.step == 1 and after.step.dtype == jnp.int32
    assert differ(state.params, after.params) == differ(state.opt_state, after.opt_state) == set(state.params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_init_is_a_function_of_its_key():
    game = game_of(config_of("pix2pix"))
    init = jax.jit(game.init)
    first, again, other = (init(jax.random.key(i), BATCH) for i in (0, 0, 1))
    assert same(first, again) and differ(first.params, other.params) == set(first.params)
    assert same(first, init(jax.random.key(0), batch_of(4, seed=5)))  # of the batch only the shapes matter


# ---- update order


def sgd(game, rate=0.1):
    return dataclasses.replace(game, tx=optax.sgd(rate))


def total(losses):
    return {player: sum(terms.values()) for player, terms in losses._asdict().items()}


def test_simultaneous_updates_use_gradients_at_the_old_parameters():
    """Each network is updated by the gradient of its own player's loss at the old parameters."""
    game = sgd(game_of(config_of("cae_gan")), rate=1.0)  # no noise: the objective needs no key
    state = state_of(game, BATCH)

    @jax.jit
    def gradients_of(params):
        def loss(params, player):
            return total(nn.apply(game.objective, game.networks)({"params": params}, BATCH))[player]

        return {player: jax.grad(loss)(params, player) for player in PLAYERS}

    after, _ = step_of(game)(state, BATCH, jax.random.key(1))
    gradients = gradients_of(state.params)
    for name, player in {"generator": "generator", "encoder": "generator", "discriminator": "discriminator"}.items():
        moved = jax.tree.map(jnp.subtract, state.params[name], after.params[name])
        scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients[player][name]))
        jax.tree.map(lambda a, b, s=scale: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * s + 1e-6), moved, gradients[player][name])


def test_alternating_updates_the_generator_against_the_new_discriminator():
    config = config_of("pix2pix")
    simultaneous = sgd(game_of(config))
    alternating = dataclasses.replace(simultaneous, update="alternating")
    state, key = state_of(simultaneous, BATCH), jax.random.key(1)
    simultaneously, old = step_of(simultaneous)(state, BATCH, key)
    alternated, new = step_of(alternating)(state, BATCH, key)
    # The discriminator's update is the same ...
    np.testing.assert_allclose(new.discriminator["gan"], old.discriminator["gan"], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alternated.params["discriminator"], simultaneously.params["discriminator"]
    )
    # ... and the generator's loss is that against the updated discriminator.
    _, against_new = step_of(simultaneous)(
        state.replace(params=state.params | {"discriminator": alternated.params["discriminator"]}), BATCH, key
    )
    np.testing.assert_allclose(new.generator["gan"], against_new.generator["gan"], rtol=1e-5)
    assert abs(float(new.generator["gan"]) - float(old.generator["gan"])) > 1e-4
    np.testing.assert_allclose(new.generator["l1"], old.generator["l1"], rtol=1e-6)
    assert differ(alternated.params, simultaneously.params) >= {"generator"}


@pytest.mark.parametrize(("update", "passes"), [("simultaneous", 2), ("alternating", 3)])
def test_discriminator_statistics_follow_its_images(update, passes):
    """One update for each forward pass of D: fake and real images, and once more in the generator's phase. The generator has one pass."""
    config = config_of("pix2pix", norm="batch")
    game = dataclasses.replace(game_of(config), update=update)
    state = state_of(game, BATCH)
    after, _ = step_of(game)(state, BATCH, jax.random.key(1))
    # A running mean that stays at m after n updates with means near zero has shrunk by 0.9 ** n.
    far = state.replace(batch_stats=jax.tree.map(lambda leaf: leaf + 1000.0, state.batch_stats))
    shifted, _ = step_of(game)(far, BATCH, jax.random.key(1))
    moved = jax.tree.map(lambda a, b: (a - b) / 1000, shifted.batch_stats, after.batch_stats)
    for name, count in {"discriminator": passes, "generator": 1}.items():
        for leaf in jax.tree.leaves(moved[name]):
            np.testing.assert_allclose(leaf, 0.9**count, rtol=1e-3)


def convolutions(text):
    return len(re.findall(r"\bconvolution\(|\bdot\(", text))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_both_phases_share_the_generators_forward_pass(norm):
    """It is traced twice, but XLA computes it once, with and without a norm."""

    def compiled(norm):
        game = dataclasses.replace(game_of(config_of("pix2pix", norm=norm)), update="alternating")
        return step_of(game).lower(state_of(game, BATCH), BATCH, jax.random.key(1)).compile().as_text()

    assert convolutions(compiled(norm)) == convolutions(compiled("none"))


def test_rematerialisation_computes_all_but_the_convolutions_again():
    game = game_of(config_of("bicycle_gan"))
    state, rematerialized = state_of(game, BATCH), dataclasses.replace(game, rematerialize=True)
    usual, again = (step_of(g).lower(state, BATCH, jax.random.key(1)).as_text() for g in (game, rematerialized))
    assert again.count("stablehlo.convolution") == usual.count("stablehlo.convolution")
    assert again.count("stablehlo.rsqrt") > usual.count("stablehlo.rsqrt")


def test_rematerialisation_changes_nothing():
    game = sgd(game_of(config_of("bicycle_gan")))
    state, rematerialized = state_of(game, BATCH), dataclasses.replace(game, rematerialize=True)
    expected, ours = (step_of(g)(state, BATCH, jax.random.key(1)) for g in (game, rematerialized))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, expected)


def test_losses_are_merged_by_player():
    merged = Losses({"gan": 1}, {"gan": 2}) | Losses({"l1": 3}, {})
    assert merged == Losses({"gan": 1, "l1": 3}, {"gan": 2})


def test_training_learns_to_copy():
    """pix2pix without a GAN loss: the distance to a constant target decreases."""
    config = config_of("pix2pix")
    config.weights.gan = 0.0
    game = dataclasses.replace(game_of(config), tx=optax.adam(1e-2))
    batch = Batch(BATCH.input, jnp.full_like(BATCH.target, 0.5))
    state, step = state_of(game, batch), step_of(game)
    losses = []
    for _ in range(30):
        state, terms = step(state, batch, jax.random.key(0))
        losses.append(float(terms.generator["l1"]))
    assert set(state.params) == {"generator"}
    assert losses[-1] < 0.5 * losses[0]
