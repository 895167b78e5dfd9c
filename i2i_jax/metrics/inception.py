"""The network behind FID and KID: Inception-v3 as TensorFlow published it on 2015-12-05, in the form of pytorch-fid.

It is not torchvision's Inception: average pools do not count the padding, the last block pools by maximum, and the weights differ.
Submodules are named as in pytorch-fid's file; every batch norm is folded into the convolution before it.

The published figures come from images of 8 bits: quantise to k / 127.5 - 1, k = 0..255, before asking for features.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Float

from i2i_jax.metrics.backbones import ImageShapeError
from i2i_jax.metrics.weights import WeightsError, take
from i2i_jax.types import Image

FILE = "pt_inception-2015-12-05-6726825d.pth"
SIDE = 299
CLASSES = 1008  # of the unused classifier; torchvision's Inception has the same keys and 1000
BATCH_NORM_EPSILON = 1e-3
SMALLEST = 75  # pixels that leave one at the last block

Features = Float[Array, "b 2048"]
StateDict = Mapping[str, np.ndarray]


def features(params: Mapping[str, Any], images: Image) -> Features:
    """The 2048 features by which FID and KID compare images in [-1, 1], of one channel or three and any size."""
    return cast(Features, Inception().apply({"params": params}, prepare(images)))


def prepare(images: Image) -> Float[Array, "b 299 299 3"]:
    """Grey repeated to RGB; bilinear to 299 x 299 without antialias or aligned corners, as PyTorch's `interpolate`.

    Raises ImageShapeError.
    """
    b, _, _, channels = images.shape
    if channels not in (1, 3):
        raise ImageShapeError(f"images of {channels} channels: FID's Inception reads 3, or 1 as grey")
    rgb = jnp.broadcast_to(images, (*images.shape[:3], 3))
    return jax.image.resize(rgb, (b, SIDE, SIDE, 3), "bilinear", antialias=False)


class Inception(nn.Module):
    """Features of RGB images in [-1, 1], 299 x 299 for FID; any size from 75 x 75 has some. Float64 where the images are."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Features:
        x = _unit(x, "Conv2d_1a_3x3", 32, (3, 3), strides=2, padding="VALID")
        x = _unit(x, "Conv2d_2a_3x3", 32, (3, 3), padding="VALID")
        x = _unit(x, "Conv2d_2b_3x3", 64, (3, 3))
        x = _unit(_halved(x), "Conv2d_3b_1x1", 80)
        x = _halved(_unit(x, "Conv2d_4a_3x3", 192, (3, 3), padding="VALID"))
        for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
            x = BlockA(pooled, name=f"Mixed_5{letter}")(x)
        x = BlockB(name="Mixed_6a")(x)
        for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = BlockC(width, name=f"Mixed_6{letter}")(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(_average, name="Mixed_7b")(x)
        x = BlockE(_maximum, name="Mixed_7c")(x)
        return x.mean((1, 2))


class BlockA(nn.Module):
    pooled: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        one = _unit(x, "branch1x1", 64)
        five = _chain(x, "branch5x5", (48, (1, 1)), (64, (5, 5)))
        three = _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3)))
        return jnp.concatenate([one, five, three, _unit(_average(x), "branch_pool", self.pooled)], -1)


class BlockB(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = _unit(x, "branch3x3", 384, (3, 3), strides=2, padding="VALID")
        double = _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)))
        double = _unit(double, "branch3x3dbl_3", 96, (3, 3), strides=2, padding="VALID")
        return jnp.concatenate([three, double, _halved(x)], -1)


class BlockC(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        one = _unit(x, "branch1x1", 192)
        seven = _chain(x, "branch7x7", (self.width, (1, 1)), (self.width, (1, 7)), (192, (7, 1)))
        down, across = (self.width, (7, 1)), (self.width, (1, 7))
        double = _chain(x, "branch7x7dbl", (self.width, (1, 1)), down, across, down, (192, (1, 7)))
        return jnp.concatenate([one, seven, double, _unit(_average(x), "branch_pool", 192)], -1)


class BlockD(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = _unit(x, "branch3x3_1", 192)
        three = _unit(three, "branch3x3_2", 320, (3, 3), strides=2, padding="VALID")
        seven = _chain(x, "branch7x7x3", (192, (1, 1)), (192, (1, 7)), (192, (7, 1)))
        seven = _unit(seven, "branch7x7x3_4", 192, (3, 3), strides=2, padding="VALID")
        return jnp.concatenate([three, seven, _halved(x)], -1)


class BlockE(nn.Module):
    pool: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        one = _unit(x, "branch1x1", 320)
        three = _unit(x, "branch3x3_1", 384)
        three = [_unit(three, "branch3x3_2a", 384, (1, 3)), _unit(three, "branch3x3_2b", 384, (3, 1))]
        double = _chain(x, "branch3x3dbl", (448, (1, 1)), (384, (3, 3)))
        double = [_unit(double, "branch3x3dbl_3a", 384, (1, 3)), _unit(double, "branch3x3dbl_3b", 384, (3, 1))]
        return jnp.concatenate([one, *three, *double, _unit(self.pool(x), "branch_pool", 192)], -1)


def _unit(x: Array, name: str, width: int, kernel: tuple[int, int] = (1, 1), *, strides: int = 1, padding: str = "SAME") -> Array:
    # Full precision: the default on accelerators would make the score depend on the device.
    return nn.relu(nn.Conv(width, kernel, strides, padding, precision=jax.lax.Precision.HIGHEST, name=name)(x))


def _chain(x: Array, name: str, *units: tuple[int, tuple[int, int]]) -> Array:
    for i, (width, kernel) in enumerate(units, 1):
        x = _unit(x, f"{name}_{i}", width, kernel)
    return x


def _halved(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _average(x: Array) -> Array:
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False).astype(x.dtype)


def _maximum(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), padding="SAME")


def params_from_state_dict(state_dict: StateDict, *, path: Path) -> dict[str, Any]:
    """Parameters of `Inception` from the arrays of pytorch-fid's file `path`; what else it holds, as the classifier, is left out.

    Raises WeightsError on a missing or misshapen key, and on torchvision's Inception.
    """
    classifier = state_dict.get("fc.weight")
    if classifier is not None and len(classifier) != CLASSES:
        raise WeightsError(f"{path}: 'fc.weight' has {len(classifier)} classes: another Inception than FID's, which has {CLASSES}")
    flat = {}
    for unit, shape in _kernels().items():
        flat[*unit, "kernel"], flat[*unit, "bias"] = _folded(state_dict, ".".join(unit), shape, path)
    return traverse_util.unflatten_dict(flat)


@cache
def _kernels() -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of every convolution's kernel, by the path of the convolution."""
    image = jnp.zeros((1, SMALLEST, SMALLEST, 3))
    shapes: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(jax.eval_shape(Inception().init, jax.random.key(0), image)["params"])
    return {tuple(unit): shape.shape for (*unit, leaf), shape in shapes.items() if leaf == "kernel"}


def _folded(state_dict: StateDict, unit: str, shape: tuple[int, ...], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution and the batch norm that follows it."""
    height, width, inputs, outputs = shape
    norm = [f"{unit}.bn.{key}" for key in ("weight", "bias", "running_mean", "running_var")]
    shapes = {f"{unit}.conv.weight": (outputs, inputs, height, width)} | dict.fromkeys(norm, (outputs,))
    weight, *norm = take(state_dict, shapes, path).values()
    scale, shift, mean, var = (value.astype(np.float64) for value in norm)
    scale = scale / np.sqrt(var + BATCH_NORM_EPSILON)
    return (weight.transpose(2, 3, 1, 0) * scale).astype(weight.dtype), (shift - mean * scale).astype(weight.dtype)
