"""What a training step holds, in bytes: parameters, Adam's moments, and what its forward pass keeps for the backward pass.

    python benchmarks/memory.py [--size=1024 --batch=2]

Read from shapes, so no device needs to have that memory: BicycleGAN in float32, with and without config.train.rematerialize. What a
step takes at its highest is a compiler's affair (benchmarks/step.py reports it): XLA's for CPUs undoes rematerialisation.
"""

from typing import Any

import jax
import tables
import timing
from absl import flags

from i2i_jax import build, presets
from i2i_jax.commands import app
from i2i_jax.config import Config
from i2i_jax.train_state import KEEP_CONVOLVED, Game, TrainState
from i2i_jax.types import PLAYERS, Batch

_SIZE = flags.DEFINE_integer("size", 1024, "Pixels, a power of two from 256 on.")
_BATCH = flags.DEFINE_integer("batch", 2, "Pairs.")


def config_of(size: int, batch: int) -> Config:
    config = presets.bicycle_family("bicycle_gan", "facades")
    config.data.load_size = config.data.crop_size = size
    config.data.batch_size = batch
    return config


def kept(game: Game, state: TrainState, batch: Batch, *, rematerialize: bool) -> Any:
    """The shapes of what jax.vjp keeps of one forward pass, the parameters among it."""

    def pull_back(state: TrainState, batch: Batch) -> Any:
        terms = game.losses_of(state, jax.random.key(0), PLAYERS, game.shard, batch)
        play = lambda params: [sum(of_player.values()) for of_player in terms(params)[0]]  # noqa: E731
        return jax.vjp(jax.checkpoint(play, policy=KEEP_CONVOLVED) if rematerialize else play, state.params)[1]

    return jax.eval_shape(pull_back, state, batch)


def gigabytes(shapes: Any) -> float:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)) / 1e9


def main(argv: list[str]) -> None:
    config = config_of(_SIZE.value, _BATCH.value)
    game = build.game(config)
    batch = jax.eval_shape(lambda: build.example_batch(config, _BATCH.value))
    state = jax.eval_shape(game.init, jax.random.key(0), batch)
    parameters = gigabytes(state.params)
    found = {
        "parameters": parameters,
        "Adam's moments": gigabytes(state.opt_state),
        "kept for the backward pass": gigabytes(kept(game, state, batch, rematerialize=False)) - parameters,
        "the same with train.rematerialize": gigabytes(kept(game, state, batch, rematerialize=True)) - parameters,
    }
    head = [f"BicycleGAN, {_SIZE.value} x {_SIZE.value}, {_BATCH.value} pairs", "GB"]
    timing.write("memory", found, tables.lines(head, [[name, f"{value:.2f}"] for name, value in found.items()]))


if __name__ == "__main__":
    app.start(main)
