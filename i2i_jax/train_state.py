"""The training state and the one training step of all objectives.

A step runs the forward pass of the objective once, and one backward pass for each player.
"""

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
from i2i_jax.models import Networks, global_batch
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
    """Everything that training changes. Each dict is keyed by network: generator, encoder, discriminator, discriminator_prior.

    Attributes:
        step: number of steps done, int32.
        params: parameters of each network.
        batch_stats: running statistics of batch normalisation of each network; empty without batch normalisation.
        opt_state: optimizer state of each network.
        ema: exponential moving average of the parameters of the generator and the encoder; empty if `Game.ema` is 0.
    """

    # Any, since a tree map may replace the arrays by shapes or shardings.
    step: Any
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: dict[str, Any]
    ema: dict[str, Any] = struct.field(default_factory=dict)

    def averaged(self) -> "TrainState":
        """Returns the state for inference: the averages in place of the parameters, as far as there are any; no optimizer state."""
        return TrainState(self.step, self.params | self.ema, self.batch_stats, {})


@dataclasses.dataclass(frozen=True)
class Game:
    """Everything that stays fixed during training: the networks, their objective and optimizer.

    A GAN is a game of two players, hence the name: generator and encoder are one player, the discriminators are the other.

    Attributes:
        networks: the Flax modules.
        objective: `objective(networks, batch)` returns the `Losses` of the players in `networks.players`.
        tx: the optimizer, applied to each network separately.
        update: simultaneous: all networks are updated from gradients at the old parameters (BicycleGAN's code). alternating: the
            discriminator is updated first, then the generator against the new discriminator (pix2pix's PyTorch code).
        shard: how the batch is split. `shard.axis` names the mesh axis if `train_step` is mapped over devices. Gradients are
            accumulated over `shard.microbatches` microbatches on each device; the result is the gradient of the whole batch.
        rematerialize: whether the backward pass recomputes activations, all but the outputs of convolutions, to save memory.
        ema: decay of the exponential moving average of the generator's and the encoder's parameters; 0 for no average.
        norm_over: device or batch: the rows of which batch norm takes the statistics, a device's or those of all devices.
        factors: `factors(step)` returns what terms of the generator's loss are multiplied by, by name; all others by 1.
    """

    networks: Networks
    objective: Callable[..., Losses]
    tx: optax.GradientTransformation
    update: str = "simultaneous"
    shard: Shard = Shard()
    rematerialize: bool = False
    ema: float = 0.0
    norm_over: str = "device"
    factors: Callable[[Any], dict[str, Any]] = lambda step: {}

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Initialises the training state at step 0.

        Args:
            key: the random key of the parameters.
            batch: an example batch, of which only the shapes are used.

        Returns:
            The state of the networks that the objective calls.
        """
        names = ("params", "latent", "dropout")
        rngs = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        variables = cast(dict[str, Any], nn.init(self.objective, self.networks)(rngs, batch))
        params = variables["params"]
        stats = {name: variables.get("batch_stats", {}).get(name, {}) for name in params}
        averaged = [name for name in params if self.ema and PLAYER_OF_NETWORK[name] == "generator"]
        ema = {name: jax.tree.map(jnp.copy, params[name]) for name in averaged}
        return TrainState(jnp.int32(0), params, stats, {name: self.tx.init(p) for name, p in params.items()}, ema)

    def on_axis(self, axis: str) -> "Game":
        """Returns the same game for a training step that is mapped over the mesh axis `axis`."""
        return dataclasses.replace(self, shard=self.shard._replace(axis=axis))

    def train_step(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Losses]:
        """Updates every network once, by the gradient of its own player's loss.

        Args:
            state: the state before the step.
            batch: this device's rows of the global batch.
            key: the run's random key. The key of a step is `fold_in(key, state.step)`, so that a resumed run draws the same numbers.

        Returns:
            The new state and the loss terms, averaged over all devices.
        """
        key = jax.random.fold_in(key, state.step)
        total = Losses({}, {})
        for players in self.phases():
            state, losses = self.phase(state, batch, key, players)
            total |= losses
        # Averaged here and not in each phase, so that XLA merges this all-reduce with that of the last phase's gradients.
        stats, total = parallel.mean((state.batch_stats, total), self.shard.axis)
        return dataclasses.replace(state, step=state.step + 1, batch_stats=stats, ema=self._updated_average(state)), total

    def _updated_average(self, state: TrainState) -> dict[str, Params]:
        """The average after a step t = 0, 1, ...: ema + (1 - d) (params - ema) with d = min(decay, (1 + t) / (10 + t)).

        The decay starts low, so that the average soon forgets the initial parameters.
        """
        step = state.step.astype(jnp.float32)
        weight = 1 - jnp.minimum(self.ema, (1 + step) / (10 + step))
        params = jax.lax.optimization_barrier({name: state.params[name] for name in state.ema})  # else XLA's CPU compiler repeats Adam here
        return {name: optax.incremental_update(params[name], average, weight) for name, average in state.ema.items()}

    def phases(self) -> list[tuple[str, ...]]:
        """The players that are updated in each phase of a step."""
        return [PLAYERS] if self.update == "simultaneous" else [("discriminator",), ("generator",)]

    def phase(self, state: TrainState, batch: Batch, key: jax.Array, players: tuple[str, ...]) -> tuple[TrainState, Losses]:
        """Updates the networks of `players`. Returned losses and batch statistics are those of this device, not yet averaged."""
        losses, stats, grads = self._losses_and_grads(state, batch, key, players)
        return self._apply_updates(state, stats, grads), losses

    def _losses_and_grads(self, state: TrainState, batch: Batch, key: jax.Array, players: tuple[str, ...]) -> tuple[Losses, dict, dict]:
        """This device's losses and new batch statistics, and each network's gradient of its player's loss, averaged over devices."""
        shard_losses_and_grads = partial(self._shard_losses_and_grads, state, key, players)
        losses, stats, grads = parallel.mean_over_microbatches(shard_losses_and_grads, batch, self.shard)
        return losses, stats, parallel.mean(grads, self.shard.axis)

    def _shard_losses_and_grads(self, state: TrainState, key: jax.Array, players: tuple[str, ...], shard: Shard, batch: Batch) -> tuple:
        """Losses, new batch statistics and gradients of one microbatch: one forward pass, and one backward pass for each player."""
        losses_of_params = self.losses_of(state, key, players, shard, batch)

        def player_totals(params: dict[str, Params]) -> tuple[dict[str, jax.Array], tuple]:
            losses, stats = losses_of_params(params)
            totals = {player: sum(getattr(losses, player).values(), start=jnp.zeros(())) for player in players}
            return totals, (losses, stats)

        forward = jax.checkpoint(player_totals, policy=KEEP_CONVOLVED) if self.rematerialize else player_totals
        totals, vjp, (losses, stats) = jax.vjp(forward, state.params, has_aux=True)
        # A row of the Jacobian of (player losses) by (parameters) for each player. jit drops the columns that are not used below.
        rows = {p: vjp({q: jnp.full_like(total, q == p) for q, total in totals.items()})[0] for p in players}
        grads = {name: rows[PLAYER_OF_NETWORK[name]][name] for name in state.params if PLAYER_OF_NETWORK[name] in players}
        return losses, stats, grads

    def losses_of(self, state: TrainState, key: jax.Array, players: tuple[str, ...], shard: Shard, batch: Batch) -> Callable:
        """Returns the function from all parameters to the loss terms of `players` and the new batch statistics."""
        latent_key, dropout_key = jax.random.split(key)
        rngs = {"latent": latent_key, "dropout": dropout_key}
        shard = shard._replace(rows=len(batch.input))
        part = global_batch.Part(shard, norm_axis=shard.axis if self.norm_over == "batch" else None)

        def losses_of_params(params: dict[str, Params]) -> tuple[Losses, dict]:
            run = nn.apply(self.objective, self.networks.clone(players=players, shard=shard), mutable=["batch_stats"])
            with global_batch.computing(part):
                losses, updated = run({"params": params, "batch_stats": state.batch_stats}, batch, rngs=rngs)
            terms = losses.generator
            scaled = {name: factor * terms[name] for name, factor in self.factors(state.step).items() if name in terms}
            return losses | Losses(scaled, {}), updated.get("batch_stats", {})

        return losses_of_params

    def _apply_updates(self, state: TrainState, stats: dict, grads: dict[str, Params]) -> TrainState:
        """Applies the optimizer to every network that has a gradient, and keeps its batch statistics."""
        params, opt_state = dict(state.params), dict(state.opt_state)
        for name, grad in grads.items():
            updates, opt_state[name] = self.tx.update(grad, state.opt_state[name], params[name])
            params[name] = optax.apply_updates(params[name], updates)
        # In alternating updates the generator also runs in the discriminator's phase, on the same images: its statistics are dropped there.
        kept = stats if "generator" in {PLAYER_OF_NETWORK[name] for name in grads} else {n: s for n, s in stats.items() if n in grads}
        return dataclasses.replace(state, params=params, opt_state=opt_state, batch_stats=state.batch_stats | kept)
