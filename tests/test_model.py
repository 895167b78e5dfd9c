"""`i2i_jax.load` and its models: the same translations as `sampling`, for every kind of image."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import i2i_jax
import runs
import tiny
from i2i_jax import build, sampling
from i2i_jax.config import ConfigError, DataConfig
from i2i_jax.data import augment, loader
from i2i_jax.data.images import ImageError
from i2i_jax.inference import model

pytestmark = pytest.mark.slow


# Tests compare translations of different numbers of images, bit for bit. On a CPU only transposed convolutions compute them alike.
@pytest.fixture(scope="module")
def bicycle(trained):
    return i2i_jax.load(trained("bicycle", runs.ORIGINAL))


@pytest.fixture(scope="module", params=["bicycle", "pix2pix"])
def any_model(request, trained):
    return request.getfixturevalue("bicycle") if request.param == "bicycle" else i2i_jax.load(trained("pix2pix"))


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_a_model_prints_as_one_line(bicycle):
    assert repr(bicycle) == "Model(bicycle_gan, unet_64, data.crop_size 64, step 2)"


def test_documentation(trained, tmp_path, monkeypatch):
    """The docstrings' examples, with the quickstart's run."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "bicycle-shapes").symlink_to(trained("bicycle"))
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(model)
    assert results.attempted > 10 and not results.failed


def test_translations_equal_sampling(any_model):
    """An image of another size is padded and cropped back; the seed determines latents and dropout."""
    networks, state = any_model.networks, any_model.state
    image = pixels(60, 70, 3)
    outputs = any_model(image, n=2, seed=3)
    z_key, dropout_key = jax.random.split(jax.random.key(3))
    z, mode = sampling.latents(z_key, 1, 2, networks.latent_dim), build.mode(any_model.config)
    expected = sampling.translate(networks, state, augment.scale(image[None]), z, dropout_key, mode=mode)
    assert np.abs(outputs - augment.to_uint8(expected[0]).astype(int)).max() <= 1  # jit rounds differently
    np.testing.assert_array_equal(outputs, any_model(image, n=2, seed=3))
    for other in (outputs[::-1], any_model(image, n=2, seed=4)):
        assert not np.array_equal(outputs, other)


def test_kinds_of_images(any_model):
    """Float inputs give floats, 8-bit and 16-bit inputs give 8 bits; a single image equals a batch of one."""
    image = pixels(64, 64, 3)
    as_integers = any_model(image)
    assert (as_integers.shape, as_integers.dtype) == ((1, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(any_model(image.astype(np.uint16) * 257), as_integers)
    for kind in (np.float32, np.float64):
        as_floats = any_model((image / 127.5 - 1).astype(kind))
        assert as_floats.dtype == np.float32
        np.testing.assert_array_equal(augment.to_uint8(as_floats), as_integers)
    np.testing.assert_array_equal(any_model(image[None]), as_integers[None])


@pytest.mark.parametrize("kind", ["PIL image", "path", "str", "list", "tuple", "PIL images", "files", "jax"])
def test_files_pillow_images_and_lists(kind, bicycle, tmp_path):
    """Pillow images, files and lists of either give the same as arrays."""
    array = pixels(64, 64, 3)
    drawing, file = PIL.Image.fromarray(array), tmp_path / "drawing.png"
    drawing.save(file)
    one = {"PIL image": drawing, "path": file, "str": str(file), "jax": jnp.asarray(array)}
    many = {"list": [array] * 2, "tuple": (array,) * 2, "PIL images": [drawing] * 2, "files": [file, drawing]}
    same, expected = (one[kind], array) if kind in one else (many[kind], np.stack([array] * 2))
    np.testing.assert_array_equal(bicycle(same, n=2), bicycle(expected, n=2))
    np.testing.assert_array_equal(bicycle.encode(same), bicycle.encode(expected))


def test_pillow_images_are_converted(bicycle):
    """Like image files: a palette is resolved to its colours, grey is repeated, transparency is blended with white."""
    transparent = PIL.Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    white = np.full((64, 64, 3), 255, np.uint8)
    for image in (transparent, PIL.Image.new("L", (64, 64), 255), PIL.Image.fromarray(white).quantize(), PIL.Image.new("1", (64, 64), 1)):
        np.testing.assert_array_equal(bicycle(image), bicycle(white), err_msg=image.mode)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: [pixels(64, 64, 3), pixels(32, 64, 3)], r"images are uint8 \(32, 64, 3\) and uint8 \(64, 64, 3\): a list must be"),
        (lambda folder: [], "images are an empty list: a list must be"),
        (lambda folder: folder / "none.png", r"none\.png: no such file"),
        (lambda folder: folder, "is a folder: must be an image file"),
        (lambda folder: PIL.Image.new("F", (64, 64)), "image: has 32-bit samples: must be 8 or 16 bit"),
    ],
)
def test_invalid_files_and_lists(make, message, bicycle, tmp_path):
    for use in (bicycle, bicycle.encode):
        with pytest.raises(ImageError, match=message):
            use(make(tmp_path))


@pytest.mark.parametrize("source", [None, {"image": 1}, [None], 3])
def test_neither_array_nor_image(source):
    with pytest.raises(ImageError, match="images are a (NoneType|dict|int): must be an array, a Pillow image, a path, or a list of"):
        model._array(source, 3, DataConfig())


def test_encode_uses_the_runs_mode():
    """With batch norm, and with or without running statistics (imported runs use them)."""
    config = tiny.config_of("bicycle_gan", norm="batch")
    game = tiny.game_of(config)
    config.data.crop_size = tiny.SIDE
    state, target = tiny.state_of(game, tiny.batch_of(2)), pixels(tiny.SIDE, tiny.SIDE, 3)
    for running_average in (True, False):
        config.sampling.running_average = running_average
        mode = sampling.Mode(running_average=running_average)
        expected = sampling.encode(game.networks, state, augment.scale(target[None]), mode=mode).mean[0]
        np.testing.assert_allclose(model.Model(config, game.networks, state).encode(target), expected, rtol=1e-4, atol=1e-5)


def test_inputs_of_a_batch_are_independent(any_model):
    batch = np.stack([pixels(64, 64, 3)] * 2)
    first, second = any_model(batch, n=2)
    assert not np.array_equal(first, second)
    batch[1] = 0
    np.testing.assert_array_equal(any_model(batch, n=2)[0], first)


def test_given_latents(bicycle):
    """[d] or [n, d] for all inputs, or [b, n, d] for each."""
    batch = pixels(2, 64, 64, 3)
    z = np.random.default_rng(1).normal(size=(2, 3, 2))
    each = bicycle(batch, z=z)
    assert each.shape == (2, 3, 64, 64, 3)
    for i in (0, 1):
        np.testing.assert_array_equal(bicycle(batch, z=z[i])[i], each[i])
    np.testing.assert_array_equal(bicycle(batch, z=z[1, 2])[1], bicycle(batch, z=z[:, 2:])[1])  # as many images: rounded alike
    assert not np.array_equal(each[0, 0], each[0, 1])


def test_encode_resizes_as_training_did(bicycle):
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
        (lambda image: image.astype(np.int64), "images are int64: must be uint8, uint16, int16 or floats"),
        (lambda image: image.astype(np.float32), r"images reach from 0 to 255: floats must be in \[-1, 1\]"),
        (lambda image: image * np.nan, "images have 12288 NaN or Inf among their 12288 values: must be finite numbers"),
    ],
)
def test_invalid_images(make, message, bicycle):
    for use in (bicycle, bicycle.encode):
        with pytest.raises(ImageError, match=message):
            use(make(pixels(64, 64, 3)))


def test_invalid_arguments(bicycle, trained, tmp_path):
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
    with pytest.raises(ConfigError, match="is not a run: it has no config.json"):
        i2i_jax.load(tmp_path / "none")
    with pytest.raises(AttributeError, match="module 'i2i_jax' has no attribute 'lode'"):
        _ = i2i_jax.lode
