"""The moving average of the weights: its values, and where it is used."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from i2i_jax import build, configs
from i2i_jax.config import ConfigError, override
from i2i_jax.interop import model_card
from i2i_jax.training import Stopped, loop
from tiny import KEY, batch_of, config_of, game_of, mapped_step, sgd_game, state_of

pytestmark = pytest.mark.slow

BATCH = batch_of(4)
DECAY = 0.4  # above (1 + t) / (10 + t) in the first steps, below it from step 5 on


def averaging(game):
    return dataclasses.replace(game, ema=DECAY)


def with_average(state, *names):
    return state.replace(ema={name: jax.tree.map(jnp.copy, state.params[name]) for name in names})


def test_values():
    game = averaging(game_of(config_of("bicycle_gan")))
    step, state = jax.jit(game.train_step), with_average(state_of(game, BATCH), "generator", "encoder")
    plain_step, plain = jax.jit(dataclasses.replace(game, ema=0.0).train_step), state_of(game, BATCH)
    expected = jax.tree.map(lambda x: np.asarray(x, np.float64), state.ema)
    for t in range(8):
        state, losses = step(state, BATCH, KEY)
        plain, plain_losses = plain_step(plain, BATCH, KEY)
        decay = min(DECAY, (1 + t) / (10 + t))
        new = {name: state.params[name] for name in expected}
        expected = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * np.asarray(p, np.float64), expected, new)
        assert losses == plain_losses
    jax.tree.map(np.testing.assert_array_equal, state.params, plain.params)
    jax.tree.map(lambda x, e: np.testing.assert_allclose(x, e, rtol=1e-5, atol=1e-6), state.ema, expected)
    assert plain.ema == {}
    assert state.averaged().params["encoder"] is state.ema["encoder"]
    assert state.averaged().params["discriminator"] is state.params["discriminator"]


def test_networks_that_are_averaged():
    for objective, names in {"bicycle_gan": {"generator", "encoder"}, "pix2pix": {"generator"}}.items():
        state = jax.eval_shape(averaging(game_of(config_of(objective))).init, KEY, BATCH)
        assert set(state.ema) == names


def test_two_devices_average_as_one():
    game = averaging(sgd_game("bicycle_gan"))
    state = with_average(state_of(game, BATCH), "generator", "encoder")
    one, two = (step(*arguments)[0].ema for step, arguments in (mapped_step(game, n, state, BATCH) for n in (1, 2)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, two)


@pytest.fixture(scope="module")
def run(tmp_path_factory, shapes_dir):
    """A run of 5 steps, and its state at the end."""
    folder = tmp_path_factory.mktemp("ema") / "run"
    return folder, runs.train(config(shapes_dir), folder)


def config(shapes_dir):
    return runs.tiny("bicycle", shapes_dir, {"train.steps": 5, "train.checkpoint_every": 3, "train.ema": DECAY})


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_resumed_run_has_the_same_average(run, tmp_path, shapes_dir, monkeypatch):
    monkeypatch.setattr(loop.stop, "listening", lambda config: StopAfter(3))
    with pytest.raises(Stopped):
        runs.train(config(shapes_dir), tmp_path)
    monkeypatch.undo()
    equal(runs.train(config(shapes_dir), tmp_path), run[1])


class StopAfter:
    """Stands for the listener of signals: tells training to stop after a step."""

    def __init__(self, last: int):
        self._last = last

    def __enter__(self):
        return lambda step: step == self._last

    def __exit__(self, *_):
        pass


def test_inference_uses_the_average(run, tmp_path):
    folder, state = run
    assert not np.array_equal(jax.tree.leaves(state.ema)[0], jax.tree.leaves(state.params["generator"])[0])
    _, loaded = build.load(folder, networks=None)
    equal(loaded.params, state.params | state.ema)
    assert loaded.ema == {}

    packed = tmp_path / "model.safetensors"
    model_card.pack(folder, packed)
    _, from_packed = build.load(packed)
    equal(from_packed.params, {name: loaded.params[name] for name in from_packed.params})


def test_fine_tuning_starts_from_the_average(run):
    folder, state = run
    tuned = override(configs.read(f"finetune:{folder}"), {"train.ema": 0.9})
    fresh = build.game(tuned).init(jax.random.key(0), build.example_batch(tuned))
    started = build.start_from(tuned, fresh)
    equal(started.params, state.params | state.ema)
    equal(started.ema, state.ema)
    assert int(started.step) == 0


def test_another_decay_is_another_run(run, shapes_dir):
    with pytest.raises(ConfigError, match=r"train\.ema"):
        runs.train(override(config(shapes_dir), {"train.ema": 0.0}), run[0])
