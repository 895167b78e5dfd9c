"""Pretrained networks whose feature maps the perceptual metrics compare: torchvision's AlexNet, VGG16 and SqueezeNet 1.1.

Modules carry torchvision's names, so that its state dicts load by name. Classifiers are left out. Computed in full float32 also
where the device would round inputs of convolutions; in float64 where images and parameters are.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct, traverse_util
from jaxtyping import Array, Float

from i2i_jax.metrics import weights
from i2i_jax.types import Image

Map = Float[Array, "b _ _ _"]
Maps = tuple[Map, ...]

Conv = functools.partial(nn.Conv, precision=jax.lax.Precision.HIGHEST)


class ImageShapeError(ValueError):
    """Images that a network cannot read: one line that says what was found and what would do."""


class AlexNet(nn.Module):
    """Of torchvision, "One weird trick" (Krizhevsky 2014): the maps after its 5 ReLUs, of 64, 192, 384, 256, 256 channels."""

    SMALLEST: ClassVar[int] = 31

    @nn.compact
    def __call__(self, image: Image) -> Maps:
        relu_1 = nn.relu(Conv(64, (11, 11), 4, 2, name="features.0")(image))
        relu_2 = nn.relu(Conv(192, (5, 5), 1, 2, name="features.3")(_pool(relu_1, 3)))
        relu_3 = nn.relu(Conv(384, (3, 3), 1, 1, name="features.6")(_pool(relu_2, 3)))
        relu_4 = nn.relu(Conv(256, (3, 3), 1, 1, name="features.8")(relu_3))
        relu_5 = nn.relu(Conv(256, (3, 3), 1, 1, name="features.10")(relu_4))
        return relu_1, relu_2, relu_3, relu_4, relu_5


class VGG16(nn.Module):
    """Simonyan 2014, without norms: the maps after relu1_2, 2_2, 3_3, 4_3 and 5_3, of 64, 128, 256, 512, 512 channels."""

    SMALLEST: ClassVar[int] = 16
    STAGES: ClassVar = ((0, 2, 64), (5, 2, 128), (10, 3, 256), (17, 3, 512), (24, 3, 512))  # first key, convolutions, channels

    @nn.compact
    def __call__(self, image: Image) -> Maps:
        x, maps = image, []
        for first, convolutions, channels in self.STAGES:
            x = _pool(x, 2) if maps else x
            for i in range(convolutions):
                x = nn.relu(Conv(channels, (3, 3), 1, 1, name=f"features.{first + 2 * i}")(x))
            maps.append(x)
        return tuple(maps)


class SqueezeNet(nn.Module):
    """Version 1.1 (Iandola 2016): the 7 maps that LPIPS reads, of 64, 128, 256, 384, 384, 512, 512 channels."""

    SMALLEST: ClassVar[int] = 17

    @nn.compact
    def __call__(self, image: Image) -> Maps:
        relu_1 = nn.relu(Conv(64, (3, 3), 2, "VALID", name="features.0")(image))
        fire_4 = Fire(16, 64, name="features.4")(Fire(16, 64, name="features.3")(_pool_up(relu_1)))
        fire_7 = Fire(32, 128, name="features.7")(Fire(32, 128, name="features.6")(_pool_up(fire_4)))
        fire_9 = Fire(48, 192, name="features.9")(_pool_up(fire_7))
        fire_10 = Fire(48, 192, name="features.10")(fire_9)
        fire_11 = Fire(64, 256, name="features.11")(fire_10)
        fire_12 = Fire(64, 256, name="features.12")(fire_11)
        return relu_1, fire_4, fire_7, fire_9, fire_10, fire_11, fire_12


class Fire(nn.Module):
    """Squeezes to few channels, then expands by convolutions of 1 and of 3 pixels to `expand` channels each."""

    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, x: Map) -> Map:
        x = nn.relu(Conv(self.squeeze, (1, 1), name="squeeze")(x))
        narrow = Conv(self.expand, (1, 1), name="expand1x1")(x)
        wide = Conv(self.expand, (3, 3), 1, 1, name="expand3x3")(x)
        return nn.relu(jnp.concatenate([narrow, wide], -1))


Network = AlexNet | VGG16 | SqueezeNet


def _pool(x: Map, window: int) -> Map:
    return nn.max_pool(x, (window, window), (2, 2))


def _pool_up(x: Map) -> Map:
    """Windows of 3 pixels every 2, the last one reaching over the edge where the size is even (PyTorch's ceil_mode)."""
    _, height, width, _ = x.shape
    padding = ((0, (height + 1) % 2), (0, (width + 1) % 2))
    return nn.max_pool(x, (3, 3), (2, 2), padding)  # pyright: ignore[reportArgumentType]: typed as a string there


def unscaled(image: Image) -> Image:
    """As they are, in [-1, 1]."""
    return image


def imagenet(image: Image) -> Image:
    """Standardised by ImageNet's mean and deviation, in the rounded figures of LPIPS."""
    return (image - _per_channel(image, -0.030, -0.088, -0.188)) / _per_channel(image, 0.458, 0.448, 0.450)


def caffe(image: Image) -> Image:
    """Blue, green, red in 0 to 255, less ImageNet's mean."""
    return 127.5 * (image[..., ::-1] + 1) - _per_channel(image, 104.0, 117.0, 123.0)


def _per_channel(image: Image, *values: float) -> Array:
    return jnp.asarray(values, image.dtype).reshape(1, 1, 1, 3)


@struct.dataclass
class Extractor:
    """A pretrained network from images in [-1, 1] on; a PyTree: pass it to jitted functions, or its weights are compiled in."""

    params: Any  # a tree map may have put shapes or shardings in the place of arrays
    network: Network = struct.field(pytree_node=False)
    preprocess: Callable[[Image], Image] = struct.field(pytree_node=False)

    def maps(self, images: Image) -> Maps:
        """The network's feature maps. Images of one channel are read as grey. Raises ImageShapeError."""
        _, height, width, channels = images.shape
        name, smallest = type(self.network).__name__, self.network.SMALLEST
        if channels not in (1, 3):
            raise ImageShapeError(f"images of {channels} channels: {name} reads 3, or 1 as grey")
        if min(height, width) < smallest:
            raise ImageShapeError(f"images of {height}x{width}: {name} needs at least {smallest}x{smallest}")
        rgb = jnp.broadcast_to(images, (*images.shape[:3], 3))
        return cast(Maps, self.network.apply({"params": self.params}, self.preprocess(rgb)))

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each feature map."""
        image = jnp.zeros((1, self.network.SMALLEST, self.network.SMALLEST, 3))
        return tuple(x.shape[-1] for x in jax.eval_shape(self.maps, image))

    def features(self, images: Image) -> Float[Array, "b d"]:
        """The last feature map's mean over all places. Raises ImageShapeError."""
        return self.maps(images)[-1].mean((1, 2))


def load(network: Network, file: str | Path, preprocess: Callable[[Image], Image]) -> Extractor:
    """An extractor with the weights in a file of torchvision's keys. Raises WeightsError."""
    params = params_from_torchvision(network, weights.read(file), file)
    return Extractor(jax.tree.map(jnp.asarray, params), network, preprocess)


def params_from_torchvision(network: Network, state: Mapping[str, np.ndarray], file: str | Path) -> dict[str, Any]:
    """The network's parameters from torchvision's state dict, read from `file`, which an error names. Raises WeightsError."""
    image = jnp.zeros((1, network.SMALLEST, network.SMALLEST, 3))
    shapes: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(jax.eval_shape(network.init, jax.random.key(0), image)["params"])
    keys = {path: ".".join(path).replace("kernel", "weight") for path in shapes}
    needed = {keys[path]: _torch_shape(leaf.shape) for path, leaf in shapes.items()}
    taken = weights.take(state, needed, file)
    return traverse_util.unflatten_dict({path: _to_flax(taken[key]) for path, key in keys.items()})


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


def _to_flax(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
