"""The smallest networks and batches for tests of the training step, since compiling it takes most of their time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import runs
from i2i_jax import build, presets
from i2i_jax.config import Config, override
from i2i_jax.devices import parallel
from i2i_jax.inference.model import Model
from i2i_jax.models import LabelMapGenerator, ResNet
from i2i_jax.train_state import Game, TrainState
from i2i_jax.types import Batch

SIDE = 16  # pixels
KEY = jax.random.key(1)


def config_of(objective: str, *, norm: str = "instance") -> Config:
    config = Config(objective=objective)
    config.model.encoder = "conv_64"
    config.model.width, config.model.latent_dim, config.model.norm = 2, 5, norm
    config.model.discriminator_width, config.model.discriminator_layers = 4, 1
    config.model.init_gain = 1.0
    return config


def game_of(config: Config) -> Game:
    """The game of a config, with shallow networks for images of 16 pixels."""
    return shallow(build.game(config))


def shallow(game: Game) -> Game:
    """The same game with shallow networks for images of 16 pixels."""
    nets = game.networks
    return dataclasses.replace(game, networks=nets.clone(generator=_shallow(nets.generator), encoder=nets.encoder.clone(layers=2)))


def _shallow(generator):
    if isinstance(generator, LabelMapGenerator):
        return generator.clone(scores=_shallow(generator.scores))
    return generator.clone(**({"blocks": 1} if isinstance(generator, ResNet) else {"depth": 3}))


def state_of(game: Game, batch: Batch) -> TrainState:
    """A state at step 0 with random values from NumPy, since compiling `game.init` takes as long as compiling a training step."""
    shapes = jax.eval_shape(game.init, jax.random.key(0), batch)
    params, stats = random_variables(shapes.params), random_variables(shapes.batch_stats)
    return TrainState(jnp.int32(0), params, stats, {name: game.tx.init(leaves) for name, leaves in params.items()})


def random_variables(shapes):
    """Parameters or statistics of the given shapes with which features keep about the variance of the input."""
    rng = np.random.default_rng(0)

    def value(path, leaf):
        around = 1.0 if path[-1].key in ("scale", "var") else 0.0
        spread = 0.0 if path[-1].key in ("mean", "var") else 0.1 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(rng.normal(around, spread, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, shapes)


def model_of(options, objective="bicycle_gan"):
    """A model of random networks of width 2 for 64 pixels."""
    config = override(presets.bicycle_family(objective, "shapes"), runs.TINY | runs.TINY_NETWORKS | options)
    game = build.game(config)
    return Model(config, game.networks, state_of(game, build.example_batch(config)).replace(opt_state={}))


def batch_of(size: int, *, seed: int = 0, channels: int = 3) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(*(jnp.asarray(rng.uniform(-1, 1, (size, SIDE, SIDE, c)), jnp.float32) for c in (channels, 3)))


def sgd_game(objective, options=None, *, norm="instance"):
    """A game with SGD, since Adam amplifies rounding errors."""
    config = override(config_of(objective, norm=norm), options or {})
    config.kl_reduction = "sum"
    return dataclasses.replace(game_of(config), tx=optax.sgd(0.1))


def mapped_step(game, devices, state, batch, mode="shard_map"):
    """The training step over a number of devices, and its arguments on them."""
    mesh = parallel.make_mesh(jax.devices()[:devices])
    step = parallel.data_parallel(game.on_axis(parallel.AXIS).train_step, mesh, mode=mode)
    rows = parallel.local_rows(len(batch.input), mesh)
    local_batch = Batch(*(np.asarray(x)[rows] for x in batch))
    replicated_state = jax.device_put(jax.tree.map(np.asarray, state), parallel.replicated(mesh))  # the step donates its buffers
    return step, (replicated_state, parallel.global_batch(local_batch, mesh), KEY)


def mapped(*arguments, **options):
    """The result of `mapped_step`."""
    step, placed = mapped_step(*arguments, **options)
    return step(*placed)
