"""One training step on an accelerator beside the same step on the CPU in float32, by number format.

    python benchmarks/agreement.py [--systems=bicycle_gan,pix2pix --size=64 --width=64]

Both start from the same networks and draw the same numbers. With plain gradient descent the change of a network's parameters is its
gradient, so the table has the largest relative difference of a loss, and |g - g_cpu| / |g_cpu| (Euclidean norms) of each network's
gradient. Without an accelerator the CPU is compared with itself.
"""

import contextlib
import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import tables
import timing
from absl import flags

from i2i_jax import build, presets
from i2i_jax.commands import app
from i2i_jax.config import Config, override
from i2i_jax.devices import parallel
from i2i_jax.train_state import TrainState
from i2i_jax.types import Batch

_SIZE = flags.DEFINE_integer("size", 64, "Side of the images in pixels.", lower_bound=64)
_SYSTEMS = flags.DEFINE_list("systems", ["bicycle_gan", "pix2pix"], "Objectives to take a step of.")
_WIDTH = flags.DEFINE_integer("width", 64, "Channels of each network's first layer.", lower_bound=1)

FORMATS = {"float32": ("float32", "highest"), "float32, rounded factors": ("float32", "default"), "bfloat16": ("bfloat16", "default")}
NETWORKS = ("generator", "encoder", "discriminator", "discriminator_prior")


def config_of(system: str, dtype: str = "float32") -> Config:
    config = presets.pix2pix("shapes") if system == "pix2pix" else presets.bicycle_family(system, "shapes")
    sizes = {"data.load_size": _SIZE.value, "data.crop_size": _SIZE.value, "data.batch_size": 2}
    return override(config, sizes | {"model.width": _WIDTH.value, "model.dtype": dtype})


def step(config: Config, state: TrainState, batch: Batch, device: Any) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The loss terms of one step on a device from a state of NumPy arrays, and each network's gradient as one vector."""
    mesh = parallel.make_mesh([device])
    game = dataclasses.replace(build.game(config), tx=optax.sgd(1.0)).on_axis(parallel.AXIS)
    placed = jax.device_put(state, parallel.replicated(mesh))
    key = parallel.jit_replicated(lambda: jax.random.key(1), mesh=mesh)
    stepped, losses = parallel.data_parallel(game.train_step, mesh)(placed, parallel.global_batch(batch, mesh), key)
    terms = {f"{player}/{name}": float(value) for player, of in losses._asdict().items() for name, value in of.items()}
    changes = jax.tree.map(lambda before, after: np.ravel(before - np.asarray(after)), state.params, stepped.params)
    return terms, {network: np.concatenate(jax.tree.leaves(change)) for network, change in changes.items()}


def compare(system: str) -> dict[str, dict[str, float]]:
    """By number format: the largest relative difference of a loss, and that of each network's gradient, from the CPU's."""
    config, random = config_of(system), np.random.default_rng(0)
    cpu = jax.devices("cpu")[0]
    batch = Batch(*(random.uniform(-1, 1, (2, _SIZE.value, _SIZE.value, 3)).astype(np.float32) for _ in range(2)))
    game = dataclasses.replace(build.game(config), tx=optax.sgd(1.0))
    with jax.default_device(cpu):
        state = parallel.jit_replicated(game.init, jax.random.key(0), build.example_batch(config), mesh=parallel.make_mesh([cpu]))
    state = jax.tree.map(np.asarray, state)
    losses, gradients = step(config, state, batch, cpu)
    found = {}
    for name, (dtype, precision) in FORMATS.items():
        with jax.default_matmul_precision(precision) if precision != "default" else contextlib.nullcontext():
            others, changes = step(config_of(system, dtype), state, batch, jax.devices()[0])
        found[name] = {"losses": max(abs(others[term] - value) / abs(value) for term, value in losses.items())}
        found[name] |= {
            network: float(np.linalg.norm(changes[network] - change) / np.linalg.norm(change)) for network, change in gradients.items()
        }
    return found


def main(argv: list[str]) -> None:
    found = {system: compare(system) for system in _SYSTEMS.value}
    head = [f"{jax.devices()[0].device_kind} and CPU, {_SIZE.value}²", "format", "losses", *NETWORKS]
    rows = [
        [system, name, *(f"{differences[part]:.1e}" if part in differences else "–" for part in ("losses", *NETWORKS))]
        for system, by_format in found.items()
        for name, differences in by_format.items()
    ]
    timing.write("agreement", found, tables.lines(head, rows))


if __name__ == "__main__":
    app.start(main)
