"""Numbers that are none: in which term, which network, and by which term's gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from i2i_jax.devices import parallel
from i2i_jax.train_state import PLAYER_OF_NETWORK, Game, TrainState
from i2i_jax.types import Batch, Shard


class Diverged(RuntimeError):
    """A loss, a gradient or a network that is no number, named with its step."""


def not_finite(values: dict[str, float], state: TrainState) -> list[str]:
    """What of the losses, and of each network in `state`, is not finite."""
    kinds = {"params": "a parameter", "batch_stats": "a statistic", "opt_state": "the optimizer"}
    of_state = {f"{text} of {name}": tree for kind, text in kinds.items() for name, tree in getattr(state, kind).items()}
    finite = jax.device_get(_finite(of_state))
    return [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)] + [
        f"{name} is not finite" for name in of_state if not finite[name]
    ]


def gradients(game: Game, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    """A training step that also says of each term's gradient for each network whether it is finite: 1, or less."""
    key = jax.random.fold_in(key, state.step)
    found = {}
    for players in game.phases():

        def of_shard(shard: Shard, rows: Batch, state: TrainState = state, players: tuple[str, ...] = players) -> dict[str, jax.Array]:
            return _finite_gradients(game, state, rows, key, players, shard)

        found |= parallel.mean(parallel.mean_over_microbatches(of_shard, batch, game.shard), game.shard.axis)
        state, _ = game.phase(state, batch, key, players)
    return state, found


def _finite_gradients(
    game: Game, state: TrainState, batch: Batch, key: jax.Array, players: tuple[str, ...], shard: Shard
) -> dict[str, jax.Array]:
    play = game.losses_of(state, key, players, shard, batch)
    terms = jax.eval_shape(play, state.params)[0]
    found = {}
    for player in players:
        for term in getattr(terms, player):
            # Each by itself: a pull-back of all would multiply the others by 0, which of NaN makes NaN.
            of_term = jax.grad(lambda params, player=player, term=term: getattr(play(params)[0], player)[term])(state.params)
            finite = _finite({f"{player}/{term} for {name}": of_term[name] for name in of_term if PLAYER_OF_NETWORK[name] == player})
            found |= {name: flag.astype(jnp.float32) for name, flag in finite.items()}
    return found


@jax.jit
def _finite(trees: dict[str, Any]) -> dict[str, jax.Array]:
    """Whether all floats of each tree are."""
    floats = {name: [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)] for name, tree in trees.items()}
    return {name: jnp.all(jnp.array([jnp.isfinite(x).all() for x in leaves])) for name, leaves in floats.items()}
