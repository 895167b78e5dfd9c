"""How many operations a training step takes: XLA's count for the program before compilation."""

import contextlib
import copy
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from i2i_jax import build
from i2i_jax.config import Config
from i2i_jax.data.loader import RawBatch
from i2i_jax.devices import parallel
from i2i_jax.train_state import TrainState
from i2i_jax.training.pieces import training_step

LOWERED_FOR = {"gpu": "cuda"}  # names of platforms in lowering, where they differ


def of_compiled(step_fn: Any, config: Config, mesh: Mesh, state: TrainState, raw: RawBatch, key: jax.Array) -> float | None:
    """Compiles the mapped step, whose calls then need not, and returns the operations of one device; None if they cannot be counted."""
    if config.train.parallel == "shard_map":
        lowered = step_fn.lower(state, raw, key)
        lowered.compile()
        if config.train.microbatches == 1 and mesh.devices.flat[0].platform == "cpu":
            return lowered.cost_analysis()["flops"]
    with contextlib.suppress(RuntimeError):
        return of_device(config, raw, mesh)
    return None


def of_device(config: Config, raw: RawBatch, mesh: Mesh) -> float:
    """Operations of one device of the mesh in a step with the global batch `raw`, or its shapes, in the forms of the mesh's platform.

    It traces the step again for one CPU, since jax counts for no other platform, without microbatches, since XLA counts a loop's body once.

    Raises:
        RuntimeError: if jax was started without CPUs.
    """
    config = copy.deepcopy(config)
    config.data.batch_size //= mesh.size
    config.train.microbatches, config.train.parallel = 1, "shard_map"
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct((x.shape[0] // mesh.size, *x.shape[1:]), x.dtype), raw)
    platform = mesh.devices.flat[0].platform
    one_cpu = parallel.make_mesh(jax.local_devices(backend="cpu")[:1])
    lowered = traced(config, one_cpu, rows).lower(lowering_platforms=(LOWERED_FOR.get(platform, platform),))
    return lowered.cost_analysis()["flops"]


def traced(config: Config, mesh: Mesh, raw: RawBatch) -> Any:
    """The training step traced for the devices of the mesh, which need not exist; `raw` has the shapes and dtypes of its batch."""
    game, key = build.game(config), jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(partial(game.init, batch=build.example_batch(config)), key)
    return training_step(config, game, mesh).trace(state, raw, key)
