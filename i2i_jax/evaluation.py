"""How good a generator is, on pairs it was not trained on."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from i2i_jax import models, sampling
from i2i_jax.data import augment, loader, shapes
from i2i_jax.data.pairs import Pairs
from i2i_jax.metrics.modes import modes
from i2i_jax.train_state import TrainState
from i2i_jax.types import Batch

HIGHER_IS_BETTER = {"l1": False, "l1_encoded": False, "modes": True, "valid": True, "total_variation": False}


class Case(NamedTuple):
    """One input with its truth, its translations [n, h, w, c] and, with an encoder, the one from the truth's own latent."""

    input: np.ndarray
    target: np.ndarray
    samples: np.ndarray
    encoded: np.ndarray | None


def cases(
    networks: models.Networks, mode: sampling.Mode, pairs: Pairs, *, size: int, inputs: int, samples: int, sync: bool = False
) -> Callable[[TrainState], list[Case]]:
    """A function from a state to the cases of the first `inputs` pairs: always the same pairs, latents and dropout.

    `sync` gives all inputs the same latents.
    Without z and without dropout all translations of an input are the same: then one is made instead of `samples`.
    """
    samples = samples if networks.latent_dim or mode.dropout else 1
    raw = loader.fixed(pairs, range(min(inputs, len(pairs))), size=size)
    batch = Batch(augment.scale(raw.input), augment.scale(raw.target))
    key = jax.random.key(0)
    z = sampling.latents(key, len(raw.row), samples, networks.latent_dim, sync=sync)

    @jax.jit
    def of_one(state: TrainState, pair: Batch, z: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        images = sampling.translate(networks, state, pair.input, z[None], key, mode=mode)[0]
        if "encoder" not in state.params:
            return images, None
        mean = sampling.encode(networks, state, pair.target).mean
        return images, sampling.translate(networks, state, pair.input, mean[None], key, mode=mode)[0, 0]

    def run(state: TrainState) -> list[Case]:
        found = []
        for i in range(len(raw.row)):
            pair = Batch(*(x[i : i + 1] for x in batch))
            images, encoded = of_one(state, pair, z[i], jax.random.fold_in(key, i))
            found.append(Case(np.asarray(pair.input[0]), np.asarray(pair.target[0]), np.asarray(images), _on_host(encoded)))
        return found

    return run


def evaluate(found: list[Case], *, known_modes: bool) -> dict[str, float]:
    """Mean over the cases of: `l1` of a translation to the truth, `l1_encoded` of the one from the truth's own latent (both on a
    0 to 1 scale), and, where every right answer is known, of the modes recovered, the valid share and the total variation.
    """
    measured = [_measure(case) | (_modes(case) if known_modes else {}) for case in found]
    return {name: float(np.mean([m[name] for m in measured])) for name in measured[0]}


def _measure(case: Case) -> dict[str, float]:
    figures = {"l1": float(np.abs(case.samples - case.target).mean() / 2)}
    if case.encoded is not None:
        figures["l1_encoded"] = float(np.abs(case.encoded - case.target).mean() / 2)
    return figures


def _modes(case: Case) -> dict[str, float]:
    answers, mask = shapes.modes(augment.to_uint8(case.input))
    found = modes(case.samples, np.asarray(augment.scale(answers)), mask)
    return {"modes": float(found.recovered), "valid": found.valid, "total_variation": found.total_variation}


def _on_host(images: jax.Array | None) -> np.ndarray | None:
    return None if images is None else np.asarray(images)
