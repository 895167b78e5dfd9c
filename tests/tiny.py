"""The smallest game that has everything: compiling is what a test of the training step costs."""

import dataclasses

import jax

from i2i_jax import build
from i2i_jax.config import Config
from i2i_jax.train_state import Game
from i2i_jax.types import Batch

SIDE = 16


def config_of(objective: str, *, norm: str = "instance") -> Config:
    config = Config(objective=objective)
    config.model.encoder = "conv_64"
    config.model.width, config.model.latent_dim, config.model.norm = 2, 5, norm
    config.model.discriminator_width, config.model.discriminator_layers = 4, 1
    config.model.init_gain = 1.0
    return config


def game_of(config: Config) -> Game:
    """The config's game with shallower networks."""
    game = build.game(config)
    nets = game.networks
    small = nets.clone(generator=nets.generator.clone(depth=3), encoder=nets.encoder.clone(layers=2))
    return dataclasses.replace(game, networks=small)


def batch_of(size: int, *, seed: int = 0, channels: int = 3) -> Batch:
    first, second = jax.random.split(jax.random.key(seed))
    return Batch(
        jax.random.uniform(first, (size, SIDE, SIDE, channels), minval=-1, maxval=1),
        jax.random.uniform(second, (size, SIDE, SIDE, 3), minval=-1, maxval=1),
    )
