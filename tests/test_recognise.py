"""Recognising architectures from keys and shapes alone, without PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.config import ConfigError, flatten
from i2i_jax.interop import imported
from i2i_jax.interop.layout import StateDictError
from i2i_jax.interop.recognise import recognise
from i2i_jax.interop.torch import state_dict_from_params
from i2i_jax.models import ENCODERS, GENERATORS, MultiScale, PatchGAN, PixelGAN

BICYCLE = {"skip_order": "decoder_first"}


def state_of(module, channels, latent=0):
    """A state dict of zeros under PyTorch's names, broadcast so that they take no memory."""
    arguments = [(1, 512, 512, channels)] + ([(1, latent)] if latent else [])
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    variables = jax.eval_shape(lambda: module.init(rngs, *map(jnp.zeros, arguments)))
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), variables)
    return state_dict_from_params(module, zeros["params"], zeros.get("batch_stats"))


def generator(name, channels, latent=0, *, makes=3, width=2, **options):
    return state_of(GENERATORS[name](makes, width=width, **options), channels, latent)


def encoder(name, latent, *, channels=3, width=2, norm="instance"):
    return state_of(ENCODERS[name](latent, width, norm), channels)


def patches(channels, *, layers=3, width=4, scales=1, norm="instance"):
    return state_of(MultiScale(tuple(PatchGAN(layers, max(1, width // 2**i), norm) for i in range(scales))), channels)


def reading(overrides=None, **states):
    return imported.read_config({role: recognise(state) for role, state in states.items()}, states, overrides or {})


def options(expected, overrides=None, **states):
    """The config's values of the options in `expected`."""
    flat = flatten(reading(overrides, **states).config)
    return {name: flat[name] for name in expected}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (
            lambda: {"generator": generator("unet_256", 3, width=32, norm="batch", dropout=True)},
            {
                "objective": "pix2pix",
                "model.generator": "unet_256",
                "model.width": 32,
                "model.norm": "batch",
                "model.skip_order": "encoder_first",
            },
        ),
        (
            lambda: {"generator": generator("unet_256", 1, 8, norm="instance", **BICYCLE), "encoder": encoder("resnet_256", 8, width=3)},
            {
                "objective": "bicycle_gan",
                "data.input_channels": 1,
                "data.target_channels": 3,
                "model.latent_dim": 8,
                "model.encoder_width": 3,
            },
        ),
        (
            lambda: {
                "generator": generator("unet_128", 3, 4, norm="instance", latent_at="input", **BICYCLE),
                "encoder": encoder("conv_128", 4),
            },
            {
                "model.latent_at": "input",
                "model.latent_dim": 4,
                "data.input_channels": 3,
                "model.encoder": "conv_128",
                "model.skip_order": "decoder_first",
            },
        ),
        (  # the conditional discriminator reveals how many of the generator's channels are an image
            lambda: {
                "generator": generator("unet_128", 1, 6, norm="instance", latent_at="input", **BICYCLE),
                "discriminator": patches(4, scales=3, layers=2),
            },
            {
                "model.latent_dim": 6,
                "data.input_channels": 1,
                "model.conditional": True,
                "model.discriminator_scales": 3,
                "model.discriminator_layers": 2,
            },
        ),
        (  # BicycleGAN's own pix2pix: batch norm with biases, skips in the other order, tested with running statistics
            lambda: {"generator": generator("unet_128", 4, norm="batch", latent_at="input", **BICYCLE)},
            {
                "objective": "pix2pix",
                "model.skip_order": "decoder_first",
                "data.input_channels": 4,
                "sampling.running_average": True,
                "model.dropout": False,
            },
        ),
        (  # without biases before batch norms this is pix2pix, so all seven channels are an image
            lambda: {"generator": generator("unet_128", 7, norm="batch")},
            {"objective": "pix2pix", "data.input_channels": 7},
        ),
        (
            lambda: {
                "generator": generator("resnet_9", 3, norm="none", dropout=True),
                "discriminator": state_of(MultiScale((PixelGAN(4, "none"),)), 6),
            },
            {
                "model.generator": "resnet_9",
                "model.norm": "none",
                "model.dropout": True,
                "model.discriminator": "pixel",
                "model.conditional": True,
            },
        ),
        (
            lambda: {"generator": generator("resnet_6", 3, norm="none"), "discriminator": patches(6, layers=6, norm="none")},
            {
                "model.generator": "resnet_6",
                "model.dropout": False,
                "sampling.dropout": False,
                "model.norm": "none",
                "model.discriminator_layers": 6,
            },
        ),
        (  # the generator fits both instance norm and none; the encoder has none
            lambda: {"generator": generator("unet_64", 3, 2, norm="none", **BICYCLE), "encoder": encoder("resnet_64", 2, norm="none")},
            {"model.norm": "none", "model.encoder": "resnet_64", "data.crop_size": 64},
        ),
        (
            lambda: {"generator": generator("unet_64", 3, norm="none"), "discriminator": patches(6, norm="none")},
            {"objective": "pix2pix", "model.norm": "none", "model.skip_order": "encoder_first"},
        ),
        (
            lambda: {
                "generator": generator("unet_512", 3, 8, makes=1, norm="instance", upsample="bilinear", **BICYCLE),
                "encoder": encoder("resnet_512", 8, channels=1),
                "discriminator_prior": patches(1, scales=2, width=8),
            },
            {
                "objective": "clr_gan",
                "model.upsample": "bilinear",
                "data.target_channels": 1,
                "model.conditional": False,
                "model.discriminator_width": 8,
            },
        ),
    ],
    ids=lambda value: "" if callable(value) else ",".join(map(str, value.values())),
)
def test_options_inferred_from_keys_and_shapes(states, expected):
    assert options(expected, **states()) == expected


def test_options_that_cannot_be_inferred_are_assumed_and_listed():
    unet = generator("unet_64", 3, norm="instance")
    alone = reading(generator=unet)
    assert alone.assumed == {"model.skip_order": "encoder_first", "model.dropout": True, "data.direction": "AtoB", "data.crop_size": 64}
    overridden = reading({"model.dropout": False, "data.direction": "BtoA", "data.path": "pairs"}, generator=unet)
    assert overridden.assumed == {"model.skip_order": "encoder_first", "data.crop_size": 64}
    assert (overridden.config.model.dropout, overridden.config.sampling.dropout, overridden.config.data.path) == (False, False, "pairs")
    for overrides, dropout in (({}, True), ({"sampling.dropout": False}, False), ({"sampling.dropout": True, "model.dropout": True}, True)):
        assert reading(overrides, generator=unet).config.sampling.dropout == dropout
    larger = reading({"data.crop_size": 320}, generator=unet).config.data
    assert (larger.crop_size, larger.load_size) == (320, round(320 * 286 / 256))
    # The same keys, with a multi-scale discriminator, which only BicycleGAN has.
    family = reading(generator=unet, discriminator=patches(6, scales=2))
    assert family.config.model.skip_order == "decoder_first" and "model.skip_order" not in family.assumed
    whole = reading(generator=generator("unet_64", 3, 8, norm="instance", **BICYCLE), encoder=encoder("resnet_64", 8))
    assert whole.assumed == {"objective": "bicycle_gan", "model.dropout": False, "data.direction": "AtoB"}


def test_many_input_channels_are_assumed_to_be_an_image_and_a_latent():
    unet = generator("unet_64", 3, 4, norm="instance", latent_at="input", **BICYCLE)
    guessed = reading(generator=unet)
    assert (guessed.config.objective, guessed.config.model.latent_dim) == ("pix2pix_noise", 4)
    assert guessed.assumed["data.input_channels"] == 3
    assert options(["objective", "data.input_channels"], {"data.input_channels": 7}, generator=unet) == {
        "objective": "pix2pix",
        "data.input_channels": 7,
    }
    overridden = reading({"model.latent_dim": 6}, generator=unet)
    assert overridden.config.data.input_channels == 1 and "data.input_channels" not in overridden.assumed


PARAMETERS = {  # parameter counts of the public networks, without BatchNorm's running statistics
    "pix2pix U-Net-256": (lambda: generator("unet_256", 3, width=64, norm="batch"), 54_413_955),
    "pix2pix U-Net-128, instance": (lambda: generator("unet_128", 3, width=64, norm="instance"), 41_825_667),
    "pix2pix ResNet-9": (lambda: generator("resnet_9", 3, width=64, norm="batch", dropout=True), 11_383_427),
    "pix2pix ResNet-6, instance": (lambda: generator("resnet_6", 3, width=64, norm="instance"), 7_837_699),
    "BicycleGAN U-Net-256": (lambda: generator("unet_256", 3, 8, width=64, norm="instance", **BICYCLE), 54_794_627),
    "BicycleGAN U-Net-256, grey": (lambda: generator("unet_256", 1, 8, width=64, norm="instance", **BICYCLE), 54_792_579),
    "BicycleGAN U-Net-256, bilinear": (
        lambda: generator("unet_256", 3, 8, width=64, norm="instance", upsample="bilinear", **BICYCLE),
        39_538_435,
    ),
    "BicycleGAN U-Net-256, z at input": (
        lambda: generator("unet_256", 3, 8, width=64, norm="instance", latent_at="input", **BICYCLE),
        54_417_795,
    ),
}


@pytest.mark.parametrize("network", PARAMETERS)
def test_networks_of_full_width(network):
    """They have as many parameters as in PyTorch, and are recognised."""
    make, count = PARAMETERS[network]
    state = make()
    assert sum(value.size for key, value in state.items() if key.endswith((".weight", ".bias"))) == count
    name = network.split(",")[0].split()[1].lower().replace("u-net-", "unet_").replace("resnet-", "resnet_")
    overrides = {"data.input_channels": 3} if "input" in network else {}
    assert options(["model.generator", "model.width"], overrides, generator=state) == {"model.generator": name, "model.width": 64}


def test_other_networks_are_refused():
    with pytest.raises(StateDictError, match=r"^no network of pix2pix or BicycleGAN \(first key: 'features.0.weight'\)$"):
        recognise({"features.0.weight": np.zeros((4, 3, 3, 3)), "features.0.bias": np.zeros(4)})
    for empty in ({}, {"model.down.0.weight": np.zeros(3)}):
        with pytest.raises(StateDictError, match="no network of pix2pix or BicycleGAN"):
            recognise(empty)


@pytest.mark.parametrize(
    "make", [lambda: generator("unet_64", 3, norm="batch"), lambda: encoder("conv_64", 4), lambda: patches(3, scales=2)]
)
def test_missing_and_unexpected_keys_are_named(make):
    whole = make()
    for key in list(whole)[::5]:
        if key.endswith("tracked") or (key.endswith(".bias") and key.removesuffix("bias") + "running_mean" not in whole):
            continue  # counters and cancelled biases may be missing
        with pytest.raises(StateDictError, match=f"^nearly a .* with .* norm, but it has no '{key}'$"):
            recognise({name: value for name, value in whole.items() if name != key})
    with pytest.raises(StateDictError, match="but it has 'model.99.weight' besides$"):
        recognise(whole | {"model.99.weight": np.zeros(3)})


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (lambda: {"encoder": encoder("conv_64", 4)}, "no generator among the files"),
        (
            lambda: {"generator": generator("unet_64", 3, 4, norm="instance", **BICYCLE), "encoder": encoder("conv_64", 8)},
            "latent of 8, the generator reads one of 4",
        ),
        (
            lambda: {"generator": generator("unet_64", 3, norm="batch"), "encoder": encoder("conv_64", 8, norm="batch")},
            "latent of 8, the generator reads one of 0",
        ),
        (
            lambda: {"generator": generator("unet_64", 3, 8, norm="instance", **BICYCLE), "encoder": encoder("conv_64", 8, channels=1)},
            "the encoder reads 1 channels, the generator makes 3",
        ),
        (
            lambda: {"generator": generator("unet_64", 3, norm="batch"), "discriminator": patches(6)},
            "networks of two norms: the generator is a unet_64 with batch norm, the discriminator is a patchgan with instance norm",
        ),
        (
            lambda: {"generator": generator("unet_64", 3, norm="batch"), "discriminator": patches(5, norm="batch")},
            r"reads 5 channels: must be the output \(3\), or input and output \(6\)",
        ),
        (
            lambda: {
                "generator": generator("unet_64", 3, norm="instance"),
                "discriminator": patches(6),
                "discriminator_prior": patches(6, width=8),
            },
            "the two discriminators differ in size or kind",
        ),
    ],
)
def test_networks_that_do_not_belong_together(states, message):
    with pytest.raises(StateDictError, match=message):
        reading(**states())


def test_invalid_options_are_refused():
    with pytest.raises(ConfigError, match="data.load_size 60 is smaller than data.crop_size 64"):
        reading({"data.load_size": 60}, generator=generator("unet_64", 3, norm="batch"))
