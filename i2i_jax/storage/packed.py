"""A model in one file: its networks as safetensors, with its config and its card in the metadata. Nothing in the file is executed."""

import contextlib
import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from i2i_jax.config import Config, ConfigError, current_name, flatten, from_json, override, to_json
from i2i_jax.storage.stored_arrays import form, named
from i2i_jax.types import EIGHT_BITS, SampleType

FORMAT = "i2i_jax 1"

# Options that a packed model carries: all that defines the networks and how they were trained, nothing about this machine or its user.
PUBLISHED = (
    "objective", "update", "gan_loss", "kl_reduction", "latent_trains_encoder", "model.*", "weights.*", "optimizer.*", "sampling.*",
    "data.name", "data.direction", "data.resize", "data.load_size", "data.crop_size", "data.batch_size", "data.flip", "data.flip_vertical",
    "data.rotate", "data.input_channels", "data.target_channels", "data.input_range", "data.target_range", "data.input_labels",
    "data.palette", "train.steps", "train.ema", "train.microbatches", "train.rematerialize",
    "eval.metrics", "eval.best_metric", "eval.inputs", "eval.samples",
)  # fmt: skip

DTYPES = {"float32": np.float32, "bfloat16": jnp.bfloat16}  # of the parameters in the file
TYPES = {"F32": np.float32, "I32": np.int32, "BF16": np.float32}  # of the arrays in memory


class PackedError(ValueError):
    """A packed file that cannot be used: one line that names it and what was found."""


def to_bytes(config: Config, card: dict[str, Any], state: Any, *, target_type: SampleType = EIGHT_BITS, dtype: str = "float32") -> bytes:
    """Returns the content of a packed file.

    Args:
        config: the run's config, of which only the options in PUBLISHED are written; the others get their defaults.
        card: the model card, as JSON can hold it.
        state: a pytree of the arrays to write.
        target_type: how the samples of the images that the model was trained to produce are stored.
        dtype: one of DTYPES: how the parameters are stored. `restore` returns them as float32 in either case.
    """
    published = override(Config(), {name: value for name, value in flatten(config).items() if _is_published(name)})
    published.data.input_labels = _without_class_names(config.data.input_labels)
    metadata = {"format": FORMAT, "config": to_json(published), "card": json.dumps(card)}
    if target_type.dtype != "uint8":
        metadata |= {"target_bits": "16"} if target_type.dtype == "uint16" else {"target_type": target_type.dtype}
    if target_type.npy:
        metadata["target_npy"] = "true"
    arrays = {name: np.asarray(leaf) for name, leaf in named(state).items()}
    stored = {name: array.astype(DTYPES[dtype]) if name.startswith("params.") else array for name, array in arrays.items()}
    return safetensors.numpy.save(stored, metadata)


def _without_class_names(input_labels: str) -> str:
    """A palette as the list of its colours: names are free text, which a user writes."""
    return json.dumps([*json.loads(input_labels).values()]) if input_labels.startswith("{") else input_labels


def _is_published(option: str) -> bool:
    return any(fnmatch.fnmatchcase(option, pattern) for pattern in PUBLISHED)


def read_config(path: str | Path) -> Config:
    """Reads the config of a packed file. Raises PackedError."""
    with _opened(path) as (_, metadata):
        try:
            return from_json(metadata.get("config", ""))
        except ConfigError as error:
            raise PackedError(f"{path}: its config: {error}") from None


def target_type(path: str | Path) -> SampleType:
    """Returns the `target_type` that `to_bytes` wrote. Raises PackedError."""
    with _opened(path) as (_, metadata):
        dtype = metadata.get("target_type", "uint16" if metadata.get("target_bits") == "16" else "uint8")
        return SampleType(dtype if dtype in ("uint16", "int16", "float32") else "uint8", metadata.get("target_npy") == "true")


def networks(path: str | Path) -> set[str]:
    """Returns the networks whose parameters are in the file. Raises PackedError."""
    with _opened(path) as (file, _):
        return {name.split(".")[1] for name in _stored_names(file) if name.startswith("params.")}


def restore(path: str | Path, template: Any) -> Any:
    """Reads arrays of a packed file.

    Args:
        path: the file.
        template: a pytree of ShapeDtypeStruct: the arrays to read, with their dtypes and shardings.

    Returns:
        A pytree of arrays with the structure of `template`.

    Raises:
        PackedError: if the file is damaged, or lacks an array or has it in another shape or dtype.
    """
    wanted = named(template)
    with _opened(path) as (file, _):
        stored_names = _stored_names(file)
        for name, leaf in wanted.items():
            if name not in stored_names:
                raise PackedError(f"{path}: has no {name}: it is of another model than its config")
            stored = file.get_slice(stored_names[name])
            actual = form(TYPES.get(stored.get_dtype(), np.void), tuple(stored.get_shape()))
            if actual != (expected := form(leaf.dtype, leaf.shape)):
                raise PackedError(f"{path}: {name} is {actual}, that of its config is {expected}")
        arrays = [
            jax.device_put(file.get_tensor(stored_names[name]).astype(leaf.dtype, copy=False), leaf.sharding)
            for name, leaf in wanted.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(template), arrays)


def _stored_names(file: Any) -> dict[str, str]:
    """The current name of each array to its name in the file, which an older version may have written."""
    return {current_name(name): name for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """The file and its metadata."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if (found := metadata.get("format")) != FORMAT:
                raise PackedError(f"{path}: is no model that `i2i_jax pack` wrote: its format is {found!r}, not {FORMAT!r}")
            yield file, metadata
    except safetensors.SafetensorError as error:
        raise PackedError(f"{path}: is no model that `i2i_jax pack` wrote, or is damaged ({error})") from error
