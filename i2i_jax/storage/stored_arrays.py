"""The arrays of one saved step: opened with TensorStore, without Orbax, and compared with what the model needs and what was saved."""

import json
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore as ts

from i2i_jax.config import current_name


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, of another model, or cannot be written: one line that names it."""


class Damaged(CheckpointError):
    """One step that cannot be read back."""


def named(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a pytree by path, for example `params.generator.conv.kernel`.

    Containers leave no trace, so a template may be any part of the train state, in containers of any type.
    """
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def form(dtype: Any, shape: tuple[int, ...]) -> str:
    """Type and shape as messages show them, for example `float32[3, 4]`."""
    return f"{np.dtype(dtype).name}{list(shape)}"


def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Returns `leaf` with a sharding, which defaults to this process's first device."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def open_stored(path: Path) -> dict[str, ts.TensorStore]:
    """Opens the arrays of one step, by their current names.

    Orbax logs pages of tracebacks when a file is damaged, and verifies no checksums. Opening and reading these arrays detects
    missing and truncated files, and flipped bits in the index or in the structure of a compressed chunk. It does not detect flipped
    bits in the values, for which TensorStore keeps no checksum: see `check_sums`.

    Args:
        path: the folder that Orbax wrote for the state of one step.

    Raises:
        Exception: of any type, if files are missing or damaged.
    """
    for file in (path / "_METADATA", path / "_sharding", *path.glob("array_metadatas/*")):
        json.loads(file.read_bytes())
    context = ts.Context()
    store = {"driver": "ocdbt", "base": path.as_uri() + "/"}
    keys = ts.KvStore.open(store, context=context).result().list().result()
    names = sorted({key.decode().rpartition("/")[0] for key in keys})
    specs = {name: {"driver": "zarr", "kvstore": {**store, "path": name + "/"}} for name in names}
    return {current_name(name): ts.open(spec, context=context, open=True).result() for name, spec in specs.items()}


def check_fit(step_name: str, stored: dict[str, ts.TensorStore], wanted: dict[str, jax.ShapeDtypeStruct], *, partial: bool) -> None:
    """Raises CheckpointError unless the stored arrays are those of the model.

    Args:
        step_name: names the step in errors.
        stored: the arrays of the step.
        wanted: the arrays of the model, or of a part of it.
        partial: whether the step may hold more arrays than `wanted`.
    """
    for name, leaf in wanted.items():
        if name not in stored:
            raise CheckpointError(f"{step_name} has no {name}: it is of another model")
        actual, expected = form(stored[name].dtype.numpy_dtype, stored[name].shape), form(leaf.dtype, leaf.shape)
        if actual != expected:
            raise CheckpointError(f"{step_name}: {name} is {actual}, the model's is {expected}")
    if not partial and (unknown := sorted(set(stored) - set(wanted))):
        raise CheckpointError(f"{step_name} has {unknown[0]}, which the model does not have")


def checksums(arrays: dict[str, Any]) -> dict[str, int]:
    """Returns the CRC-32 of the bytes of each array, computed at some GB a second."""
    local = {name: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf for name, leaf in arrays.items()}
    return {name: zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data) for name, leaf in local.items()}


def check_sums(directory: Path, step: int, arrays: dict[str, np.ndarray], *, file: Path) -> None:
    """Raises Damaged unless the arrays have the checksums in `file`. Older versions wrote no checksums: without a file, all pass."""
    if not file.exists():
        return
    saved = json.loads(file.read_bytes())
    if saved["step"] != step:
        raise Damaged(f"{directory}: step {step} is a copy of step {saved['step']}")
    expected = {current_name(name): checksum for name, checksum in saved["crc32"].items()}
    for name, checksum in checksums(arrays).items():
        if checksum != expected[name]:
            raise Damaged(f"{directory}: step {step} is damaged ({name} is not as it was saved)")
