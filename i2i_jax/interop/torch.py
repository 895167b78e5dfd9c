"""Converts parameters to and from state dicts of the two public PyTorch projects, pix2pix and BicycleGAN; does not need PyTorch."""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from i2i_jax.interop.layout import Layer, StateDictError, has_cancelled_biases, layers
from i2i_jax.models import UNet
from i2i_jax.models.layers import box_kernel

Array = np.ndarray
StateDict = Mapping[str, Array]
Shapes = dict[tuple[str, ...], tuple[int, ...]]

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def params_from_state_dict(module: nn.Module, state_dict: StateDict) -> dict[str, Any]:
    """Converts a state dict to the parameters of `module`.

    Biases that a following norm cancels are dropped.

    Args:
        module: a generator, encoder or discriminator.
        state_dict: NumPy arrays under PyTorch's names, with or without the prefix of nn.DataParallel.

    Raises:
        StateDictError: if a key is missing, unknown or has another shape.
    """
    state, table = stripped(state_dict), list(layers(module))
    shapes = _shapes(module, state, table)["params"]
    flat, known = {}, {f"{layer.key}.bias" for layer in table if layer.normed}
    for layer in table:
        for leaf, name in (("scale" if layer.kind == "norm" else "kernel", "weight"), ("bias", "bias")):
            path, key = (*layer.path, leaf), f"{layer.key}.{name}"
            if path in shapes:
                flat[path] = _take(state, key, shapes[path], kind=layer.kind if name == "weight" else "norm")
                known.add(key)
    _refuse_unknown(state, known)
    return traverse_util.unflatten_dict(flat)


def batch_stats_from_state_dict(module: nn.Module, state_dict: StateDict) -> dict[str, Any]:
    """Converts a state dict to the running statistics of the batch norms of `module`.

    PyTorch's running means include the bias of the convolution before the norm. We drop this bias, so it is subtracted.

    Args:
        module: a generator, encoder or discriminator.
        state_dict: NumPy arrays under PyTorch's names, with or without the prefix of nn.DataParallel.

    Raises:
        StateDictError: if a key is missing or has another shape.
    """
    state, table = stripped(state_dict), list(layers(module))
    shapes, flat = _shapes(module, state, table)["batch_stats"], {}
    for before, layer in itertools.pairwise(table):
        if layer.kind == "norm":
            mean, var = (*layer.path, "mean"), (*layer.path, "var")
            flat[mean] = _take(state, f"{layer.key}.running_mean", shapes[mean])
            flat[var] = _take(state, f"{layer.key}.running_var", shapes[var])
            if before.normed and f"{before.key}.bias" in state:
                flat[mean] = flat[mean] - _take(state, f"{before.key}.bias", shapes[mean])
    return traverse_util.unflatten_dict(flat)


def ignored_tensors(module: nn.Module, state_dict: StateDict) -> dict[str, Array]:
    """The tensors of a state dict that are lost in conversion: biases that a norm cancels, running means with them, and counters.

    `state_dict_from_params` uses them to restore the state dict bit for bit.

    Args:
        module: a generator, encoder or discriminator.
        state_dict: NumPy arrays under PyTorch's names, with or without the prefix of nn.DataParallel.

    Returns:
        The tensors by key, without the prefix of nn.DataParallel.

    Raises:
        StateDictError: if a bias has a wrong shape.
    """
    state, table = stripped(state_dict), list(layers(module))
    kept = [f"{layer.key}.bias" for layer in table if layer.normed]
    for before, layer in itertools.pairwise(table):
        if layer.kind == "norm":
            kept += [f"{layer.key}.num_batches_tracked"] + [f"{layer.key}.running_mean"] * (f"{before.key}.bias" in kept)
    for layer in table:
        bias, weight = (state.get(f"{layer.key}.{name}") for name in ("bias", "weight"))
        features = None if weight is None else weight.shape[1 if layer.kind == "transposed" else 0]
        if layer.normed and bias is not None and bias.shape != (features,):
            raise StateDictError(f"'{layer.key}.bias' has shape {bias.shape}: this network needs {(features,)}")
    return {key: state[key] for key in kept if key in state}


def state_dict_from_params(
    module: nn.Module,
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any] | None = None,
    *,
    ignored_tensors: StateDict | None = None,
) -> dict[str, Array]:
    """Converts parameters to a state dict; the inverse of `params_from_state_dict`.

    Args:
        module: a generator, encoder or discriminator.
        params: its parameters.
        batch_stats: its running statistics.
        ignored_tensors: what the function `ignored_tensors` returned for the original state dict, if there was one. Biases
            without original are written as zeros where PyTorch's network has a bias that a norm cancels.

    Returns:
        NumPy arrays under PyTorch's names.
    """
    flat, stats, kept = _flat(params), _flat(batch_stats or {}), dict(ignored_tensors or {})
    state, table = {}, list(layers(module))
    for before, layer in zip([None, *table], table, strict=False):
        weight, bias = f"{layer.key}.weight", f"{layer.key}.bias"
        if layer.kind == "norm":
            state[weight], state[bias] = flat[(*layer.path, "scale")], flat[(*layer.path, "bias")]
            state |= _statistics(layer, stats, kept, f"{before.key}.bias" if before else "")
            continue
        kernel = flat[(*layer.path, "kernel")]
        state[weight] = _to_torch[layer.kind](kernel)
        if (*layer.path, "bias") in flat:
            state[bias] = flat[(*layer.path, "bias")]
        elif layer.normed and (bias in kept or has_cancelled_biases(module)):
            state[bias] = kept.get(bias, np.zeros(kernel.shape[-1], kernel.dtype))
    return state


def with_transposed_convolutions(module: nn.Module, params: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """A U-Net with nearest upsampling as one with transposed convolutions, which computes the same; other networks unchanged."""
    if not (isinstance(module, UNet) and module.upsample == "nearest"):
        return module, params
    ups = {
        name: layer | {"kernel": box_kernel(jnp.asarray(layer["kernel"]))}
        for name, layer in params.items()
        if re.fullmatch(r"up_\d+", name)
    }
    return module.clone(upsample="transposed"), params | ups


def _statistics(layer: Layer, stats: Mapping[tuple[str, ...], Array], kept: StateDict, bias_before: str) -> dict[str, Array]:
    if not stats:
        return {}
    mean, tracked = stats[(*layer.path, "mean")], f"{layer.key}.num_batches_tracked"
    if bias_before in kept:
        # original - bias + bias is not always the original in float32: use the original unless our mean was trained since.
        bias, original = kept[bias_before], kept.get(f"{layer.key}.running_mean", mean)
        mean = np.where(original - bias == mean, original, mean + bias)
    return {
        f"{layer.key}.running_mean": mean,
        f"{layer.key}.running_var": stats[(*layer.path, "var")],
        tracked: kept.get(tracked, np.zeros((), np.int64)),
    }


@functools.cache
def keys(module: nn.Module) -> frozenset[str]:
    """The keys of the state dict of `module`, without the counters `num_batches_tracked`."""
    variables = {name: {path: np.empty(shape) for path, shape in shapes.items()} for name, shapes in _shapes_of(module, 1, 0).items()}
    written = state_dict_from_params(module, *(traverse_util.unflatten_dict(variables[name]) for name in ("params", "batch_stats")))
    return frozenset(key for key in written if not key.endswith(".num_batches_tracked"))


def stripped(state_dict: StateDict) -> dict[str, Array]:
    """Removes the prefix of nn.DataParallel, and the statistics of instance norms that old files contain."""
    state = {key.removeprefix("module."): np.asarray(value) for key, value in state_dict.items()}
    return {key: value for key, value in state.items() if not _is_of_old_instance_norm(key, state)}


def _is_of_old_instance_norm(key: str, state: StateDict) -> bool:
    layer, _, name = key.rpartition(".")
    return name in STATISTICS and f"{layer}.weight" not in state


_to_flax = {
    "conv": lambda w: w.transpose(2, 3, 1, 0),
    "transposed": lambda w: np.flip(w, (2, 3)).transpose(2, 3, 0, 1),
    "dense": lambda w: w.T,
    "norm": lambda w: w,
}
_to_torch = {
    "conv": lambda k: k.transpose(3, 2, 0, 1),
    "transposed": lambda k: np.flip(k.transpose(2, 3, 0, 1), (2, 3)),
    "dense": lambda k: k.T,
    "norm": lambda k: k,
}


def inputs(state: StateDict, layer: Layer) -> int:
    """Input channels of a convolution. Raises StateDictError if the state dict does not have it."""
    key = f"{layer.key}.weight"
    if key not in state or state[key].ndim != 4:
        raise StateDictError(f"the state dict has no {key!r} of four dimensions")
    return state[key].shape[1]


def _shapes(module: nn.Module, state: StateDict, table: list[Layer]) -> dict[str, Shapes]:
    """Shapes of the module's variables, for inputs with as many channels as those of the state dict's network."""
    channels, latent = inputs(state, table[0]), 0
    if isinstance(module, UNet) and module.latent_at == "all":
        second = next(layer for layer in table if layer.path == ("down_1",))
        latent = max(0, inputs(state, second) - module.width)
    # A network of another width looks like one with a large latent; it is refused by the shape of its first kernel.
    latent = latent if latent < channels else 0
    return _shapes_of(module, channels - latent, latent)


def _shapes_of(module: nn.Module, channels: int, latent: int) -> dict[str, Shapes]:
    """Shapes of the module's variables, by collection and path."""
    arguments = [(1, 1024, 1024, channels)] + ([(1, latent)] if latent else [])
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    variables = jax.eval_shape(lambda: module.init(rngs, *map(jnp.zeros, arguments)))
    flat: dict[str, dict] = {name: traverse_util.flatten_dict(variables.get(name, {})) for name in ("params", "batch_stats")}
    return {name: {path: leaf.shape for path, leaf in leaves.items()} for name, leaves in flat.items()}


def _take(state: StateDict, key: str, shape: tuple[int, ...], kind: str = "norm") -> Array:
    """The array at `key` in our layout. Raises StateDictError if it is missing or is not of `shape`."""
    if key not in state:
        raise StateDictError(f"the state dict has no {key!r}")
    needed = _to_torch[kind](np.broadcast_to(0.0, shape)).shape
    if state[key].shape != needed:
        raise StateDictError(f"{key!r} has shape {state[key].shape}: this network needs {needed}")
    return _to_flax[kind](state[key])


def _refuse_unknown(state: StateDict, known: set[str]) -> None:
    unknown = [key for key in state if key not in known and key.rsplit(".", 1)[-1] not in STATISTICS]
    if unknown:
        raise StateDictError(f"the state dict has {len(unknown)} keys that this network does not have, first {unknown[0]!r}")


def _flat(tree: Mapping[str, Any]) -> dict[tuple[str, ...], Array]:
    return {path: np.asarray(value) for path, value in traverse_util.flatten_dict(dict(tree)).items()}
