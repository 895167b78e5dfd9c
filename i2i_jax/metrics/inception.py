"""The network of FID and KID: the Inception-v3 that TensorFlow published on 2015-12-05, as in pytorch-fid.

It differs from torchvision's Inception-v3: average pooling does not count the padding, the last block uses max pooling, and the weights
are others. Submodules are named as in pytorch-fid's file. Each batch norm is folded into the convolution before it.

Published FIDs and KIDs were computed from 8-bit images: round images to k / 127.5 - 1, k = 0..255, before computing features.
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
SIDE = 299  # pixels
CLASSES = 1008  # of the classifier, which is not used; torchvision's Inception has the same keys, but 1000 classes
BATCH_NORM_EPSILON = 1e-3
SMALLEST = 75  # pixels of height and width that leave one pixel at the last block

Features = Float[Array, "b 2048"]
StateDict = Mapping[str, np.ndarray]


def features(params: Mapping[str, Any], images: Image) -> Features:
    """Computes the features of FID and KID.

    Args:
        params: the parameters of `Inception`.
        images: images in [-1, 1] of any size, with 3 channels or 1.

    Raises:
        ImageShapeError: if the images have another number of channels.
    """
    return cast(Features, Inception().apply({"params": params}, prepare(images)))


def prepare(images: Image) -> Float[Array, "b 299 299 3"]:
    """Repeats a grey channel to RGB and resizes to 299 x 299.

    The resizing is bilinear without antialiasing and without aligned corners, like PyTorch's `interpolate`.

    Raises:
        ImageShapeError: if the images have neither 1 nor 3 channels.
    """
    b, _, _, channels = images.shape
    if channels not in (1, 3):
        raise ImageShapeError(f"images of {channels} channels: FID's Inception reads 3, or 1 as grey")
    rgb = jnp.broadcast_to(images, (*images.shape[:3], 3))
    return jax.image.resize(rgb, (b, SIDE, SIDE, 3), "bilinear", antialias=False)


class Inception(nn.Module):
    """Computes 2048 features of RGB images in [-1, 1].

    FID needs images of 299 x 299 pixels, but any size from 75 x 75 works. Computes in float64 if the images are float64.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Features:
        x = _unit(x, "Conv2d_1a_3x3", 32, (3, 3), strides=2, padding="VALID")
        x = _unit(x, "Conv2d_2a_3x3", 32, (3, 3), padding="VALID")
        x = _unit(x, "Conv2d_2b_3x3", 64, (3, 3))
        x = _unit(_max_pool_by_2(x), "Conv2d_3b_1x1", 80)
        x = _max_pool_by_2(_unit(x, "Conv2d_4a_3x3", 192, (3, 3), padding="VALID"))
        for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
            x = BlockA(pooled, name=f"Mixed_5{letter}")(x)
        x = BlockB(name="Mixed_6a")(x)
        for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = BlockC(width, name=f"Mixed_6{letter}")(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(_average_pool, name="Mixed_7b")(x)
        x = BlockE(_max_pool, name="Mixed_7c")(x)
        return x.mean((1, 2))


class BlockA(nn.Module):
    """Mixed_5b to Mixed_5d; `pooled` is the number of features of the pooling branch."""

    pooled: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        one = _unit(x, "branch1x1", 64)
        five = _chain(x, "branch5x5", (48, (1, 1)), (64, (5, 5)))
        three = _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3)))
        return jnp.concatenate([one, five, three, _unit(_average_pool(x), "branch_pool", self.pooled)], -1)


class BlockB(nn.Module):
    """Mixed_6a, which halves the size."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = _unit(x, "branch3x3", 384, (3, 3), strides=2, padding="VALID")
        double = _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)))
        double = _unit(double, "branch3x3dbl_3", 96, (3, 3), strides=2, padding="VALID")
        return jnp.concatenate([three, double, _max_pool_by_2(x)], -1)


class BlockC(nn.Module):
    """Mixed_6b to Mixed_6e; `width` is the number of features inside the 7 x 7 branches."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        one = _unit(x, "branch1x1", 192)
        seven = _chain(x, "branch7x7", (self.width, (1, 1)), (self.width, (1, 7)), (192, (7, 1)))
        down, across = (self.width, (7, 1)), (self.width, (1, 7))
        double = _chain(x, "branch7x7dbl", (self.width, (1, 1)), down, across, down, (192, (1, 7)))
        return jnp.concatenate([one, seven, double, _unit(_average_pool(x), "branch_pool", 192)], -1)


class BlockD(nn.Module):
    """Mixed_7a, which halves the size."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = _unit(x, "branch3x3_1", 192)
        three = _unit(three, "branch3x3_2", 320, (3, 3), strides=2, padding="VALID")
        seven = _chain(x, "branch7x7x3", (192, (1, 1)), (192, (1, 7)), (192, (7, 1)))
        seven = _unit(seven, "branch7x7x3_4", 192, (3, 3), strides=2, padding="VALID")
        return jnp.concatenate([three, seven, _max_pool_by_2(x)], -1)


class BlockE(nn.Module):
    """Mixed_7b and Mixed_7c; `pool` is the pooling function of the pooling branch."""

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
    """A convolution with ReLU."""
    # At the default precision of accelerators the score would depend on the device.
    return nn.relu(nn.Conv(width, kernel, strides, padding, precision=jax.lax.Precision.HIGHEST, name=name)(x))


def _chain(x: Array, name: str, *units: tuple[int, tuple[int, int]]) -> Array:
    """Convolutions one after another, each given by (features, kernel), named NAME_1, NAME_2, ..."""
    for i, (width, kernel) in enumerate(units, 1):
        x = _unit(x, f"{name}_{i}", width, kernel)
    return x


def _max_pool_by_2(x: Array) -> Array:
    """Max pooling over 3 x 3 windows with stride 2."""
    return nn.max_pool(x, (3, 3), (2, 2))


def _average_pool(x: Array) -> Array:
    """Average pooling over 3 x 3 windows with stride 1; the padding is not counted."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False).astype(x.dtype)


def _max_pool(x: Array) -> Array:
    """Max pooling over 3 x 3 windows with stride 1."""
    return nn.max_pool(x, (3, 3), padding="SAME")


def params_from_state_dict(state_dict: StateDict, *, path: Path) -> dict[str, Any]:
    """Converts the state dict of pytorch-fid's file to the parameters of `Inception`. Other keys, such as the classifier, are ignored.

    Args:
        state_dict: the arrays of the file by key.
        path: the file, for error messages.

    Raises:
        WeightsError: if a key is missing or has the wrong shape, or the file is torchvision's Inception.
    """
    classifier = state_dict.get("fc.weight")
    if classifier is not None and len(classifier) != CLASSES:
        raise WeightsError(f"{path}: 'fc.weight' has {len(classifier)} classes: not the Inception of FID, which has {CLASSES}")
    flat = {}
    for unit, shape in _kernels().items():
        flat[*unit, "kernel"], flat[*unit, "bias"] = _fold_batch_norm(state_dict, ".".join(unit), shape, path)
    return traverse_util.unflatten_dict(flat)


@cache
def _kernels() -> dict[tuple[str, ...], tuple[int, ...]]:
    """The shape of each convolution's kernel, by the path of the convolution."""
    image = jnp.zeros((1, SMALLEST, SMALLEST, 3))
    shapes: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(jax.eval_shape(Inception().init, jax.random.key(0), image)["params"])
    return {tuple(unit): shape.shape for (*unit, leaf), shape in shapes.items() if leaf == "kernel"}


def _fold_batch_norm(state_dict: StateDict, unit: str, shape: tuple[int, ...], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of the convolution `unit` with the following batch norm folded into them."""
    height, width, inputs, outputs = shape
    norm = [f"{unit}.bn.{key}" for key in ("weight", "bias", "running_mean", "running_var")]
    shapes = {f"{unit}.conv.weight": (outputs, inputs, height, width)} | dict.fromkeys(norm, (outputs,))
    weight, *norm = take(state_dict, shapes, path).values()
    scale, shift, mean, var = (value.astype(np.float64) for value in norm)
    scale = scale / np.sqrt(var + BATCH_NORM_EPSILON)
    return (weight.transpose(2, 3, 1, 0) * scale).astype(weight.dtype), (shift - mean * scale).astype(weight.dtype)
