"""FID's Inception with random weights against PyTorch, in float64, and the loading of its file.

`data/inception_golden.npz` has some of the features that `torch_features` below computed, for tests without PyTorch.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.metrics import inception
from i2i_jax.metrics.backbones import ImageShapeError
from i2i_jax.metrics.weights import WeightsError

GOLDEN = Path(__file__).parent / "data" / "inception_golden.npz"
FILE = Path("weights.pth")

# The last block has 2 x 3 pixels: enough to distinguish its kinds of pooling, and averages with and without padding.
HEIGHT, WIDTH = 107, 139


def units():
    """Name, input and output channels, height and width of the kernel of every convolution."""
    yield from (("Conv2d_1a_3x3", 3, 32, 3, 3), ("Conv2d_2a_3x3", 32, 32, 3, 3), ("Conv2d_2b_3x3", 32, 64, 3, 3))
    yield from (("Conv2d_3b_1x1", 64, 80, 1, 1), ("Conv2d_4a_3x3", 80, 192, 3, 3))
    for block, c, pooled in (("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)):
        yield from ((f"{block}.branch1x1", c, 64, 1, 1), (f"{block}.branch5x5_1", c, 48, 1, 1), (f"{block}.branch5x5_2", 48, 64, 5, 5))
        yield from ((f"{block}.branch3x3dbl_1", c, 64, 1, 1), (f"{block}.branch3x3dbl_2", 64, 96, 3, 3))
        yield from ((f"{block}.branch3x3dbl_3", 96, 96, 3, 3), (f"{block}.branch_pool", c, pooled, 1, 1))
    yield from (("Mixed_6a.branch3x3", 288, 384, 3, 3), ("Mixed_6a.branch3x3dbl_1", 288, 64, 1, 1))
    yield from (("Mixed_6a.branch3x3dbl_2", 64, 96, 3, 3), ("Mixed_6a.branch3x3dbl_3", 96, 96, 3, 3))
    for block, c in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        yield from ((f"{block}.branch1x1", 768, 192, 1, 1), (f"{block}.branch7x7_1", 768, c, 1, 1), (f"{block}.branch7x7_2", c, c, 1, 7))
        yield from ((f"{block}.branch7x7_3", c, 192, 7, 1), (f"{block}.branch7x7dbl_1", 768, c, 1, 1))
        yield from ((f"{block}.branch7x7dbl_2", c, c, 7, 1), (f"{block}.branch7x7dbl_3", c, c, 1, 7))
        yield from ((f"{block}.branch7x7dbl_4", c, c, 7, 1), (f"{block}.branch7x7dbl_5", c, 192, 1, 7))
        yield f"{block}.branch_pool", 768, 192, 1, 1
    yield from (("Mixed_7a.branch3x3_1", 768, 192, 1, 1), ("Mixed_7a.branch3x3_2", 192, 320, 3, 3))
    yield from (("Mixed_7a.branch7x7x3_1", 768, 192, 1, 1), ("Mixed_7a.branch7x7x3_2", 192, 192, 1, 7))
    yield from (("Mixed_7a.branch7x7x3_3", 192, 192, 7, 1), ("Mixed_7a.branch7x7x3_4", 192, 192, 3, 3))
    for block, c in (("Mixed_7b", 1280), ("Mixed_7c", 2048)):
        yield from ((f"{block}.branch1x1", c, 320, 1, 1), (f"{block}.branch3x3_1", c, 384, 1, 1))
        yield from ((f"{block}.branch3x3_2a", 384, 384, 1, 3), (f"{block}.branch3x3_2b", 384, 384, 3, 1))
        yield from ((f"{block}.branch3x3dbl_1", c, 448, 1, 1), (f"{block}.branch3x3dbl_2", 448, 384, 3, 3))
        yield from ((f"{block}.branch3x3dbl_3a", 384, 384, 1, 3), (f"{block}.branch3x3dbl_3b", 384, 384, 3, 1))
        yield f"{block}.branch_pool", c, 192, 1, 1


@pytest.fixture(scope="module")
def state_dict():
    """Random arrays under the keys of pytorch-fid's file."""
    rng = np.random.RandomState(0)  # the only generator of NumPy whose stream never changes
    state = {}
    for name, c_in, c_out, height, width in units():
        bound = np.sqrt(6 / (c_in * height * width))
        state[f"{name}.conv.weight"] = ((2 * rng.random_sample((c_out, c_in, height, width)) - 1) * bound).astype(np.float32)
        for key, low in (("weight", 0.5), ("bias", -0.3), ("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{name}.bn.{key}"] = (low + rng.random_sample(c_out)).astype(np.float32)
    return state


@pytest.fixture(scope="module")
def images():
    """Two images of fine noise added to coarse noise, [2, h, w, 3] in [-1, 1]."""
    rng = np.random.RandomState(1)
    coarse = rng.random_sample((2, 14, 18, 3)).repeat(8, 1).repeat(8, 2)[:, :HEIGHT, :WIDTH]
    return coarse + rng.random_sample((2, HEIGHT, WIDTH, 3)) - 1


@pytest.fixture(scope="module")
def params(state_dict):
    return inception.params_from_state_dict(state_dict, path=FILE)


@pytest.fixture(scope="module")
def found(state_dict, images):
    """Features of both images in one batch, in float64."""
    wide = {key: value.astype(np.float64) for key, value in state_dict.items()}
    with jax.enable_x64(True):
        params = inception.params_from_state_dict(wide, path=FILE)
        return np.asarray(jax.jit(inception.Inception().apply)({"params": params}, jnp.asarray(images)))


def torch_features(state_dict, images, resize=False):
    """The network of pytorch-fid in PyTorch functions, in float64, with separate batch norms."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    state = {key: torch.from_numpy(value).double() for key, value in state_dict.items()}

    def unit(x, name, stride=1, padding=0):
        x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        mean, var, weight, bias = (state[f"{name}.bn.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.relu(F.batch_norm(x, mean, var, weight, bias, training=False, eps=0.001))

    def chain(x, *steps):
        for name, *options in steps:
            x = unit(x, name, *options)
        return x

    def average(x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def block_a(x, m):
        five = chain(x, (f"{m}.branch5x5_1",), (f"{m}.branch5x5_2", 1, 2))
        three = chain(x, (f"{m}.branch3x3dbl_1",), (f"{m}.branch3x3dbl_2", 1, 1), (f"{m}.branch3x3dbl_3", 1, 1))
        return torch.cat([unit(x, f"{m}.branch1x1"), five, three, unit(average(x), f"{m}.branch_pool")], 1)

    def block_c(x, m):
        down, across = (1, (3, 0)), (1, (0, 3))
        seven = chain(x, (f"{m}.branch7x7_1",), (f"{m}.branch7x7_2", *across), (f"{m}.branch7x7_3", *down))
        steps = [(f"{m}.branch7x7dbl_{i}", *padding) for i, padding in zip((2, 3, 4, 5), (down, across, down, across), strict=True)]
        double = chain(x, (f"{m}.branch7x7dbl_1",), *steps)
        return torch.cat([unit(x, f"{m}.branch1x1"), seven, double, unit(average(x), f"{m}.branch_pool")], 1)

    def block_e(x, m, pool):
        three, double = unit(x, f"{m}.branch3x3_1"), chain(x, (f"{m}.branch3x3dbl_1",), (f"{m}.branch3x3dbl_2", 1, 1))
        three = [unit(three, f"{m}.branch3x3_2a", 1, (0, 1)), unit(three, f"{m}.branch3x3_2b", 1, (1, 0))]
        double = [unit(double, f"{m}.branch3x3dbl_3a", 1, (0, 1)), unit(double, f"{m}.branch3x3dbl_3b", 1, (1, 0))]
        return torch.cat([unit(x, f"{m}.branch1x1"), *three, *double, unit(pool(x), f"{m}.branch_pool")], 1)

    x = torch.from_numpy(images.transpose(0, 3, 1, 2)).double()
    if resize:
        x = 2 * F.interpolate((x + 1) / 2, size=(299, 299), mode="bilinear", align_corners=False) - 1
    x = chain(x, ("Conv2d_1a_3x3", 2), ("Conv2d_2a_3x3",), ("Conv2d_2b_3x3", 1, 1))
    x = chain(F.max_pool2d(x, 3, 2), ("Conv2d_3b_1x1",), ("Conv2d_4a_3x3",))
    x = F.max_pool2d(x, 3, 2)
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = block_a(x, block)
    double = chain(x, ("Mixed_6a.branch3x3dbl_1",), ("Mixed_6a.branch3x3dbl_2", 1, 1), ("Mixed_6a.branch3x3dbl_3", 2))
    x = torch.cat([unit(x, "Mixed_6a.branch3x3", 2), double, F.max_pool2d(x, 3, 2)], 1)
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = block_c(x, block)
    m = "Mixed_7a.branch7x7x3"
    seven = chain(x, (f"{m}_1",), (f"{m}_2", 1, (0, 3)), (f"{m}_3", 1, (3, 0)), (f"{m}_4", 2))
    x = torch.cat([chain(x, ("Mixed_7a.branch3x3_1",), ("Mixed_7a.branch3x3_2", 2)), seven, F.max_pool2d(x, 3, 2)], 1)
    x = block_e(x, "Mixed_7b", average)
    x = block_e(x, "Mixed_7c", lambda x: F.max_pool2d(x, 3, 1, 1))
    assert resize or x.shape[2:] == (2, 3)
    return x.mean((2, 3)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("i", [0, 1])
def test_features_are_those_of_torch_whatever_the_batch(found, state_dict, images, i):
    np.testing.assert_allclose(found[i], torch_features(state_dict, images[i : i + 1])[0], rtol=1e-9, atol=1e-12)


def test_features_are_the_recorded_ones(found):
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(found[:, :: golden["stride"]], golden["features"], rtol=1e-9, atol=1e-12)


def clamped_bilinear(image):
    """Bilinear resize to 299 x 299 by its definition: interpolates at the clamped centre of each output pixel."""
    h, w, _ = image.shape
    y, x = (np.clip((np.arange(299) + 0.5) * size / 299 - 0.5, 0, size - 1) for size in (h, w))
    (top, left), (bottom, right) = (y.astype(int), x.astype(int)), (np.ceil(y).astype(int), np.ceil(x).astype(int))
    down, across = (y - top)[:, None, None], (x - left)[None, :, None]
    upper = image[top][:, left] * (1 - across) + image[top][:, right] * across
    lower = image[bottom][:, left] * (1 - across) + image[bottom][:, right] * across
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize("size", [(40, 500), (700, 299)])
def test_resize_is_bilinear_without_antialias(size):
    image = np.random.RandomState(0).random_sample((*size, 3))
    with jax.enable_x64(True):
        found = np.asarray(inception.prepare(jnp.asarray(image[None])))[0]
    np.testing.assert_allclose(found, clamped_bilinear(image), rtol=1e-10)


def test_images_of_299_pixels_are_unchanged():
    image = jnp.asarray(np.random.RandomState(0).random_sample((1, 299, 299, 3)), jnp.float32)
    np.testing.assert_array_equal(inception.prepare(image), image)


def test_grey_is_repeated():
    grey = jnp.asarray(np.random.RandomState(0).random_sample((2, 16, 24, 1)), jnp.float32)
    np.testing.assert_array_equal(inception.prepare(grey), inception.prepare(jnp.repeat(grey, 3, -1)))


def test_float32_stays_float32(params):
    features = jax.eval_shape(inception.features, params, jax.ShapeDtypeStruct((2, 20, 30, 1), np.float32))
    assert (features.shape, features.dtype) == ((2, 2048), np.float32)


def test_four_channels_are_refused():
    with pytest.raises(ImageShapeError, match="images of 4 channels: FID's Inception reads 3, or 1 as grey"):
        inception.prepare(jnp.zeros((1, 8, 8, 4)))


def test_the_classifier_is_ignored(state_dict, params):
    more = {"fc.weight": np.zeros((1008, 2048)), "fc.bias": np.zeros(1008), "AuxLogits.fc.bias": np.zeros(1008)}
    counter = {"Mixed_5b.branch1x1.bn.num_batches_tracked": np.zeros((), np.int64)}
    jax.tree.map(np.testing.assert_array_equal, inception.params_from_state_dict(state_dict | more | counter, path=FILE), params)


KEY = "Mixed_6c.branch7x7_2.bn.running_var"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({KEY: None}, f"weights.pth: no '{KEY}'"),
        ({KEY: np.zeros(3)}, rf"weights.pth: '{KEY}' has shape \(3,\): this network needs \(160,\)"),
        ({"fc.weight": np.zeros((1000, 2048))}, "weights.pth: 'fc.weight' has 1000 classes: not the Inception of FID"),
    ],
)
def test_another_file_is_refused(state_dict, change, message):
    changed = {key: value for key, value in (state_dict | change).items() if value is not None}
    with pytest.raises(WeightsError, match=message) as error:
        inception.params_from_state_dict(changed, path=FILE)
    assert "\n" not in str(error.value)
