"""Training on several devices gives the same results as on one; how rows are dealt to devices."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from i2i_jax.devices import parallel
from i2i_jax.types import Batch, Shard
from tiny import KEY, batch_of, mapped, sgd_game, state_of

pytestmark = pytest.mark.slow


def assert_close(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=tolerance), jax.device_get(a), jax.device_get(b))


@pytest.fixture(scope="module")
def eight_devices():
    """BicycleGAN: its game, a batch of 16 pairs, its state, and the result of a step on eight devices."""
    game, batch = sgd_game("bicycle_gan"), batch_of(16)
    state = state_of(game, batch)
    return game, batch, state, mapped(game, 8, state, batch)


def test_one_device_and_eight_give_the_same_step(eight_devices):
    game, batch, state, (after, losses) = eight_devices
    expected, expected_losses = jax.jit(game.train_step)(state, batch, KEY)
    assert_close(losses, expected_losses)
    assert_close(after.params, expected.params)
    assert float(jnp.abs(after.params["encoder"]["mean"]["kernel"] - state.params["encoder"]["mean"]["kernel"]).max()) > 1e-3


@pytest.mark.parametrize("mode", ["shard_map", "pmap"])
def test_mode_seeking_is_that_of_the_global_batch(mode):
    game, batch = sgd_game("bicycle_gan", {"weights.mode_seeking": 0.5}), batch_of(8)
    state = state_of(game, batch)
    expected, expected_losses = jax.jit(game.train_step)(state, batch, KEY)
    after, losses = mapped(game, 2, state, batch, mode=mode)
    assert_close(losses, expected_losses)
    assert_close(after.params, expected.params)


def test_pmap_gives_the_step_of_shard_map(eight_devices):
    game, batch, state, (after, losses) = eight_devices
    by_pmap, losses_by_pmap = mapped(game, 8, state, batch, mode="pmap")
    assert_close(losses_by_pmap, losses, tolerance=1e-6)
    assert_close(by_pmap.params, after.params, tolerance=1e-6)
    assert by_pmap.step.sharding.is_fully_replicated


def test_what_a_mapped_step_returns_is_the_same_on_every_device(eight_devices):
    *_, (after, losses) = eight_devices
    for leaf in jax.tree.leaves((after.params, losses)):
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        assert len(others) == 7 and all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("options", [{}, {"gan_loss": "wgan"}], ids=str)
def test_systems_without_halves_give_the_same_step_on_four_devices(options):
    """Each row keeps its latent and its point between real and fake, though devices get rows of both halves."""
    game, batch = sgd_game("pix2pix_noise", options), batch_of(8)
    state = state_of(game, batch)
    expected, expected_losses = jax.jit(game.train_step)(state, batch, KEY)
    for several in (game, in_two_microbatches(game)):
        after, losses = mapped(several, 4 // several.shard.microbatches, state, batch)
        assert_close(losses, expected_losses)
        assert_close(after.params, expected.params)


def in_two_microbatches(game):
    return dataclasses.replace(game, shard=game.shard._replace(microbatches=2))


def test_microbatches_give_the_same_step(eight_devices):
    game, batch, state, (after, losses) = eight_devices
    accumulated, accumulated_losses = mapped(in_two_microbatches(game), 4, state, batch)
    assert_close(accumulated_losses, losses)
    assert_close(accumulated.params, after.params)


def test_batch_statistics_are_averaged():
    game, batch = sgd_game("pix2pix", norm="batch"), batch_of(4)
    state, step = state_of(game, batch), jax.jit(game.train_step)
    both, _ = mapped(game, 2, state, batch)
    rows = parallel.device_order(4, 2).reshape(2, 2)
    single = [step(state, Batch(*(x[own] for x in batch)), KEY)[0].batch_stats for own in rows]
    average = jax.tree.map(lambda a, b: (a + b) / 2, *single)
    assert_close(both.batch_stats, average)
    assert_close(jax.jit(in_two_microbatches(game).train_step)(state, batch, KEY)[0].batch_stats, average)


@pytest.mark.parametrize("mode", ["shard_map", "pmap"])
@pytest.mark.parametrize("objective", ["pix2pix", "bicycle_gan"])
def test_batch_norm_over_the_whole_batch_gives_the_step_of_one_device(objective, mode):
    game, batch = sgd_game(objective, {"model.norm_over": "batch"}, norm="batch"), batch_of(8)
    state = state_of(game, batch)
    expected, expected_losses = jax.jit(game.train_step)(state, batch, KEY)
    after, losses = mapped(game, 4, state, batch, mode=mode)
    assert_close(losses, expected_losses)
    assert_close(after.params, expected.params)
    assert_close(after.batch_stats, expected.batch_stats)
    apart, _ = mapped(dataclasses.replace(game, norm_over="device"), 4, state, batch, mode=mode)
    difference = jax.tree.map(lambda a, b: float(abs(a - b).max()), jax.device_get(apart.params), jax.device_get(expected.params))
    assert max(jax.tree.leaves(difference)) > 1e-3


@pytest.mark.parametrize("mode", ["shard_map", "pmap"])
def test_dropout_masks_are_those_of_the_global_batch(mode):
    """So pix2pix with batch norm over the whole batch takes the step of one device."""
    options = {"model.norm_over": "batch", "model.dropout": True, "model.generator": "resnet_6"}
    game, batch = sgd_game("pix2pix", options, norm="batch"), batch_of(8)
    state = state_of(game, batch)
    expected, expected_losses = jax.jit(game.train_step)(state, batch, KEY)
    after, losses = mapped(game, 4, state, batch, mode=mode)
    assert_close(losses, expected_losses)
    assert_close(after.params, expected.params)
    _, other_masks = jax.jit(game.train_step)(state, batch, jax.random.key(7))
    assert abs(float(other_masks.generator["l1"] - expected_losses.generator["l1"])) > 1e-4


# ---- rows


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("per_device", [1, 2, 3, 4, 6])
def test_device_order_deals_every_row_once(devices, per_device):
    order = parallel.device_order(devices * per_device, devices)
    assert sorted(order) == list(range(devices * per_device))


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 6, 8])
def test_every_device_gets_rows_of_both_halves_in_the_same_pairs(devices):
    """Row i of the first half meets row i of the second, on any number of devices."""
    dealt = parallel.device_order(48, devices).reshape(devices, 2, -1)
    first, second = dealt[:, 0].ravel(), dealt[:, 1].ravel()
    assert list(first) == list(range(24)) and list(second) == list(range(24, 48))


def test_odd_rows_per_device_stay_in_order():
    assert list(parallel.device_order(6, 2)) == list(range(6))


def test_one_process_reads_every_row_and_spreads_them():
    mesh = parallel.make_mesh(jax.devices()[:8])
    assert list(parallel.local_rows(16, mesh)) == list(parallel.device_order(16, 8))
    spread = parallel.global_batch({"x": np.arange(16.0)}, mesh)["x"]
    assert [list(shard.data) for shard in spread.addressable_shards] == [[i, i + 1] for i in range(0, 16, 2)]


# ---- randomness


def on_devices(function, devices):
    """`function()` on each device, stacked."""
    mesh = parallel.make_mesh(jax.devices()[:devices])
    spec = PartitionSpec(parallel.AXIS)
    return jax.jit(jax.shard_map(lambda: function()[None], mesh=mesh, in_specs=(), out_specs=spec, check_vma=False))()


@pytest.mark.parametrize("devices", [2, 8])
def test_latents_are_the_same_numbers_on_any_number_of_devices(devices):
    expected = parallel.draw(jax.random.normal, KEY, (8, 3), Shard())
    draw = partial(parallel.draw, jax.random.normal, KEY, (8 // devices, 3), Shard(parallel.AXIS))
    np.testing.assert_array_equal(on_devices(draw, devices).reshape(8, 3), expected)


def test_latents_are_the_same_numbers_in_any_number_of_microbatches():
    expected = parallel.draw(jax.random.normal, KEY, (8, 3), Shard())
    shards = [Shard(parallel.AXIS, microbatches=2, microbatch=index) for index in range(2)]
    drawn = on_devices(lambda: jnp.stack([parallel.draw(jax.random.normal, KEY, (2, 3), shard) for shard in shards]), 2)
    np.testing.assert_array_equal(drawn.reshape(8, 3), expected)


def test_mean_and_shard_count_over_devices():
    def function():
        index = jax.lax.axis_index(parallel.AXIS)
        return jnp.stack([parallel.mean(index.astype(jnp.float32), parallel.AXIS), jnp.float32(parallel.shard_count(Shard(parallel.AXIS)))])

    np.testing.assert_array_equal(on_devices(function, 4), 4 * [[1.5, 4.0]])


def test_without_an_axis_nothing_is_mapped():
    assert parallel.shard_count(Shard()) == 1
    assert parallel.mean({"x": 3.0}, None) == {"x": 3.0}
