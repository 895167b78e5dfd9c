"""`load` and what it gives: the same translations as `sampling` makes, for every kind of NumPy image."""

import doctest

import jax
import numpy as np
import pytest

import i2i_jax
from i2i_jax import build, model, sampling
from i2i_jax.config import ConfigError
from i2i_jax.data import augment, loader
from i2i_jax.data.images import ImageError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["bicycle", "pix2pix"])
def any_model(request, trained):
    return i2i_jax.load(trained(request.param))


@pytest.fixture(scope="module")
def bicycle(trained):
    return i2i_jax.load(trained("bicycle"))


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_documentation(trained, tmp_path, monkeypatch):
    """Its examples, with the quickstart's run."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "bicycle-shapes").symlink_to(trained("bicycle"))
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(model)
    assert found.attempted > 10 and not found.failed


def test_translations_are_those_of_sampling(any_model):
    """Of one image, padded and cropped back; the seed draws what is random."""
    networks, state = any_model.networks, any_model.state
    image = pixels(60, 70, 3)
    found = any_model(image, n=2, seed=3)
    z_key, dropout_key = jax.random.split(jax.random.key(3))
    z, mode = sampling.latents(z_key, 1, 2, networks.latent_dim), build.mode(any_model.config)
    expected = sampling.translate(networks, state, augment.scale(image[None]), z, dropout_key, mode=mode)
    assert np.abs(found - augment.to_uint8(expected[0]).astype(int)).max() <= 1  # jit rounds otherwise
    np.testing.assert_array_equal(found, any_model(image, n=2, seed=3))
    for other in (found[::-1], any_model(image, n=2, seed=4)):
        assert not np.array_equal(found, other)


def test_kinds_of_images(any_model):
    """Floats give floats, what is 8 or 16 bits gives 8; one image is a batch of one."""
    image = pixels(64, 64, 3)
    as_integers = any_model(image)
    assert (as_integers.shape, as_integers.dtype) == ((1, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(any_model(image.astype(np.uint16) * 257), as_integers)
    for kind in (np.float32, np.float64):
        as_floats = any_model((image / 127.5 - 1).astype(kind))
        assert as_floats.dtype == np.float32
        np.testing.assert_array_equal(augment.to_uint8(as_floats), as_integers)
    np.testing.assert_array_equal(any_model(image[None]), as_integers[None])


def test_inputs_of_a_batch_are_translated_each_for_itself(any_model):
    batch = np.stack([pixels(64, 64, 3)] * 2)
    first, second = any_model(batch, n=2)
    assert not np.array_equal(first, second)
    batch[1] = 0
    np.testing.assert_array_equal(any_model(batch, n=2)[0], first)


def test_latents_of_ones_own(bicycle):
    """For all inputs, one or many, or for each."""
    batch = pixels(2, 64, 64, 3)
    z = np.random.default_rng(1).normal(size=(2, 3, 2))
    each = bicycle(batch, z=z)
    assert each.shape == (2, 3, 64, 64, 3)
    np.testing.assert_array_equal(bicycle(batch, z=z[0])[0], each[0])
    np.testing.assert_array_equal(bicycle(batch, z=z[1, 2])[1, 0], each[1, 2])
    assert not np.array_equal(each[0, 0], each[0, 1])


def test_the_style_of_a_target(bicycle):
    """Resized as training did."""
    target = pixels(70, 90, 3)
    resized = augment.scale(loader.resize(target, 64)[None])
    expected = sampling.encode(bicycle.networks, bicycle.state, resized).mean
    np.testing.assert_allclose(bicycle.encode(target), expected[0], atol=1e-5)
    np.testing.assert_allclose(bicycle.encode(target[None]), expected, atol=1e-5)
    np.testing.assert_allclose(bicycle.encode(target / 127.5 - 1), expected[0], atol=0.02)  # not rounded after resizing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda image: image[..., :1], r"images \(64, 64, 1\) have 1 channels: must have 3, last"),
        (lambda image: image[0], r"images are \(64, 3\): must be \[h, w, 3\], or \[b, h, w, 3\]"),
        (lambda image: image[:0], r"images are \(0, 64, 3\): .*not empty"),
        (lambda image: image.astype(np.int64), "images are int64: must be uint8, uint16 or floats"),
        (lambda image: image.astype(np.float32), r"images reach from 0 to 255: floats must be in \[-1, 1\]"),
        (lambda image: image * np.nan, r"images reach from nan to nan: floats must be in \[-1, 1\]"),
    ],
)
def test_what_is_no_image(make, message, bicycle):
    for use in (bicycle, bicycle.encode):
        with pytest.raises(ImageError, match=message):
            use(make(pixels(64, 64, 3)))


def test_wrong_use(bicycle, trained, tmp_path):
    image, z = pixels(64, 64, 3), np.zeros(2)
    for options, message in (
        ({"n": 0}, "n is 0: must be at least 1"),
        ({"n": 2, "z": z}, "give n or z, not both"),
        ({"z": z[:1]}, r"z is \(1,\): must be finite numbers \[2\], \[n, 2\] or \[1, n, 2\]"),
        ({"z": np.zeros((2, 1, 2))}, r"z is \(2, 1, 2\)"),
        ({"z": np.zeros((0, 2))}, r"z is \(0, 2\)"),
        ({"z": np.full(2, np.inf)}, "must be finite numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            bicycle(image, **options)
    without = i2i_jax.load(trained("pix2pix"))
    with pytest.raises(ConfigError, match="pix2pix has no latent: leave it out"):
        without(image, z=z)
    with pytest.raises(ConfigError, match="pix2pix has no encoder"):
        without.encode(image)
    with pytest.raises(ConfigError, match="is no run: it has no config.json"):
        i2i_jax.load(tmp_path / "none")
    with pytest.raises(AttributeError, match="module 'i2i_jax' has no attribute 'lode'"):
        _ = i2i_jax.lode
