"""Feature maps against PyTorch with the same random weights, and errors for images of the wrong shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from feature_maps import CHANNELS, extractor_of, images_of, maps_of, state_of, torch_maps
from i2i_jax.metrics import backbones
from i2i_jax.metrics.backbones import AlexNet, Extractor, ImageShapeError, SqueezeNet
from i2i_jax.metrics.weights import WeightsError

each_network = pytest.mark.parametrize("network", CHANNELS)


@each_network
def test_against_pytorch(network):
    images = images_of(1, 33, 46, 3)
    with jax.enable_x64(True):
        for x, y in zip(maps_of(extractor_of(network, dtype=np.float64), jnp.asarray(images)), torch_maps(network, images), strict=True):
            assert x.dtype == jnp.float64 and x.shape == y.shape
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-13 * np.abs(y).max())


@pytest.mark.parametrize("size", range(31, 35))
def test_every_remainder_of_a_size(size):
    """Compares shapes only: pooled sizes are rounded as in PyTorch."""
    for network in (AlexNet, SqueezeNet):
        expected = [x.shape for x in torch_maps(network, np.zeros((1, size, 31, 3)))]
        found = jax.eval_shape(extractor_of(network).maps, jnp.zeros((1, size, 31, 3)))
        assert [x.shape for x in found] == expected


@each_network
def test_too_small(network):
    side = network.SMALLEST
    with pytest.raises(ImageShapeError, match=f"{network.__name__} needs at least {side}x{side}"):
        extractor_of(network).maps(jnp.zeros((1, 64, side - 1, 3)))
    pytest.importorskip("torch", reason="held to PyTorch")
    with pytest.raises(RuntimeError, match="too small"):
        torch_maps(network, np.zeros((1, 64, side - 1, 3)))


def test_features_of_grey_images():
    """They are the spatial mean of the last feature map of the image repeated to 3 channels."""
    grey = images_of(2, 17, 17, 1)
    last = torch_maps(SqueezeNet, np.tile(grey, (1, 1, 1, 3)))[-1]
    features = jax.jit(Extractor.features)(extractor_of(SqueezeNet), jnp.asarray(grey, jnp.float32))
    np.testing.assert_allclose(features, last.reshape(2, -1, 512).mean(1), rtol=0, atol=1e-5 * last.max())


def test_neither_colour_nor_grey():
    with pytest.raises(ImageShapeError, match="4 channels: SqueezeNet reads 3, or 1 as grey"):
        extractor_of(SqueezeNet).maps(jnp.zeros((1, 32, 32, 4)))


@each_network
def test_channels(network):
    assert extractor_of(network).channels == CHANNELS[network]


def test_preprocessing():
    red = jnp.asarray([[[[1.0, -1.0, 0.0]]]])
    np.testing.assert_allclose(backbones.caffe(red).ravel(), [127.5 - 104, -117, 255 - 123])
    np.testing.assert_allclose(backbones.imagenet(red).ravel(), [1.030 / 0.458, -0.912 / 0.448, 0.188 / 0.450], rtol=1e-6)


@each_network
def test_classifiers_are_ignored_and_missing_keys_named(network):
    state = state_of(network) | {"classifier.1.weight": np.zeros((1000, 512, 1, 1))}
    backbones.params_from_torchvision(network(), state, "file.npz")
    key = list(state)[2]
    with pytest.raises(WeightsError, match=f"file.npz: '{key}' has shape"):
        backbones.params_from_torchvision(network(), state | {key: np.zeros(3)}, "file.npz")
    del state[key]
    with pytest.raises(WeightsError, match=f"file.npz: no '{key}'"):
        backbones.params_from_torchvision(network(), state, "file.npz")


def test_the_caffe_file(shared):
    extractor = backbones.load(SqueezeNet(), shared / "weights" / "squeezenet1_1_caffe.npz", backbones.caffe)
    features = jax.eval_shape(Extractor.features, extractor, jnp.zeros((2, 17, 17, 3)))
    assert features.shape == (2, 512)
