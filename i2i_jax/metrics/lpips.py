"""Perceptual distances between images: LPIPS (Zhang 2018), and one without learned weights."""

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

EPSILON = 1e-10

BACKBONES = {
    "alex": (backbones.AlexNet(), "alexnet-owt-7be5be79.pth"),
    "vgg": (backbones.VGG16(), "vgg16-397923af.pth"),
    "squeeze": (backbones.SqueezeNet(), "squeezenet1_1-b8a52dc0.pth"),
}
CAFFE_FILE = "squeezenet1_1_caffe.npz"
PREPROCESS = {"v0.0": backbones.unscaled, "v0.1": backbones.imagenet}  # the first release lacked the scaling


@struct.dataclass
class Distance:
    """Of pairs of images in [-1, 1], each by itself: how their feature maps differ once every place has length 1 (plus 1e-10).

    The squared differences, times the channel's weight in `heads`, are summed over channels, averaged over places and summed over
    maps. A PyTree: pass it to jitted functions, or its weights are compiled in.
    """

    extractor: Extractor
    heads: Any  # [channels] a map; a tree map may have put shapes or shardings in the place of arrays

    def __call__(self, images: Image, others: Float[Array, "_ _ _ _"]) -> Float[Array, " b"]:
        """From each image to its other. Raises ImageShapeError."""
        if images.shape != others.shape:
            raise ImageShapeError(f"images of shape {images.shape} and {others.shape}: a distance needs the same")
        return self.between(self.embed(images), self.embed(others))

    def embed(self, images: Image) -> Maps:
        """What is compared: one pass of the network serves all the pairs that an image is in. Raises ImageShapeError."""
        return tuple(x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + EPSILON) for x in self.extractor.maps(images))

    def between(self, embedded: Maps, others: Maps) -> Float[Array, " b"]:
        """From each embedded image to its other."""
        terms = [
            jnp.dot(jnp.square(a - b).mean((1, 2)), head, precision=jax.lax.Precision.HIGHEST)
            for a, b, head in zip(embedded, others, self.heads, strict=True)
        ]
        return jnp.stack(terms).sum(0)


def lpips(backbone: str, version: str, folder: str | Path = "") -> Distance:
    """LPIPS as published, of `backbone` alex, vgg or squeeze and `version` v0.0 or v0.1, with both files found by `weights.locate`.

    Raises WeightsError.
    """
    network, file = BACKBONES[backbone]
    extractor = backbones.load(network, weights.locate(file, folder), PREPROCESS[version])
    file = weights.locate(f"lpips_{version}_{backbone}.pth", folder)
    shapes = {f"lin{i}.model.1.weight": (1, channels, 1, 1) for i, channels in enumerate(extractor.channels)}
    heads = weights.take(weights.read(file), shapes, file)
    return Distance(extractor, tuple(jnp.asarray(head.reshape(-1)) for head in heads.values()))


def squeezenet_caffe(folder: str | Path = "") -> Distance:
    """Not LPIPS: without learned heads, on the SqueezeNet 1.1 that its authors trained in Caffe (squeezenet1_1_caffe.npz).

    The squared distance of the unit vectors at each place, averaged over places, then over the 7 maps: from 0 to 2.
    Raises WeightsError.
    """
    file = weights.locate(CAFFE_FILE, folder)
    extractor = backbones.load(backbones.SqueezeNet(), file, backbones.caffe)
    channels = extractor.channels
    return Distance(extractor, tuple(jnp.full(c, 1 / len(channels)) for c in channels))


DISTANCES: dict[str, Callable[[str | Path], Distance]] = {
    **{f"lpips_{v}_{name}": functools.partial(lpips, name, v) for v in PREPROCESS for name in BACKBONES},
    "squeezenet_caffe": squeezenet_caffe,
}


def files(name: str) -> tuple[str, ...]:
    """The files of weights that a distance reads."""
    if name == "squeezenet_caffe":
        return (CAFFE_FILE,)
    return BACKBONES[name.rpartition("_")[2]][1], f"{name}.pth"
