"""Weights in the layout and naming of the two public PyTorch projects, pix2pix and BicycleGAN.

A layer table gives, for each of our layers, the PyTorch key prefix and the kind of layer. Both directions read it. Arrays are
NumPy; PyTorch itself is not needed.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from i2i_jax.models import ConvEncoder, MultiScale, PatchGAN, PixelGAN, ResNet, ResNetEncoder, UNet

Array = np.ndarray
StateDict = Mapping[str, Array]


class StateDictError(ValueError):
    """A state dict that does not hold this network: the message names the key."""


class Layer(NamedTuple):
    path: tuple[str, ...]  # of its parameters in ours
    key: str  # PyTorch prefix
    kind: str = "conv"  # conv, transposed, dense, norm
    normed: bool = False  # a norm follows (where it has parameters: as the next layer), and cancels the bias


def params_from_state_dict(module: nn.Module, state_dict: StateDict) -> dict[str, Any]:
    """The parameters of `module`. Biases that a norm cancels are dropped. Raises StateDictError on a missing, unknown or misshapen key."""
    state, layers = _stripped(state_dict), list(_layers(module))
    shapes = _shapes(module, state, layers)["params"]
    flat, known = {}, {f"{layer.key}.bias" for layer in layers if layer.normed}
    for layer in layers:
        for leaf, name in (("scale" if layer.kind == "norm" else "kernel", "weight"), ("bias", "bias")):
            path, key = (*layer.path, leaf), f"{layer.key}.{name}"
            if path in shapes:
                flat[path] = _take(state, key, shapes[path], kind=layer.kind if name == "weight" else "norm")
                known.add(key)
    _refuse_unknown(state, known)
    return traverse_util.unflatten_dict(flat)


def batch_stats_from_state_dict(module: nn.Module, state_dict: StateDict) -> dict[str, Any]:
    """The running statistics of `module`'s batch norms. Raises StateDictError on a missing or misshapen key.

    A running mean of PyTorch's contains the bias before the norm; ours, which has no such bias, does not.
    """
    state, layers = _stripped(state_dict), list(_layers(module))
    shapes, flat = _shapes(module, state, layers)["batch_stats"], {}
    for before, layer in itertools.pairwise(layers):
        if layer.kind == "norm":
            mean, var = (*layer.path, "mean"), (*layer.path, "var")
            flat[mean] = _take(state, f"{layer.key}.running_mean", shapes[mean])
            flat[var] = _take(state, f"{layer.key}.running_var", shapes[var])
            if before.normed and f"{before.key}.bias" in state:
                flat[mean] = flat[mean] - _take(state, f"{before.key}.bias", shapes[mean])
    return traverse_util.unflatten_dict(flat)


def state_dict_from_params(module: nn.Module, params: Mapping[str, Any], batch_stats: Mapping[str, Any] | None = None) -> dict[str, Array]:
    """Inverse of `params_from_state_dict`. Biases that a norm cancels are written as zeros where PyTorch's network has them."""
    flat = {path: np.asarray(value) for path, value in traverse_util.flatten_dict(dict(params)).items()}
    stats = {path: np.asarray(value) for path, value in traverse_util.flatten_dict(dict(batch_stats or {})).items()}
    state = {}
    for layer in _layers(module):
        if layer.kind == "norm":
            state[f"{layer.key}.weight"], state[f"{layer.key}.bias"] = flat[(*layer.path, "scale")], flat[(*layer.path, "bias")]
            if stats:
                state[f"{layer.key}.running_mean"] = stats[(*layer.path, "mean")]
                state[f"{layer.key}.running_var"] = stats[(*layer.path, "var")]
                state[f"{layer.key}.num_batches_tracked"] = np.zeros((), np.int64)
            continue
        kernel = flat[(*layer.path, "kernel")]
        state[f"{layer.key}.weight"] = _to_torch[layer.kind](kernel)
        if (*layer.path, "bias") in flat:
            state[f"{layer.key}.bias"] = flat[(*layer.path, "bias")]
        elif layer.normed and _has_bias_in_torch(module):
            state[f"{layer.key}.bias"] = np.zeros(kernel.shape[-1], kernel.dtype)
    return state


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


def _has_bias_in_torch(module: nn.Module) -> bool:
    """pix2pix's networks with batch norm have no bias before a norm; BicycleGAN's do, and all with instance norm."""
    if isinstance(module, MultiScale):
        return len(module.scales) > 1 or any(map(_has_bias_in_torch, module.scales))
    if isinstance(module, UNet):
        return module.norm == "instance" or module.skip_order == "decoder_first"
    return module.norm == "instance" or isinstance(module, ConvEncoder | ResNetEncoder)


def _layers(module: nn.Module) -> Iterator[Layer]:
    for kind, table in _TABLES.items():
        if isinstance(module, kind):
            return table(module)
    raise StateDictError(f"no PyTorch layout is known for {type(module).__name__}")


def _unet(module: UNet) -> Iterator[Layer]:
    nested = module.latent_at == "all" and module.skip_order == "decoder_first"
    levels = _nested_levels(module) if nested else _sequential_levels(module)
    for level, (down, down_norm, up, up_norm) in enumerate(levels):
        yield Layer((f"down_{level}",), down, normed=0 < level < module.depth - 1 and module.norm != "none")
        if module.norm == "batch" and 0 < level < module.depth - 1:
            yield Layer((f"down_norm_{level}", "batch_norm"), down_norm, "norm")
        transposed = module.upsample == "transposed"
        path = (f"up_{level}",) if transposed else (f"up_{level}", "conv")
        yield Layer(path, up, "transposed" if transposed else "conv", normed=level > 0 and module.norm != "none")
        if module.norm == "batch" and level:
            yield Layer((f"up_norm_{level}", "batch_norm"), up_norm, "norm")


def _sequential_levels(module: UNet) -> Iterator[tuple[str, str, str, str]]:
    """Keys of pix2pix's U-Net and of BicycleGAN's with z at the input: one nn.Sequential inside another."""
    # Where there is no norm, pix2pix keeps an identity in its place.
    norm = int(module.norm != "none" or module.skip_order == "encoder_first")
    prefix, resize = "model.model", 0 if module.upsample == "transposed" else 2
    for level in range(module.depth):
        outermost, innermost = level == 0, level == module.depth - 1
        down = 0 if outermost else 1
        up = (3 if outermost or innermost else 4 + norm) + resize
        yield f"{prefix}.{down}", f"{prefix}.{down + 1}", f"{prefix}.{up}", f"{prefix}.{up + 1}"
        prefix += ".1.model" if outermost else f".{2 + norm}.model"


def _nested_levels(module: UNet) -> Iterator[tuple[str, str, str, str]]:
    """Keys of BicycleGAN's U-Net with z at all layers: modules down, submodule, up."""
    prefix, up = "model", 1 if module.upsample == "transposed" else 3
    for level in range(module.depth):
        down = 0 if level == 0 else 1
        yield f"{prefix}.down.{down}", f"{prefix}.down.{down + 1}", f"{prefix}.up.{up}", f"{prefix}.up.{up + 1}"
        prefix += ".submodule"


def _resnet(module: ResNet) -> Iterator[Layer]:
    second = 6 if module.dropout else 5

    def normed(path: str, key: str, index: int, kind: str = "conv", *inner: str) -> Iterator[Layer]:
        yield Layer((path, *inner), f"{key}{index}", kind, normed=True)
        if module.norm == "batch":
            yield Layer((f"{path}_norm", "batch_norm"), f"{key}{index + 1}", "norm")

    if module.upsample != "transposed":
        raise StateDictError("no PyTorch layout is known for a ResNet with bilinear upsampling")
    for path, index in (("first", 1), ("down_1", 4), ("down_2", 7)):
        yield from normed(path, "model.", index)
    for i in range(module.blocks):
        yield from normed(f"block_{i}_a", f"model.{10 + i}.conv_block.", 1)
        yield from normed(f"block_{i}_b", f"model.{10 + i}.conv_block.", second)
    end = 10 + module.blocks
    yield from normed("up_2", "model.", end, "transposed")
    yield from normed("up_1", "model.", end + 3, "transposed")
    yield Layer(("last",), f"model.{end + 7}")


def _patchgan(module: Any, prefix: str = "model", path: tuple[str, ...] = ()) -> Iterator[Layer]:
    yield Layer((*path, "conv_0"), f"{prefix}.0")
    for i in range(1, module.layers + 1):
        index = 3 * i - 1
        yield Layer((*path, f"conv_{i}"), f"{prefix}.{index}", normed=module.norm != "none")
        if module.norm == "batch":
            yield Layer((*path, f"norm_{i}", "batch_norm"), f"{prefix}.{index + 1}", "norm")
    yield Layer((*path, "logits"), f"{prefix}.{3 * module.layers + 2}")


def _pixel(module: PixelGAN, prefix: str = "net", path: tuple[str, ...] = ()) -> Iterator[Layer]:
    yield Layer((*path, "conv_0"), f"{prefix}.0")
    yield Layer((*path, "conv_1"), f"{prefix}.2", normed=module.norm != "none")
    if module.norm == "batch":
        yield Layer((*path, "norm_1", "batch_norm"), f"{prefix}.3", "norm")
    yield Layer((*path, "logits"), f"{prefix}.5")


def _multi_scale(module: MultiScale) -> Iterator[Layer]:
    for i, scale in enumerate(module.scales):
        path = (f"scales_{i}",)
        if isinstance(scale, PixelGAN):
            yield from _pixel(scale, "net" if len(module.scales) == 1 else f"net_{i}", path)
        else:
            yield from _patchgan(scale, "model" if len(module.scales) == 1 else f"model_{i}", path)


def _resnet_encoder(module: ResNetEncoder) -> Iterator[Layer]:
    norm = int(module.norm != "none")
    yield Layer(("first",), "conv.0")
    for i in range(module.blocks):
        prefix = f"conv.{i + 1}"
        if module.norm == "batch":
            yield Layer((f"block_{i}_norm_a", "batch_norm"), f"{prefix}.conv.0", "norm")
        yield Layer((f"block_{i}_a",), f"{prefix}.conv.{1 + norm}", normed=bool(norm))
        if module.norm == "batch":
            yield Layer((f"block_{i}_norm_b", "batch_norm"), f"{prefix}.conv.3", "norm")
        yield Layer((f"block_{i}_b",), f"{prefix}.conv.{3 + 2 * norm}.0")
        yield Layer((f"block_{i}_shortcut",), f"{prefix}.shortcut.1")
    yield from _heads()


def _conv_encoder(module: ConvEncoder) -> Iterator[Layer]:
    step = 3 if module.norm != "none" else 2
    yield Layer(("conv_0",), "conv.0")
    for i in range(1, module.layers):
        index = 2 + step * (i - 1)
        yield Layer((f"conv_{i}",), f"conv.{index}", normed=module.norm != "none")
        if module.norm == "batch":
            yield Layer((f"norm_{i}", "batch_norm"), f"conv.{index + 1}", "norm")
    yield from _heads()


def _heads() -> Iterator[Layer]:
    yield Layer(("mean",), "fc.0", "dense")
    yield Layer(("log_var",), "fcVar.0", "dense")


_TABLES = {
    UNet: _unet,
    ResNet: _resnet,
    MultiScale: _multi_scale,
    PatchGAN: _patchgan,
    PixelGAN: _pixel,
    ResNetEncoder: _resnet_encoder,
    ConvEncoder: _conv_encoder,
}


def _stripped(state_dict: StateDict) -> dict[str, Array]:
    return {key.removeprefix("module."): np.asarray(value) for key, value in state_dict.items()}


def _inputs(state: dict[str, Array], layer: Layer) -> int:
    """Channels that a convolution reads."""
    key = f"{layer.key}.weight"
    if key not in state or state[key].ndim != 4:
        raise StateDictError(f"the state dict has no {key!r} of four dimensions")
    return state[key].shape[1]


def _shapes(module: nn.Module, state: dict[str, Array], layers: list[Layer]) -> dict[str, dict[tuple[str, ...], tuple[int, ...]]]:
    """Of the module's variables, by collection and path, for images and latents of as many channels as the state dict's network reads."""
    channels, latent = _inputs(state, layers[0]), 0
    if isinstance(module, UNet) and module.latent_at == "all":
        second = next(layer for layer in layers if layer.path == ("down_1",))
        latent = max(0, _inputs(state, second) - module.width)
    # A network of another width looks like one of many latents: its first kernel's shape will tell.
    latent = latent if latent < channels else 0
    inputs = [(1, 1024, 1024, channels - latent)] + ([(1, latent)] if latent else [])
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    variables = jax.eval_shape(lambda: module.init(keys, *map(jnp.zeros, inputs)))
    flat: dict[str, dict] = {name: traverse_util.flatten_dict(variables.get(name, {})) for name in ("params", "batch_stats")}
    return {name: {path: leaf.shape for path, leaf in leaves.items()} for name, leaves in flat.items()}


def _take(state: dict[str, Array], key: str, shape: tuple[int, ...], kind: str = "norm") -> Array:
    """The array at `key` in our layout, where it has `shape`."""
    if key not in state:
        raise StateDictError(f"the state dict has no {key!r}")
    needed = _to_torch[kind](np.empty(shape)).shape
    if state[key].shape != needed:
        raise StateDictError(f"{key!r} has shape {state[key].shape}: this network needs {needed}")
    return _to_flax[kind](state[key])


def _refuse_unknown(state: dict[str, Array], known: set[str]) -> None:
    # Old files hold statistics of instance norms, which are not used.
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    unknown = [key for key in state if key not in known and key.rsplit(".", 1)[-1] not in statistics]
    if unknown:
        raise StateDictError(f"the state dict has {len(unknown)} keys that this network does not have, first {unknown[0]!r}")
