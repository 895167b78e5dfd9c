"""Perceptual distances between images: LPIPS (Zhang 2018), and one without learned channel weights."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from i2i_jax.metrics import backbones, weights
from i2i_jax.metrics.backbones import Extractor, ImageShapeError, Maps
from i2i_jax.types import Image

EPSILON = 1e-10  # added to the norm of feature vectors

BACKBONES = {
    "alex": (backbones.AlexNet(), "alexnet-owt-7be5be79.pth"),
    "vgg": (backbones.VGG16(), "vgg16-397923af.pth"),
    "squeeze": (backbones.SqueezeNet(), "squeezenet1_1-b8a52dc0.pth"),
}
CAFFE_FILE = "squeezenet1_1_caffe.npz"
CAFFE_SIZE = 227  # height and width of the images that its network was trained on, in pixels
PREPROCESS = {"v0.0": backbones.unscaled, "v0.1": backbones.imagenet}  # version 0.0 lacked the scaling


@struct.dataclass
class Distance:
    """The perceptual distance between pairs of images in [-1, 1] (Zhang 2018, eq. 1).

    d(x, y) = sum_l mean_{h,w} sum_c heads_lc (u_lhwc(x) - u_lhwc(y))^2

    where u_l are the feature maps of layer l, divided by their norm over channels (plus 1e-10) at each position,
    and heads_lc is the square of the paper's w_lc.

    It is a PyTree: pass it to jitted functions as an argument, or its weights become constants of the compiled program.

    Attributes:
        extractor: the network that computes the feature maps.
        heads: the weight of each channel, an array for each feature map.
    """

    extractor: Extractor
    heads: Any  # not Array, since a tree map may replace the arrays by shapes or shardings

    def __call__(self, images: Image, others: Float[Array, "_ _ _ _"]) -> Float[Array, " b"]:
        """Distance from each image to the image in the same row of `others`.

        Raises:
            ImageShapeError: if the shapes differ, or the network cannot take the images.
        """
        if images.shape != others.shape:
            raise ImageShapeError(f"images of shape {images.shape} and {others.shape}: must be the same")
        return self.between(self.embed(images), self.embed(others))

    def embed(self, images: Image) -> Maps:
        """Computes normalised feature maps, for use in any number of comparisons. Raises ImageShapeError as `Extractor.maps` does."""
        return tuple(x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + EPSILON) for x in self.extractor.maps(images))

    def between(self, embedded: Maps, others: Maps) -> Float[Array, " b"]:
        """Distance from each embedded image to the one in the same row of `others`."""
        terms = [
            jnp.dot(jnp.square(a - b).mean((1, 2)), head, precision=jax.lax.Precision.HIGHEST)
            for a, b, head in zip(embedded, others, self.heads, strict=True)
        ]
        return jnp.stack(terms).sum(0)


def lpips(backbone: str, version: str, folder: str | Path = "") -> Distance:
    """Loads LPIPS with its published weights.

    Args:
        backbone: alex, vgg or squeeze.
        version: v0.0 or v0.1.
        folder: the folder of weights; empty: the user's cache, see `weights.locate`.

    Raises:
        WeightsError: if a file of weights cannot be found, downloaded or read.
    """
    network, file = BACKBONES[backbone]
    extractor = backbones.load(network, weights.locate(file, folder), PREPROCESS[version])
    file = weights.locate(f"lpips_{version}_{backbone}.pth", folder)
    shapes = {f"lin{i}.model.1.weight": (1, channels, 1, 1) for i, channels in enumerate(extractor.channels)}
    heads = weights.take(weights.read(file), shapes, file)
    return Distance(extractor, tuple(jnp.asarray(head.reshape(-1)) for head in heads.values()))


def squeezenet_caffe(folder: str | Path = "") -> Distance:
    """Loads a distance like LPIPS, but without learned channel weights, on the SqueezeNet 1.1 that its authors trained in Caffe.

    It is the squared distance between the unit feature vectors at each position, averaged over positions, then over the 7 feature maps:
    0 to 2. Images are resized to 227 x 227, the size that the network was trained on. The file of weights is
    squeezenet1_1_caffe.npz.

    Args:
        folder: the folder of weights; empty: the user's cache, see `weights.locate`.

    Raises:
        WeightsError: if the file of weights cannot be found or read.
    """
    file = weights.locate(CAFFE_FILE, folder)
    extractor = backbones.load(backbones.SqueezeNet(), file, backbones.caffe, CAFFE_SIZE)
    channels = extractor.channels
    return Distance(extractor, tuple(jnp.full(c, 1 / len(channels)) for c in channels))


DISTANCES: dict[str, Callable[[str | Path], Distance]] = {
    **{f"lpips_{v}_{name}": functools.partial(lpips, name, v) for v in PREPROCESS for name in BACKBONES},
    "squeezenet_caffe": squeezenet_caffe,
}


def files(name: str) -> tuple[str, ...]:
    """Returns the names of the files of weights that the distance `name` of `DISTANCES` reads."""
    if name == "squeezenet_caffe":
        return (CAFFE_FILE,)
    return BACKBONES[name.rpartition("_")[2]][1], f"{name}.pth"
