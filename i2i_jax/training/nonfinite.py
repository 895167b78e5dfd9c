"""NaN and Inf: in which loss term, which network, and which term's gradient they are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from i2i_jax.config import Config
from i2i_jax.data.loader import RawBatch
from i2i_jax.devices import parallel
from i2i_jax.train_state import PLAYER_OF_NETWORK, Game, TrainState
from i2i_jax.training.pieces import Pieces, training_step
from i2i_jax.types import Batch, Shard


class Diverged(RuntimeError):
    """A loss, a gradient or a network is NaN or Inf: the message names it and the step."""


def names(values: dict[str, float], state: TrainState) -> list[str]:
    """The loss terms in `values`, and the networks in `state`, that are not finite, in words."""
    kinds = {"params": "a parameter", "batch_stats": "a statistic", "opt_state": "the optimizer", "ema": "the average"}
    trees = {f"{text} of {name}": tree for kind, text in kinds.items() for name, tree in getattr(state, kind).items()}
    finite = jax.device_get(_finite(trees))
    bad_terms = [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]
    return bad_terms + [f"{name} is not finite" for name in trees if not finite[name]]


def gradient_names(pieces: Pieces, state: TrainState | None, batch: RawBatch, key: jax.Array) -> list[str]:
    """The gradients of a step from `state` that are not finite, in words; none where the state before the step was not kept."""
    if state is None:
        return []
    _, finite = training_step(pieces.config, pieces.game, pieces.mesh, gradients)(state, batch, key)
    return [f"the gradient of {name} is not finite" for name, flag in jax.device_get(finite).items() if flag < 1]


def diverged(bad: list[str], step: int, newest_checkpoint: int | None, config: Config) -> Diverged:
    """The error that names what is not finite, where training can resume, and what may help."""
    kept = f"the checkpoint of step {newest_checkpoint} is the last good one" if newest_checkpoint else "there is no checkpoint yet"
    closer = "" if config.train.debug_nans else "train.debug_nans=True resumes from it and names the first step and the gradient; "
    return Diverged(f"{', '.join(bad)} at step {step}; {kept}; {closer}a lower optimizer.learning_rate may help")


def gradients(game: Game, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    """Like `Game.train_step`, but returns in place of losses, for each term and network, the share of shards with a finite gradient."""
    key = jax.random.fold_in(key, state.step)
    flags = {}
    for players in game.phases():

        def of_shard(shard: Shard, rows: Batch, state: TrainState = state, players: tuple[str, ...] = players) -> dict[str, jax.Array]:
            return _finite_gradients(game, state, rows, key, players, shard)

        flags |= parallel.mean(parallel.mean_over_microbatches(of_shard, batch, game.shard), game.shard.axis)
        state, _ = game.phase(state, batch, key, players)
    return state, flags


def _finite_gradients(
    game: Game, state: TrainState, batch: Batch, key: jax.Array, players: tuple[str, ...], shard: Shard
) -> dict[str, jax.Array]:
    losses_of = game.losses_of(state, key, players, shard, batch)
    losses = jax.eval_shape(losses_of, state.params)[0]
    flags = {}
    for player in players:
        for term in getattr(losses, player):
            # One gradient for each term: the pull-back of their sum would multiply the others by 0, and 0 times NaN is NaN.
            gradient = jax.grad(lambda params, player=player, term=term: getattr(losses_of(params)[0], player)[term])(state.params)
            own = {f"{player}/{term} for {name}": gradient[name] for name in gradient if PLAYER_OF_NETWORK[name] == player}
            flags |= {name: flag.astype(jnp.float32) for name, flag in _finite(own).items()}
    return flags


@jax.jit
def _finite(trees: dict[str, Any]) -> dict[str, jax.Array]:
    """Whether all floats of each tree are finite."""
    floats = {name: [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)] for name, tree in trees.items()}
    return {name: jnp.all(jnp.array([jnp.isfinite(x).all() for x in leaves])) for name, leaves in floats.items()}
