"""The smallest game that has everything: compiling is what a test of the training step costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from i2i_jax import build
from i2i_jax.config import Config
from i2i_jax.devices import parallel
from i2i_jax.train_state import Game, TrainState
from i2i_jax.types import Batch

SIDE = 16
KEY = jax.random.key(1)


def config_of(objective: str, *, norm: str = "instance") -> Config:
    config = Config(objective=objective)
    config.model.encoder = "conv_64"
    config.model.width, config.model.latent_dim, config.model.norm = 2, 5, norm
    config.model.discriminator_width, config.model.discriminator_layers = 4, 1
    config.model.init_gain = 1.0
    return config


def game_of(config: Config) -> Game:
    """The config's game with shallower networks."""
    return shallow(build.game(config))


def shallow(game: Game) -> Game:
    """The same game for images of 16 pixels."""
    nets = game.networks
    generator = nets.generator.clone(depth=3) if hasattr(nets.generator, "depth") else _shallow_label_maps(nets.generator)
    return dataclasses.replace(game, networks=nets.clone(generator=generator, encoder=nets.encoder.clone(layers=2)))


def _shallow_label_maps(generator):
    return generator.clone(scores=generator.scores.clone(depth=3))


def state_of(game: Game, batch: Batch) -> TrainState:
    """At step 0, with values from NumPy: compiling `game.init` takes as long as compiling a training step."""
    rng = np.random.default_rng(0)

    def value(path, leaf):
        around = 1.0 if path[-1].key in ("scale", "var") else 0.0
        spread = 0.0 if path[-1].key in ("mean", "var") else 0.1 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(rng.normal(around, spread, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(game.init, jax.random.key(0), batch)
    params, stats = (jax.tree_util.tree_map_with_path(value, tree) for tree in (shapes.params, shapes.batch_stats))
    return TrainState(jnp.int32(0), params, stats, {name: game.tx.init(leaves) for name, leaves in params.items()})


def batch_of(size: int, *, seed: int = 0, channels: int = 3) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(*(jnp.asarray(rng.uniform(-1, 1, (size, SIDE, SIDE, c)), jnp.float32) for c in (channels, 3)))


def sgd_game(objective, norm="instance"):
    """SGD, since Adam magnifies rounding."""
    config = config_of(objective, norm=norm)
    config.kl_reduction = "sum"
    return dataclasses.replace(game_of(config), tx=optax.sgd(0.1))


def mapped_step(game, devices, state, batch, mode="shard_map"):
    """The game's step over so many devices, and its arguments there."""
    mesh = parallel.make_mesh(jax.devices()[:devices])
    step = parallel.data_parallel(game.on_axis(parallel.AXIS).train_step, mesh, mode=mode)
    rows = parallel.local_rows(len(batch.input), mesh)
    dealt = Batch(*(np.asarray(x)[rows] for x in batch))
    own = jax.device_put(jax.tree.map(np.asarray, state), parallel.replicated(mesh))  # the step takes its buffers
    return step, (own, parallel.global_batch(dealt, mesh), KEY)


def mapped(*arguments, **options):
    """What that step gives."""
    step, placed = mapped_step(*arguments, **options)
    return step(*placed)
