"""The training step of every system: one forward pass of its objective and one pull-back for each player."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from i2i_jax.devices import parallel
from i2i_jax.models import Networks
from i2i_jax.models.layers import CONVOLVED
from i2i_jax.objectives import Losses
from i2i_jax.types import PLAYERS, Batch, Params, Shard

PLAYER_OF_NETWORK = {
    "generator": "generator",
    "encoder": "generator",
    "discriminator": "discriminator",
    "discriminator_prior": "discriminator",
}

KEEP_CONVOLVED = jax.checkpoint_policies.save_only_these_names(CONVOLVED)


@struct.dataclass
class TrainState:
    """Everything that training changes; each dict has one entry a network: generator, encoder, discriminator, discriminator_prior."""

    # Any: a tree map may have put shapes or shardings in the place of arrays.
    step: Any
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Game:
    """What stays fixed while two players train: generator and encoder against the discriminators.

    `objective(networks, batch)` gives the Losses of the players in `networks.players`; `tx` optimises each network by itself.
    `simultaneous`: all networks step against the others as they were (BicycleGAN's code). `alternating`: the discriminator steps
    first, the generator against the new one (pix2pix's code). `shard.axis` names the mesh axis where `train_step` is mapped over
    devices; a device computes its rows in `shard.microbatches` parts, one after another, with the gradient of the whole.
    `rematerialize`: the backward pass keeps the outputs of convolutions only, and computes the rest again.
    """

    networks: Networks
    objective: Callable[..., Losses]
    tx: optax.GradientTransformation
    update: str = "simultaneous"
    shard: Shard = Shard()
    rematerialize: bool = False

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """State at step 0; of `batch` only the shapes matter: images [b, h, w, c]."""
        names = ("params", "latent", "dropout")
        rngs = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        variables = cast(dict[str, Any], nn.init(self.objective, self.networks)(rngs, batch))
        params = variables["params"]
        stats = {name: variables.get("batch_stats", {}).get(name, {}) for name in params}
        return TrainState(jnp.int32(0), params, stats, {name: self.tx.init(p) for name, p in params.items()})

    def on_axis(self, axis: str) -> "Game":
        """The same game as part of a step that is mapped over the devices of `axis`."""
        return dataclasses.replace(self, shard=self.shard._replace(axis=axis))

    def train_step(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Losses]:
        """Every network takes one step down its own player's loss. Randomness is a function of `key` and the step."""
        key = jax.random.fold_in(key, state.step)
        total = Losses({}, {})
        for players in self.phases():
            state, losses = self.phase(state, batch, key, players)
            total |= losses
        # Here and not in each phase: so they travel with the last phase's gradients, in one all-reduce.
        stats, total = parallel.mean((state.batch_stats, total), self.shard.axis)
        return dataclasses.replace(state, step=state.step + 1, batch_stats=stats), total

    def phases(self) -> list[tuple[str, ...]]:
        """The players of each phase of a step."""
        return [PLAYERS] if self.update == "simultaneous" else [("discriminator",), ("generator",)]

    def phase(self, state: TrainState, batch: Batch, key: jax.Array, players: tuple[str, ...]) -> tuple[TrainState, Losses]:
        """The networks of `players` descend; losses and statistics are this device's."""
        losses, stats, grads = self._losses_and_grads(state, batch, key, players)
        return self._apply_updates(state, stats, grads), losses

    def _losses_and_grads(self, state: TrainState, batch: Batch, key: jax.Array, players: tuple[str, ...]) -> tuple[Losses, dict, dict]:
        """This device's losses of the players and statistics after them; all devices' gradient of each player's loss for its networks."""
        of_shard = partial(self._shard_losses_and_grads, state, key, players)
        losses, stats, grads = parallel.mean_over_microbatches(of_shard, batch, self.shard)
        return losses, stats, parallel.mean(grads, self.shard.axis)

    def _shard_losses_and_grads(self, state: TrainState, key: jax.Array, players: tuple[str, ...], shard: Shard, batch: Batch) -> tuple:
        terms = self.losses_of(state, key, players, shard, batch)

        def play(params: dict[str, Params]) -> tuple[dict[str, jax.Array], tuple]:
            losses, stats = terms(params)
            totals = {player: sum(getattr(losses, player).values(), start=jnp.zeros(())) for player in players}
            return totals, (losses, stats)

        play = jax.checkpoint(play, policy=KEEP_CONVOLVED) if self.rematerialize else play
        totals, pull, (losses, stats) = jax.vjp(play, state.params, has_aux=True)
        rows = {p: pull({q: jnp.full_like(total, q == p) for q, total in totals.items()})[0] for p in players}
        grads = {name: rows[PLAYER_OF_NETWORK[name]][name] for name in state.params if PLAYER_OF_NETWORK[name] in players}
        return losses, stats, grads

    def losses_of(self, state: TrainState, key: jax.Array, players: tuple[str, ...], shard: Shard, batch: Batch) -> Callable:
        """The function from all parameters to the terms of `players` and the statistics after them."""
        latent_key, dropout_key = jax.random.split(key)
        rngs = {"latent": latent_key, "dropout": parallel.own_key(dropout_key, shard)}

        def terms(params: dict[str, Params]) -> tuple[Losses, dict]:
            run = nn.apply(self.objective, self.networks.clone(players=players, shard=shard), mutable=["batch_stats"])
            losses, updated = run({"params": params, "batch_stats": state.batch_stats}, batch, rngs=rngs)
            return losses, updated.get("batch_stats", {})

        return terms

    def _apply_updates(self, state: TrainState, stats: dict, grads: dict[str, Params]) -> TrainState:
        params, opt_state = dict(state.params), dict(state.opt_state)
        for name, grad in grads.items():
            updates, opt_state[name] = self.tx.update(grad, state.opt_state[name], params[name])
            params[name] = optax.apply_updates(params[name], updates)
        # A network whose phase comes later will run on these images again: only then its statistics count.
        kept = stats if "generator" in {PLAYER_OF_NETWORK[name] for name in grads} else {n: s for n, s in stats.items() if n in grads}
        return dataclasses.replace(state, params=params, opt_state=opt_state, batch_stats=state.batch_stats | kept)
