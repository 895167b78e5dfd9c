"""Pretrained networks for perceptual metrics: torchvision's AlexNet, VGG16 and SqueezeNet 1.1, without their classifiers.

Submodules have torchvision's names, so that its state dicts load by name. Convolutions run at the highest precision: in float32 also
on devices that round inputs of convolutions by default, and in float64 if images and parameters are float64.
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
    """Images that a network cannot take; the message is one line with the shape found and the shape needed."""


class AlexNet(nn.Module):
    """torchvision's AlexNet (Krizhevsky 2014). Returns the feature maps after its 5 ReLUs: 64, 192, 384, 256 and 256 channels."""

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
    """VGG16 (Simonyan 2014) without batch normalisation.

    Returns the feature maps after relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3: 64, 128, 256, 512 and 512 channels.
    """

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
    """SqueezeNet 1.1 (Iandola 2016). Returns the 7 feature maps that LPIPS uses: 64, 128, 256, 384, 384, 512 and 512 channels."""

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
    """Fire module of SqueezeNet: a 1 x 1 convolution to `squeeze` channels, then 1 x 1 and 3 x 3 convolutions to `expand` channels each."""

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
    """Max pooling with stride 2."""
    return nn.max_pool(x, (window, window), (2, 2))


def _pool_up(x: Map) -> Map:
    """Max pooling over 3 x 3 windows with stride 2 and PyTorch's `ceil_mode`: for an even size the last window reaches past the edge."""
    _, height, width, _ = x.shape
    padding = ((0, (height + 1) % 2), (0, (width + 1) % 2))
    return nn.max_pool(x, (3, 3), (2, 2), padding)  # pyright: ignore[reportArgumentType]: Flax types padding as a string


def unscaled(image: Image) -> Image:
    """Returns images unchanged, in [-1, 1]."""
    return image


def imagenet(image: Image) -> Image:
    """Standardises images in [-1, 1] by the mean and standard deviation of ImageNet, with the rounded constants of LPIPS."""
    return (image - _per_channel(image, -0.030, -0.088, -0.188)) / _per_channel(image, 0.458, 0.448, 0.450)


def caffe(image: Image) -> Image:
    """Converts images in [-1, 1] to Caffe's format: BGR, 0 to 255, minus the mean of ImageNet."""
    return 127.5 * (image[..., ::-1] + 1) - _per_channel(image, 104.0, 117.0, 123.0)


def _per_channel(image: Image, *values: float) -> Array:
    """One value for each of the three channels, in the dtype of `image`."""
    return jnp.asarray(values, image.dtype).reshape(1, 1, 1, 3)


@struct.dataclass
class Extractor:
    """A pretrained network with its preprocessing.

    It is a PyTree: pass it to jitted functions as an argument, or its weights become constants of the compiled program.

    Attributes:
        params: parameters of the network.
        network: the Flax module.
        preprocess: maps images in [-1, 1] to the network's input.
        image_size: images are resized to this height and width, the size that the network was trained on, with a bicubic filter
            (antialiased, as Pillow's); None: they keep their size.
    """

    params: Any  # not Array, since a tree map may replace the arrays by shapes or shardings
    network: Network = struct.field(pytree_node=False)
    preprocess: Callable[[Image], Image] = struct.field(pytree_node=False)
    image_size: int | None = struct.field(pytree_node=False, default=None)

    def maps(self, images: Image) -> Maps:
        """Computes the network's feature maps.

        Args:
            images: images in [-1, 1] with 3 channels, or 1 channel, which is repeated.

        Raises:
            ImageShapeError: if the images have another number of channels or are too small.
        """
        if self.image_size:
            images = _resized(images, self.image_size)
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
        """Channels of each feature map."""
        image = jnp.zeros((1, self.network.SMALLEST, self.network.SMALLEST, 3))
        return tuple(x.shape[-1] for x in jax.eval_shape(self.maps, image))

    def features(self, images: Image) -> Float[Array, "b d"]:
        """Returns the last feature map averaged over space. Raises ImageShapeError as `maps` does."""
        return self.maps(images)[-1].mean((1, 2))


def _resized(images: Image, size: int) -> Float[Array, "b {size} {size} c"]:
    shape = (len(images), size, size, images.shape[3])
    return jax.image.resize(images, shape, "bicubic", precision=jax.lax.Precision.HIGHEST)


def load(network: Network, file: str | Path, preprocess: Callable[[Image], Image], image_size: int | None = None) -> Extractor:
    """Loads an extractor from a file of weights.

    Args:
        network: the Flax module.
        file: a file of weights with torchvision's keys.
        preprocess: maps images in [-1, 1] to the network's input.
        image_size: see `Extractor`.

    Raises:
        WeightsError: if the file cannot be read or does not fit the network.
    """
    params = params_from_torchvision(network, weights.read(file), file)
    return Extractor(jax.tree.map(jnp.asarray, params), network, preprocess, image_size)


def params_from_torchvision(network: Network, state: Mapping[str, np.ndarray], file: str | Path) -> dict[str, Any]:
    """Converts torchvision's state dict to the parameters of `network`. Keys of the classifier are ignored.

    Args:
        network: the Flax module.
        state: the state dict, as NumPy arrays.
        file: the file it was read from, for error messages.

    Raises:
        WeightsError: if a key is missing or has the wrong shape.
    """
    image = jnp.zeros((1, network.SMALLEST, network.SMALLEST, 3))
    shapes: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(jax.eval_shape(network.init, jax.random.key(0), image)["params"])
    keys = {path: ".".join(path).replace("kernel", "weight") for path in shapes}
    needed = {keys[path]: _torch_shape(leaf.shape) for path, leaf in shapes.items()}
    arrays = weights.take(state, needed, file)
    return traverse_util.unflatten_dict({path: _to_flax(arrays[key]) for path, key in keys.items()})


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in PyTorch of a Flax parameter: HWIO -> OIHW."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


def _to_flax(array: np.ndarray) -> np.ndarray:
    """A PyTorch parameter in Flax's layout: OIHW -> HWIO."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
