"""Memory of a training step: parameters, Adam's moments, and activations kept for the backward pass.

    python benchmarks/memory.py [--size=1024 --batch=2]

Computed from shapes for BicycleGAN in float32, with and without config.train.rematerialize, so no device needs that much memory. The
peak of a step depends on the compiler (benchmarks/step.py reports it): XLA's CPU compiler undoes rematerialization.
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

_SIZE = flags.DEFINE_integer("size", 1024, "Side of the images in pixels, a power of two and at least 256.")
_BATCH = flags.DEFINE_integer("batch", 2, "Pairs per batch.")


def config_of(size: int, batch: int) -> Config:
    config = presets.bicycle_family("bicycle_gan", "facades")
    config.data.load_size = config.data.crop_size = size
    config.data.batch_size = batch
    return config


def kept(game: Game, state: TrainState, batch: Batch, *, rematerialize: bool) -> Any:
    """The shapes of what jax.vjp keeps of one forward pass, including the parameters."""

    def pull_back(state: TrainState, batch: Batch) -> Any:
        terms = game.losses_of(state, jax.random.key(0), PLAYERS, game.shard, batch)
        totals = lambda params: [sum(player_terms.values()) for player_terms in terms(params)[0]]  # noqa: E731
        return jax.vjp(jax.checkpoint(totals, policy=KEEP_CONVOLVED) if rematerialize else totals, state.params)[1]

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
