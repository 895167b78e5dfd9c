"""The one file that knows there are devices.

A training step is written for one device with a named axis; `data_parallel` maps it over all of them. Outside a mapped step the
axis is None, and every function here is then the plain single-device one. A device may compute its rows in parts, one after another.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from i2i_jax.types import Shard

AXIS = "data"


def mean(tree: Any, axis: str | None) -> Any:
    """Mean over the devices; over one of them XLA would copy everything."""
    return tree if axis is None or lax.axis_size(axis) == 1 else lax.pmean(tree, axis)


def shard_count(shard: Shard) -> int:
    """Into how many the global batch is split."""
    return shard.microbatches * (1 if shard.axis is None else lax.axis_size(shard.axis))


def _number(shard: Shard) -> Any:
    return shard.microbatch + shard.microbatches * (0 if shard.axis is None else lax.axis_index(shard.axis))


def own_key(key: jax.Array, shard: Shard) -> jax.Array:
    """A key of this shard's own."""
    return key if shard_count(shard) == 1 else jax.random.fold_in(key, _number(shard))


def draw(sampler: Callable, key: jax.Array, shape: tuple[int, ...], shard: Shard) -> jax.Array:
    """This shard's rows, of `shape`, of one draw made for the global batch: the same numbers however it is split."""
    if shard_count(shard) == 1:
        return sampler(key, shape)
    everywhere = sampler(key, (shard_count(shard) * shape[0], *shape[1:]))
    return lax.dynamic_slice_in_dim(everywhere, _number(shard) * shape[0], shape[0])


def mean_over_microbatches(function: Callable[[Shard, Any], Any], batch: Any, shard: Shard) -> Any:
    """Mean of `function(shard of a part, rows of it)` over the parts of this device's batch, computed one after another.

    Each part has rows of the batch's first and of its second half, as each device has.
    """
    if shard.microbatches == 1:
        return function(shard, batch)
    order = device_order(len(jax.tree.leaves(batch)[0]), shard.microbatches)
    parts = jax.tree.map(lambda x: x[order].reshape(shard.microbatches, -1, *x.shape[1:]), batch)

    def add(total: Any, one: tuple[jax.Array, Any]) -> tuple[Any, None]:
        number, rows = one
        return jax.tree.map(jnp.add, total, function(shard._replace(microbatch=number), rows)), None

    first = jax.eval_shape(partial(function, shard), jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
    total, _ = lax.scan(add, zeros, (jnp.arange(shard.microbatches), parts))
    return jax.tree.map(lambda x: x / shard.microbatches, total)


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh over `devices` (default: all devices of all hosts)."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def data_parallel(step: Callable, mesh: Mesh, *, mode: str = "shard_map") -> Callable:
    """Maps `step(state, batch, key) -> (state, metrics)`, written with the axis `AXIS`, over the mesh.

    The state and the key are replicated, the batch is split by rows; the step must have averaged what it returns. `shard_map` is
    `jit(shard_map(step))`; `pmap` is `jax.pmap`, with the same arguments and results. The state's buffers are donated; a CPU's
    compiler is told to look at the order in which a program runs, or it would copy most of the state in every step.
    """
    if mode == "pmap":
        return _pmapped(step, mesh)
    # check_vma=False: with it on, pmean of the gradient of replicated parameters gives gradients N times too large.
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec()), out_specs=PartitionSpec(), check_vma=False
    )
    every, rows = replicated(mesh), NamedSharding(mesh, PartitionSpec(AXIS))
    in_order = _on_cpu(mesh, xla_cpu_copy_insertion_use_region_analysis=True)
    return jax.jit(mapped, donate_argnums=0, in_shardings=(every, rows, every), compiler_options=in_order)


def _pmapped(step: Callable, mesh: Mesh) -> Callable:
    n = mesh.size
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0, None), out_axes=None, devices=list(mesh.devices.flat), donate_argnums=0)

    def run(state: Any, batch: Any, key: jax.Array) -> Any:
        rows = jax.tree.map(lambda x: np.asarray(x).reshape(n, -1, *x.shape[1:]), batch)
        state, metrics = mapped(state, rows, key)
        return jax.device_put((state, metrics), replicated(mesh))

    return run


def shard_batch(function: Callable, mesh: Mesh) -> Callable:
    """Maps `function(state, rows)` over the mesh: the state is replicated, every array of the rows and of the result is split."""
    specs = {"in_specs": (PartitionSpec(), PartitionSpec(AXIS)), "out_specs": PartitionSpec(AXIS)}
    return jax.jit(jax.shard_map(function, mesh=mesh, check_vma=False, **specs))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device of the mesh."""
    return NamedSharding(mesh, PartitionSpec())


def jit_replicated(function: Callable, *arguments: Any, mesh: Mesh) -> Any:
    """Its result, replicated over the mesh. A CPU's compiler is told not to try hard: on random initial values it would for 20 s."""
    hasty = _on_cpu(mesh, xla_backend_optimization_level=1)
    return jax.jit(function, out_shardings=replicated(mesh), compiler_options=hasty)(*arguments)


def _on_cpu(mesh: Mesh, **options: Any) -> dict[str, Any] | None:
    """Options for XLA's compiler, where the mesh is of CPUs."""
    return options if mesh.devices.flat[0].platform == "cpu" else None


def batched_map(function: Callable, *rows: jax.Array, pixels: int) -> Any:
    """`function(*row)` of each row, stacked: as many rows at a time as have few enough of their `pixels` for the platform.

    A CPU's caches hold the activations of about one image; elsewhere this bounds the memory that many rows take.
    """

    def chunked(at_once: int, *rows: jax.Array) -> Any:
        if at_once >= len(rows[0]):
            return jax.vmap(function)(*rows)
        return lax.map(lambda row: function(*row), rows, batch_size=at_once)

    on_cpu, elsewhere = (max(1, most // pixels) for most in (2**16, 2**22))
    if on_cpu >= len(rows[0]):
        return chunked(on_cpu, *rows)
    return lax.platform_dependent(*rows, cpu=partial(chunked, on_cpu), default=partial(chunked, elsewhere))


def local(tree: Any) -> Any:
    """This process's own copy of replicated values, on its first device."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def device_order(batch_size: int, devices: int) -> np.ndarray:
    """Rows of the global batch in the order in which the devices hold them.

    Each device gets its part of the batch's first half, then of its second half, since the objectives split a device's rows in
    halves: so every number of devices pairs the same images. The batch must be a multiple of the devices.
    """
    per_device = batch_size // devices
    if per_device % 2:
        return np.arange(batch_size)
    return np.arange(batch_size).reshape(2, devices, per_device // 2).transpose(1, 0, 2).ravel()


def local_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """The rows of the global batch, in device order, that this process has to read."""
    per_device = device_order(batch_size, mesh.size).reshape(mesh.size, -1)
    mine = [d.process_index == jax.process_index() for d in mesh.devices.flat]
    return per_device[mine].ravel()


def global_batch(rows: Any, mesh: Mesh) -> Any:
    """This process's rows (arrays in the order of `local_rows`) as its part of arrays over the whole mesh."""
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), rows)
