"""Perceptual distances against PyTorch and stored values with random weights, and properties with the published weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter

from feature_maps import CHANNELS, images_of, state_of, torch_maps
from i2i_jax.metrics import backbones, lpips
from i2i_jax.metrics.backbones import AlexNet, ImageShapeError, SqueezeNet
from i2i_jax.metrics.weights import WeightsError

# The distances of `pair_of(name)`, as computed by `independent` below in float64.
STORED = {
    "lpips_v0.0_alex": [0.8053531950563471, 0.7965994063597122],
    "lpips_v0.1_alex": [0.8196495667296733, 0.807501951440606],
    "lpips_v0.1_vgg": [0.6584702465667595, 0.6443298383094539],
    "lpips_v0.1_squeeze": [0.9303723743616295, 0.8793765524240129],
    "squeezenet_caffe": [0.33808488870736797, 0.333565485437939],
}

distance_of = jax.jit(lambda distance, images, others: distance(images, others))
NETWORKS = {"alex": AlexNet, "vgg": backbones.VGG16, "squeeze": SqueezeNet}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with all files of weights under their published names, as .npz, with random values."""
    folder = tmp_path_factory.mktemp("weights")
    for name, network in NETWORKS.items():
        file = lpips.BACKBONES[name][1].replace(".pth", ".npz")
        np.savez(folder / file, **{key: value.astype(np.float32) for key, value in state_of(network).items()})
        for version in lpips.PREPROCESS:
            np.savez(folder / f"lpips_{version}_{name}.npz", **{key: x.astype(np.float32) for key, x in heads_of(network, version).items()})
    (folder / "squeezenet1_1_caffe.npz").symlink_to(folder / "squeezenet1_1-b8a52dc0.npz")
    return folder


def heads_of(network, version: str) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(list(lpips.PREPROCESS).index(version))
    return {f"lin{i}.model.1.weight": rng.random_sample((1, c, 1, 1)) for i, c in enumerate(CHANNELS[network])}


def pair_of(name: str) -> list[np.ndarray]:
    """Two batches of two noise images, of the smallest size that the backbone takes."""
    side = SqueezeNet.SMALLEST if name == "squeezenet_caffe" else NETWORKS[name.rsplit("_", 1)[1]].SMALLEST
    return [images_of(2, side, side + 1, 3, seed=seed) for seed in (1, 2)]


def independent(name: str) -> np.ndarray:
    """LPIPS as in its authors' code, in PyTorch and float64; without heads the mean over feature maps."""
    if name == "squeezenet_caffe":
        network, heads = SqueezeNet, [np.full(c, 1 / 7) for c in CHANNELS[SqueezeNet]]
        pair = [(enlarged(x) + 1)[..., ::-1] * 127.5 - [104, 117, 123] for x in pair_of(name)]
    else:
        _, version, backbone = name.split("_")
        network = NETWORKS[backbone]
        heads = [x.ravel() for x in heads_of(network, version).values()]
        pair = pair_of(name)
        if version == "v0.1":
            pair = [(x - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450] for x in pair]
    total = 0
    for a, b, head in zip(*(torch_maps(network, images) for images in pair), heads, strict=True):
        a, b = (x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10) for x in (a, b))
        total = total + ((a - b) ** 2 * head).sum(-1).mean((1, 2))
    return total


def enlarged(images: np.ndarray) -> np.ndarray:
    """Resized to 227 x 227 by Pillow, in float32."""
    channels = [[Image.fromarray(c.astype(np.float32)) for c in np.moveaxis(image, 2, 0)] for image in images]
    return np.stack([np.stack([np.asarray(c.resize((227, 227), Image.Resampling.BICUBIC)) for c in image], 2) for image in channels])


@pytest.mark.parametrize("name", STORED)
def test_figures(name, folder):
    found = distance_of(lpips.DISTANCES[name](folder), *(jnp.asarray(x, jnp.float32) for x in pair_of(name)))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, STORED[name], rtol=1e-5)


@pytest.mark.parametrize("name", STORED)
def test_stored_values_are_right(name):
    np.testing.assert_allclose(STORED[name], independent(name), rtol=1e-9)


@pytest.fixture(scope="module")
def distance(folder):
    return lpips.DISTANCES["lpips_v0.1_alex"](folder)


def test_names():
    lpips_names = {f"lpips_{version}_{backbone}" for version in ("v0.0", "v0.1") for backbone in ("alex", "vgg", "squeeze")}
    assert set(lpips.DISTANCES) == lpips_names | {"squeezenet_caffe"}


def test_same_and_swapped(distance):
    a, b = (jnp.asarray(x, jnp.float32) for x in pair_of("lpips_v0.1_alex"))
    assert distance_of(distance, a, a).tolist() == [0, 0]
    assert distance_of(distance, jnp.zeros_like(a), jnp.zeros_like(a)).tolist() == [0, 0]
    np.testing.assert_array_equal(distance_of(distance, a, b), distance_of(distance, b, a))


def test_batches_do_not_matter(distance):
    a, b = (jnp.asarray(x, jnp.float32) for x in pair_of("lpips_v0.1_alex"))
    one_by_one = [distance_of(distance, a[i : i + 1], b[i : i + 1])[0] for i in range(2)]
    np.testing.assert_allclose(distance_of(distance, a, b), one_by_one, rtol=2e-6)


def test_images_of_different_shapes(distance):
    with pytest.raises(ImageShapeError, match="must be the same"):
        distance(jnp.zeros((2, 32, 32, 3)), jnp.zeros((1, 32, 32, 3)))


def test_a_map_over_the_weights(distance):
    """A tree map may replace the arrays by shapes."""
    shapes = jax.tree.map(lambda x: x.shape, distance)
    assert shapes.heads[0] == (64,)
    assert not any(isinstance(x, np.ndarray) for x in jax.tree.leaves(distance))  # else sent to the device with each batch


def test_heads_of_another_backbone(folder, tmp_path):
    (tmp_path / "squeezenet1_1-b8a52dc0.npz").symlink_to(folder / "squeezenet1_1-b8a52dc0.npz")
    (tmp_path / "lpips_v0.1_squeeze.npz").symlink_to(folder / "lpips_v0.1_alex.npz")
    with pytest.raises(WeightsError, match=r"lpips_v0.1_squeeze.npz: 'lin1.model.1.weight' has shape"):
        lpips.DISTANCES["lpips_v0.1_squeeze"](tmp_path)


def test_the_published_heads(folder, shared, tmp_path):
    """The published heads are found in the layout of their own package, next to the backbones."""
    pytest.importorskip("torch", reason="reads PyTorch's files")
    (tmp_path / "v0.1").symlink_to(shared / "weights" / "lpips_linear_v0.1")
    for backbone, (_, file) in lpips.BACKBONES.items():
        (tmp_path / file).with_suffix(".npz").symlink_to((folder / file).with_suffix(".npz"))
        heads = lpips.DISTANCES[f"lpips_v0.1_{backbone}"](tmp_path).heads
        assert all(float(head.min()) >= 0 and float(head.max()) > 0 for head in heads)


def test_a_stronger_distortion_is_further_away(shared):
    """On photos, with a network trained on photos; another photo is further away than a slight blur."""
    distance = lpips.DISTANCES["squeezenet_caffe"](shared / "weights")
    files = sorted((shared / "data" / "facades" / "test").glob("*.jpg"))[:4]
    photos = [Image.open(file).crop((64, 64, 192, 192)) for file in files]

    def scaled(images):
        return jnp.stack([jnp.asarray(np.asarray(image), jnp.float32) / 127.5 - 1 for image in images])

    blurred = [scaled([photo.filter(ImageFilter.GaussianBlur(radius)) for photo in photos]) for radius in (0.5, 1, 2, 4)]
    noise = np.random.RandomState(0).normal(size=blurred[0].shape).astype(np.float32)
    noisy = [jnp.clip(scaled(photos) + scale * noise, -1, 1) for scale in (0.05, 0.1, 0.2, 0.4)]
    for distorted in (blurred, noisy):
        distances = np.stack([distance_of(distance, scaled(photos), images) for images in distorted])
        assert (np.diff(distances, axis=0) > 0).all()
    shuffled = scaled(photos[1:] + photos[:1])
    assert (distance_of(distance, scaled(photos), shuffled) > distance_of(distance, scaled(photos), blurred[1])).all()
