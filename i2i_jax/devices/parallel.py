"""Data parallelism: maps a step written for one device over a mesh of devices.

A training step is written for one device with a named mesh axis; `data_parallel` maps it over all devices. In a step that is not
mapped the axis is None, and the functions below do what a single device needs. A device may split its rows into microbatches, which
it computes one after another.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from i2i_jax.devices.layouts import LaidOutStep
from i2i_jax.types import Shard

AXIS = "data"  # the name of the mesh axis over which the batch is split


def mean(tree: Any, axis: str | None) -> Any:
    """Mean of every array over the devices of the mesh axis `axis`; the tree itself if `axis` is None or has one device."""
    # XLA would copy every array in a pmean over one device.
    return tree if axis is None or lax.axis_size(axis) == 1 else lax.pmean(tree, axis)


def mean_over_devices(value: jax.Array, axis: str | None) -> jax.Array:
    """The mean of `value` over the devices, with the gradient of this device's own.

    A function of it has the value of the global batch on every device, and the mean over the devices of its gradients is that of the global
    batch too.
    """
    return value + lax.stop_gradient(mean(value, axis) - value)


def shard_count(shard: Shard) -> int:
    """The number of shards of the global batch: devices times microbatches."""
    return shard.microbatches * (1 if shard.axis is None else lax.axis_size(shard.axis))


def _shard_index(shard: Shard) -> Any:
    """The index of a shard among all shards of the global batch."""
    return shard.microbatch + shard.microbatches * (0 if shard.axis is None else lax.axis_index(shard.axis))


def draw(sampler: Callable, key: jax.Array, shape: tuple[Any, ...], shard: Shard) -> jax.Array:
    """Draws random numbers for this shard. Row i of the global batch gets the same numbers however the batch is split.

    Args:
        sampler: `sampler(key, shape)`, such as `jax.random.normal`. It is called with the shape of the global batch.
        key: random key, the same for all shards.
        shape: the shape of this shard's numbers. The first axis is the batch: all rows of the shard, or one of the two halves into which
            the objectives split them. Other sizes may be symbolic.
        shard: the shard.
    """
    count = shard_count(shard)
    if count == 1:
        return sampler(key, shape)
    rows = count * shape[0]
    order = device_order(rows, count) if shape[0] == shard.rows else np.arange(rows)
    return sampler(key, (rows, *shape[1:]))[jnp.asarray(order.reshape(count, -1))[_shard_index(shard)]]


def mean_over_microbatches(function: Callable[[Shard, Any], Any], batch: Any, shard: Shard) -> Any:
    """Splits this device's batch into microbatches, applies `function` to one after another and returns the mean of the results.

    Each microbatch gets rows of both halves of the batch, as each device does (see `device_order`).

    Args:
        function: `function(shard, rows)` returns a tree of arrays.
        batch: tree of arrays with this device's rows.
        shard: the shard of this device.
    """
    if shard.microbatches == 1:
        return function(shard, batch)
    order = device_order(len(jax.tree.leaves(batch)[0]), shard.microbatches)
    microbatches = jax.tree.map(lambda x: x[order].reshape(shard.microbatches, -1, *x.shape[1:]), batch)

    def add(total: Any, indexed_rows: tuple[jax.Array, Any]) -> tuple[Any, None]:
        index, rows = indexed_rows
        return jax.tree.map(jnp.add, total, function(shard._replace(microbatch=index), rows)), None

    shapes = jax.eval_shape(partial(function, shard), jax.tree.map(lambda x: x[0], microbatches))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = lax.scan(add, zeros, (jnp.arange(shard.microbatches), microbatches))
    return jax.tree.map(lambda x: x / shard.microbatches, total)


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a one-dimensional mesh over `devices`, by default all devices of all hosts."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def data_parallel(step: Callable, mesh: Mesh, *, mode: str = "shard_map") -> Callable:
    """Maps a training step over the devices of a mesh and compiles it.

    State and key are replicated; the batch is split by rows. The state's buffers are donated.

    Args:
        step: `step(state, batch, key) -> (state, metrics)` for one device. It must average its results over the axis `AXIS`.
        mesh: the mesh, from `make_mesh`.
        mode: shard_map for `jit(shard_map(step))`, or pmap for `jax.pmap`, with the same arguments and results.

    Returns:
        The compiled step over all devices, with the signature of `step`. Its batch is the global batch (see `global_batch`).
    """
    if mode == "pmap":
        return _pmapped(step, mesh)
    # With check_vma=True the pmean of gradients of replicated parameters would be too large by the number of devices.
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec()), out_specs=PartitionSpec(), check_vma=False
    )
    whole, rows = replicated(mesh), NamedSharding(mesh, PartitionSpec(AXIS))
    # Without region analysis, XLA's CPU compiler copies most of the state in every step.
    options = _cpu_options(mesh, xla_cpu_copy_insertion_use_region_analysis=True)
    return LaidOutStep(mapped, whole, rows, options)


def _pmapped(step: Callable, mesh: Mesh) -> Callable:
    """The step of `data_parallel` by `jax.pmap`."""
    n = mesh.size
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0, None), out_axes=None, devices=list(mesh.devices.flat), donate_argnums=0)

    def run(state: Any, batch: Any, key: jax.Array) -> Any:
        rows = jax.tree.map(lambda x: np.asarray(x).reshape(n, -1, *x.shape[1:]), batch)
        state, metrics = mapped(state, rows, key)
        return jax.device_put((state, metrics), replicated(mesh))

    return run


def shard_batch(function: Callable, mesh: Mesh) -> Callable:
    """Compiles `function(state, rows)` to run on all devices of the mesh, each on its part of the rows.

    The state is replicated. The arrays of `rows` and of the result are split along their first axis.
    """
    specs = {"in_specs": (PartitionSpec(), PartitionSpec(AXIS)), "out_specs": PartitionSpec(AXIS)}
    return jax.jit(jax.shard_map(function, mesh=mesh, check_vma=False, **specs))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding that holds the same values on every device of the mesh."""
    return NamedSharding(mesh, PartitionSpec())


def jit_replicated(function: Callable, *arguments: Any, mesh: Mesh) -> Any:
    """Compiles and runs `function(*arguments)` once; its result is replicated over the mesh.

    On a CPU it is compiled with few optimisations: for the initial values of networks, full ones take 20 s and save less than that.
    """
    options = _cpu_options(mesh, xla_backend_optimization_level=1)
    return jax.jit(function, out_shardings=replicated(mesh), compiler_options=options)(*arguments)


def _cpu_options(mesh: Mesh, **options: Any) -> dict[str, Any] | None:
    """Compiler options for a mesh of CPUs; None for other devices."""
    return options if mesh.devices.flat[0].platform == "cpu" else None


def batched_map(function: Callable, *rows: jax.Array, pixels: int) -> Any:
    """Maps `function` over rows as `jax.vmap` does, but in batches whose size suits the platform.

    A CPU runs up to 2^16 pixels at once, since its caches hold the activations of about one image. Other platforms run up to 2^22
    pixels at once, which bounds the memory.

    Args:
        function: `function(*row)` returns a tree of arrays.
        *rows: arrays of the same length.
        pixels: pixels of one row's image.

    Returns:
        The results of all rows, stacked.
    """

    def map_in_batches(batch_size: int, *rows: jax.Array) -> Any:
        if batch_size >= len(rows[0]):
            return jax.vmap(function)(*rows)
        return lax.map(lambda row: function(*row), rows, batch_size=batch_size)

    on_cpu, elsewhere = (max(1, most // pixels) for most in (2**16, 2**22))
    if on_cpu >= len(rows[0]):
        return map_in_batches(on_cpu, *rows)
    return lax.platform_dependent(*rows, cpu=partial(map_in_batches, on_cpu), default=partial(map_in_batches, elsewhere))


def local(tree: Any) -> Any:
    """Returns this process's copy of replicated arrays, on its first device."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def device_order(batch_size: int, devices: int) -> np.ndarray:
    """Row indices of the global batch in the order in which the devices hold them.

    The objectives split the rows of a device into two halves. So each device gets its part of the first half of the global batch,
    then its part of the second half: on any number of devices, an input is compared with the same other target. An odd number of
    rows per device, which cannot be split, keeps its order.

    Args:
        batch_size: rows of the global batch, a multiple of `devices`.
        devices: number of devices.
    """
    per_device = batch_size // devices
    if per_device % 2:
        return np.arange(batch_size)
    return np.arange(batch_size).reshape(2, devices, per_device // 2).transpose(1, 0, 2).ravel()


def local_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """Indices of the rows of the global batch that this process must read, in the order of its devices."""
    per_device = device_order(batch_size, mesh.size).reshape(mesh.size, -1)
    is_local = [d.process_index == jax.process_index() for d in mesh.devices.flat]
    return per_device[is_local].ravel()


def global_batch(rows: Any, mesh: Mesh) -> Any:
    """Assembles arrays over the whole mesh from the rows of each process.

    Args:
        rows: tree of arrays with this process's rows, in the order of `local_rows`.
        mesh: the mesh.

    Returns:
        The tree of global arrays, split by rows over the mesh.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), rows)
