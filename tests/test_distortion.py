"""L1, PSNR and SSIM against scikit-image, their properties, and known values for the outputs of a published model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from i2i_jax.metrics import distortion

METRICS = {name: jax.jit(getattr(distortion, name)) for name in ("l1", "psnr", "ssim")}
ORACLES = {
    "l1": lambda image, truth: np.abs(image - truth).mean(),
    "psnr": lambda image, truth: peak_signal_noise_ratio(truth, image, data_range=1),
    "ssim": lambda image, truth: structural_similarity(image, truth, channel_axis=-1, data_range=1),
}
BETTER = {"l1": -1, "psnr": 1, "ssim": 1}  # 1 if higher is better


def smooth(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random images in [0, 1] with similar neighbouring pixels."""
    noise = np.random.default_rng(seed).random(shape)
    image = uniform_filter(noise, (0, 5, 5, 0), mode="wrap")
    return (image - image.min()) / np.ptp(image)


def measured(name: str, images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.asarray(METRICS[name](jnp.asarray(images) * 2 - 1, jnp.asarray(truth) * 2 - 1))


@pytest.fixture(scope="module")
def pair():
    truth = smooth((4, 23, 31, 3), 0)
    return np.clip(0.7 * truth + 0.3 * smooth(truth.shape, 1), 0, 1), truth


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("crop", [(23, 31, 3), (7, 7, 3), (7, 12, 1)])
def test_as_scikit_image_in_float64(name, crop, pair):
    height, width, channels = crop
    images, truth = (x[:, :height, :width, :channels] for x in pair)
    expected = [ORACLES[name](*both) for both in zip(images, truth, strict=True)]
    with jax.enable_x64(True):
        found = measured(name, images, truth)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", METRICS)
def test_float32_is_near(name, pair):
    images, truth = (x.astype(np.float32) for x in pair)
    found = measured(name, images, truth)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [ORACLES[name](*both) for both in zip(*pair, strict=True)], rtol=1e-5)


def test_ssim_of_nearly_flat_images_survives_float32():
    grain = 1e-3 * np.random.default_rng(0).standard_normal((2, 1, 23, 31, 3))
    images, truth = np.clip(0.95 + grain, 0, 1)
    np.testing.assert_allclose(measured("ssim", images, truth), [ORACLES["ssim"](images[0], truth[0])], atol=1e-4)


@pytest.mark.parametrize(("name", "best"), [("l1", 0), ("psnr", np.inf), ("ssim", 1)])
def test_of_an_image_with_itself(name, best, pair):
    np.testing.assert_allclose(measured(name, pair[1], pair[1]), best)


@pytest.mark.parametrize("name", METRICS)
def test_symmetric(name, pair):
    np.testing.assert_allclose(measured(name, *pair), measured(name, *pair[::-1]), rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_stronger_damage_is_worse(name, pair):
    truth = pair[1]
    noise = np.random.default_rng(2).standard_normal(truth.shape)
    for damaged in (
        [truth + strength * noise for strength in (0.02, 0.05, 0.1, 0.2)],
        [uniform_filter(truth, (0, side, side, 0)) for side in (3, 5, 9)],
    ):
        found = np.stack([BETTER[name] * measured(name, x, truth) for x in damaged])
        assert (np.diff(found, axis=0) < 0).all()


@pytest.mark.parametrize("name", METRICS)
def test_independent_of_the_batch(name, pair):
    one_by_one = np.concatenate([measured(name, pair[0][i : i + 1], pair[1][i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(measured(name, *pair), one_by_one, rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("other", [(4, 23, 31, 1), (4, 23, 30, 3), (1, 23, 31, 3)])
def test_images_of_other_shapes_are_refused(name, other, pair):
    with pytest.raises(distortion.DistortionError, match=r"\(4, 23, 31, 3\), their truth .*: sizes and channels must be the same"):
        METRICS[name](jnp.asarray(pair[0]), jnp.zeros(other))


def test_ssim_refuses_images_under_its_window():
    with pytest.raises(distortion.DistortionError, match="images are 6 x 31: SSIM needs at least 7 x 7"):
        distortion.ssim(jnp.zeros((1, 6, 31, 3)), jnp.zeros((1, 6, 31, 3)))


def means(images: np.ndarray, truth: np.ndarray) -> list[float]:
    return [float(measured(name, images, truth).mean()) for name in ("l1", "psnr", "ssim")]


@pytest.fixture
def optimised():
    """Compiles with optimisations: for large images they save more time than they take."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.slow
def test_known_values_on_facades(shared, optimised):
    """The outputs of the published pix2pix model, and the mean photo, which is better by all three metrics."""
    folder = shared / "data" / "facades_reference"
    files = {file.name.split("_")[0]: file for file in sorted(folder.glob("*_fake_B.png"))}
    if not files:
        pytest.skip(f"no outputs of the published model at {folder}")
    photos = {x.stem: np.asarray(Image.open(x).convert("RGB"))[:, :256] for x in (shared / "data" / "facades" / "test").glob("*.jpg")}
    truth = np.stack([photos[name] for name in files]).astype(np.float32) / 255
    outputs = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files.values()]).astype(np.float32) / 255
    mean_photo = np.mean(list(photos.values()), 0, dtype=np.float64).astype(np.float32) / 255
    assert means(outputs, truth) == [pytest.approx(0.1795, abs=1e-4), pytest.approx(12.701, abs=1e-3), pytest.approx(0.2329, abs=1e-4)]
    constant = means(np.broadcast_to(mean_photo, truth.shape), truth)
    assert constant == [pytest.approx(0.1727, abs=1e-4), pytest.approx(13.621, abs=1e-3), pytest.approx(0.2389, abs=1e-4)]
