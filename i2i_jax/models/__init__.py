"""Generators, encoders and discriminators by name, and the module that holds the networks of one system."""

from functools import partial

import flax.linen as nn

from i2i_jax.models.discriminators import MultiScale, PatchGAN, PixelGAN
from i2i_jax.models.encoders import ConvEncoder, ResNetEncoder
from i2i_jax.models.label_maps import LabelMapGenerator
from i2i_jax.models.resnet import ResNet
from i2i_jax.models.unet import UNet
from i2i_jax.types import PLAYERS, Shard

GENERATORS = {
    "unet_64": partial(UNet, depth=6),
    "unet_128": partial(UNet, depth=7),
    "unet_256": partial(UNet, depth=8),
    "unet_512": partial(UNet, depth=9),
    "resnet_6": partial(ResNet, blocks=6),
    "resnet_9": partial(ResNet, blocks=9),
}
ENCODERS = {
    "resnet_64": partial(ResNetEncoder, blocks=2),
    "resnet_128": partial(ResNetEncoder, blocks=3),
    "resnet_256": partial(ResNetEncoder, blocks=4),
    "resnet_512": partial(ResNetEncoder, blocks=5),
    "conv_64": partial(ConvEncoder, layers=3),
    "conv_128": partial(ConvEncoder, layers=4),
    "conv_256": partial(ConvEncoder, layers=5),
    "conv_512": partial(ConvEncoder, layers=6),
}
DISCRIMINATORS = {"patchgan": PatchGAN, "pixel": PixelGAN}


class Networks(nn.Module):
    """The networks that an objective runs. A network that the objective never calls gets no parameters.

    Passing one module as both discriminators makes one discriminator with one set of parameters.

    Attributes:
        generator: input image (and latent) -> target image.
        discriminator: compares real images with those of the posterior branch, or of the only branch.
        discriminator_prior: compares real images with those of the prior branch.
        encoder: target image -> Gaussian over its latent.
        latent_dim: dimensions of the latent z; 0 without a latent.
        conditional: whether discriminators also see the input image.
        players: the players whose losses the objective computes in this call, a subset of `PLAYERS`.
        shard: which rows of the global batch this call computes.
    """

    generator: nn.Module
    discriminator: MultiScale
    discriminator_prior: MultiScale | None = None
    encoder: nn.Module | None = None
    latent_dim: int = 0
    conditional: bool = True
    players: tuple[str, ...] = PLAYERS
    shard: Shard = Shard()


__all__ = [
    "DISCRIMINATORS", "ENCODERS", "GENERATORS", "ConvEncoder", "LabelMapGenerator", "MultiScale", "Networks", "PatchGAN", "PixelGAN",
    "ResNet", "ResNetEncoder", "UNet",
]  # fmt: skip
