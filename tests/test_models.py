"""Networks: parameter counts, shapes, receptive fields and range; layers against NumPy; initial values."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.models import DISCRIMINATORS, ENCODERS, GENERATORS, MultiScale, PatchGAN, PixelGAN, ResNet, UNet, norms
from i2i_jax.models import layers as L
from i2i_jax.models.encoders import with_predicted_std

RNG = np.random.default_rng(0)


def shapes(module, *inputs, **switches):
    """The shapes of the output and of the variables; nothing is computed."""
    structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return jax.eval_shape(lambda *x: module.init_with_output(rngs, *x, **switches), *structs)


def size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


# ---- parameter counts
#
# The counts are those of the PyTorch code. Our convolutions have no bias before a norm, which would cancel it; the last column has the
# channels of those biases. With batch norm, pix2pix's PyTorch code leaves them out, too.

UNET_256 = [128, 256, 512, 512, 512, 512] + [64, 128, 256, 512, 512, 512, 512]  # down, up
UNET_128 = [128, 256, 512, 512, 512] + [64, 128, 256, 512, 512, 512]
IMAGE, PAIR, Z = (1, 256, 256, 3), (1, 256, 256, 6), (1, 8)

bicycle_unet = partial(UNet, 3, norm="instance", skip_order="decoder_first")
multi_scale = MultiScale(tuple(PatchGAN(3, width, "instance") for width in (64, 32)))

COUNTS = {
    "pix2pix unet_256 batch": (GENERATORS["unet_256"](3), [IMAGE], 54_413_955, []),
    "pix2pix unet_256 instance": (GENERATORS["unet_256"](3, norm="instance"), [IMAGE], 54_409_603, UNET_256),
    "pix2pix unet_128 batch": (GENERATORS["unet_128"](3), [IMAGE], 41_828_995, []),
    "pix2pix unet_128 instance": (GENERATORS["unet_128"](3, norm="instance"), [IMAGE], 41_825_667, UNET_128),
    "resnet_9 batch": (GENERATORS["resnet_9"](3), [IMAGE], 11_383_427, []),
    "resnet_9 instance": (GENERATORS["resnet_9"](3, norm="instance"), [IMAGE], 11_378_179, [64, 128, 256] + 18 * [256] + [128, 64]),
    "resnet_6 batch": (GENERATORS["resnet_6"](3), [IMAGE], 7_841_411, []),
    "resnet_6 instance": (GENERATORS["resnet_6"](3, norm="instance"), [IMAGE], 7_837_699, [64, 128, 256] + 12 * [256] + [128, 64]),
    "patchgan 1": (PatchGAN(1), [PAIR], 139_585, []),
    "patchgan 2": (PatchGAN(2), [PAIR], 666_433, []),
    "patchgan 3": (PatchGAN(3), [PAIR], 2_768_705, []),
    "patchgan 4": (PatchGAN(4), [PAIR], 6_964_033, []),
    "patchgan 5": (PatchGAN(5), [PAIR], 11_159_361, []),
    "patchgan 6": (PatchGAN(6), [PAIR], 15_354_689, []),
    "pixel": (PixelGAN(), [PAIR], 9_024, []),
    "bicycle unet_256 all": (bicycle_unet(), [IMAGE, Z], 54_794_627, UNET_256),
    "bicycle unet_256 all, grey input": (bicycle_unet(), [(1, 256, 256, 1), Z], 54_792_579, UNET_256),
    "bicycle unet_256 all bilinear": (bicycle_unet(upsample="bilinear"), [IMAGE, Z], 39_538_435, UNET_256),
    "bicycle unet_256 input": (bicycle_unet(latent_at="input"), [IMAGE, Z], 54_417_795, UNET_256),
    "bicycle unet_128 all": (bicycle_unet(depth=7), [IMAGE, Z], 42_145_155, UNET_128),
    "encoder resnet_256": (ENCODERS["resnet_256"](), [IMAGE], 2_590_032, [64, 128, 192, 256]),
    "encoder resnet_128": (ENCODERS["resnet_128"](), [IMAGE], 1_344_080, [64, 128, 192]),
    "encoder conv_256": (ENCODERS["conv_256"](), [IMAGE], 2_760_656, [128, 256, 256, 256]),
    "encoder conv_128": (ENCODERS["conv_128"](), [IMAGE], 1_711_824, [128, 256, 256]),
    "multi-scale": (multi_scale, [IMAGE], 3_458_978, [128, 256, 512] + [64, 128, 256]),
    "multi-scale conditional": (multi_scale, [PAIR], 3_463_586, [128, 256, 512] + [64, 128, 256]),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count_is_that_of_the_pytorch_code(name):
    module, inputs, pytorch, cancelled_biases = COUNTS[name]
    _, variables = shapes(module, *inputs)
    assert size(variables["params"]) + sum(cancelled_biases) == pytorch


# ---- shapes


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("latent", [[], [(2, 5)]])
def test_generator_keeps_height_and_width(name, latent):
    module = GENERATORS[name](4, width=2)
    side = module.size_multiple
    output, _ = shapes(module, (2, side, 3 * side, 1), *latent)
    assert output.shape == (2, side, 3 * side, 4) and output.dtype == jnp.float32


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_gives_a_gaussian_at_any_size(name):
    for side in (128, 192):
        (mean, log_var), _ = shapes(ENCODERS[name](latent_dim=5, width=2), (3, side, side, 2))
        assert mean.shape == log_var.shape == (3, 5)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_constant_std_is_one_that_predicts_it(name):
    encoder, images = ENCODERS[name](latent_dim=5, width=2, std=0.25), jnp.asarray(RNG.normal(size=(3, 64, 64, 2)), jnp.float32)
    params = encoder.init(jax.random.key(0), images)["params"]
    assert "log_var" not in params
    posterior = encoder.apply({"params": params}, images)
    np.testing.assert_allclose(jnp.exp(posterior.log_var / 2), np.full((3, 5), 0.25), rtol=1e-6)
    predicting, with_head = with_predicted_std(encoder, params)
    assert predicting == ENCODERS[name](latent_dim=5, width=2)
    for found, expected in zip(predicting.apply({"params": with_head}, images), posterior, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_patchgan_has_30_x_30_logits_for_256_pixels():
    output, _ = shapes(PatchGAN(3, 2), (1, 256, 256, 6))
    assert output.shape == (1, 30, 30, 1)


def test_pixelgan_has_a_logit_for_every_pixel():
    output, _ = shapes(DISCRIMINATORS["pixel"](), (1, 20, 30, 6))
    assert output.shape == (1, 20, 30, 1)


def test_each_scale_sees_half_of_the_one_before():
    output, _ = shapes(MultiScale(tuple(PixelGAN(2) for _ in range(3))), (1, 64, 32, 3))
    assert [logits.shape[1:3] for logits in output] == [(64, 32), (32, 16), (16, 8)]


@pytest.mark.parametrize(("layers", "receptive_field"), list(enumerate([16, 34, 70, 142, 286, 574], start=1)))
def test_patchgan_receptive_field(layers, receptive_field):
    """Counts the pixels that affect one logit in the middle."""
    module = PatchGAN(layers, width=1, norm="none", kernel_init=jax.nn.initializers.ones)
    image = jnp.ones((1, receptive_field + 2 * 2**layers, receptive_field + 2 * 2**layers, 1))

    @jax.jit
    @jax.grad
    def gradient_of_logit(image):
        logits, _ = module.init_with_output(jax.random.key(0), image)
        return logits[0, logits.shape[1] // 2, logits.shape[2] // 2, 0]

    rows = np.flatnonzero(np.asarray(gradient_of_logit(image)).any((0, 2, 3)))
    assert rows[-1] - rows[0] + 1 == receptive_field


def test_latent_at_sets_the_layers_that_get_the_latent():
    for latent_at, channels in (("all", [3 + 5, 2 + 5, 4 + 5]), ("input", [3 + 5, 2, 4])):
        _, variables = shapes(UNet(3, depth=3, width=2, latent_at=latent_at), (1, 8, 8, 3), (1, 5))
        assert [variables["params"][f"down_{level}"]["kernel"].shape[2] for level in range(3)] == channels


def test_without_skips_the_decoder_sees_the_bottleneck_alone():
    for skip, channels in ((True, [2 * 2, 2 * 4, 8]), (False, [2, 4, 8])):
        _, variables = shapes(UNet(3, depth=3, width=2, skip=skip), (1, 8, 8, 3))
        assert [variables["params"][f"up_{level}"]["kernel"].shape[2] for level in range(3)] == channels


def test_no_bias_where_a_norm_follows_and_one_everywhere_without_norm():
    for norm, normed_have_bias in (("instance", False), ("none", True)):
        _, variables = shapes(bicycle_unet(depth=3, width=2, norm=norm), (1, 8, 8, 3))
        has_bias = {name: "bias" in layer for name, layer in variables["params"].items()}
        assert {has_bias[name] for name in ("down_1", "up_1", "up_2")} == {normed_have_bias}
        assert {has_bias[name] for name in ("down_0", "down_2", "up_0")} == {True}


# ---- behaviour


DROPPING = {"unet": UNet(2, depth=6, width=2, dropout=True), "resnet": ResNet(2, blocks=1, width=2, dropout=True)}


@pytest.mark.parametrize("module", DROPPING.values(), ids=DROPPING)
def test_dropout_and_running_statistics_are_switched_separately(module):
    x = jnp.asarray(RNG.uniform(-1, 1, (2, 64, 64, 3)), jnp.float32)
    variables = jax.jit(module.init)({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x)

    @partial(jax.jit, static_argnames=("deterministic", "use_running_average"))
    def run(key, **switches):
        return module.apply(variables, x, rngs={"dropout": jax.random.key(key)}, **switches)

    def same(x, y):
        return bool(jnp.array_equal(x, y))

    fixed = run(0, deterministic=True, use_running_average=False)
    assert same(fixed, run(1, deterministic=True, use_running_average=False))
    assert not same(fixed, run(0, deterministic=True, use_running_average=True))
    for average in (False, True):
        first, again, other = (run(key, deterministic=False, use_running_average=average) for key in (0, 0, 1))
        assert same(first, again) and not same(first, other)


def test_output_is_in_range_and_float32_when_computed_in_bfloat16():
    module = UNet(3, depth=3, width=2, dtype=jnp.bfloat16, kernel_init=jax.nn.initializers.normal(5.0))
    x = jnp.asarray(RNG.uniform(-1, 1, (2, 8, 8, 3)), jnp.float32)
    output, variables = module.init_with_output(jax.random.key(0), x)
    assert output.dtype == jnp.float32 and jnp.abs(output).max() <= 1
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


# ---- layers


def test_bilinear_upsampling_has_half_pixel_centres():
    x = RNG.normal(size=(1, 4, 5, 2))

    def along(x, axis):
        n = x.shape[axis]
        at = np.clip((np.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        share = np.expand_dims(at - low, [i for i in range(x.ndim) if i != axis])
        return x.take(low, axis) * (1 - share) + x.take(np.minimum(low + 1, n - 1), axis) * share

    np.testing.assert_allclose(L.upsample_bilinear(jnp.float32(x)), along(along(x, 1), 2), rtol=1e-5, atol=1e-5)


def assert_is_a_convolution(layer, shape, before=lambda x: x, after=lambda x: x):
    """The layer equals a 3 x 3 convolution between two other operations."""
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=shape))
        params = jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape)), layer.init(jax.random.key(0), x))
        expected = after(L.Conv(layer.features, 3, padding=1).apply(params, before(x)))
        np.testing.assert_allclose(layer.apply(params, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 5)])
def test_nearest_upsampling_is_a_repetition_and_a_convolution(height, width):
    assert_is_a_convolution(L.NearestConv(3), (2, height, width, 4), before=lambda x: x.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 5)])
def test_a_pooled_convolution_is_a_convolution_and_average_pooling(height, width):
    assert_is_a_convolution(L.PooledConv(3), (2, height, width, 4), after=L.average_pool)


def test_downscale_does_not_count_the_padding():
    x = RNG.normal(size=(1, 6, 6, 2))
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    expected = [[np.nanmean(framed[:, r : r + 3, c : c + 3], axis=(1, 2)) for c in range(0, 6, 2)] for r in range(0, 6, 2)]
    np.testing.assert_allclose(L.downscale(jnp.float32(x))[0], np.array(expected)[:, :, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [(1, 2), (0, 1, 2)])
def test_a_mean_in_two_passes_is_the_mean(axes):
    x = RNG.normal(size=(2, 5, 6, 3))
    with jax.enable_x64(True):
        np.testing.assert_allclose(norms._mean_in_two_passes(jnp.asarray(x), axes), x.mean(axes), rtol=1e-13, atol=1e-15)


def test_instance_norm_is_exact_on_a_nearly_flat_map():
    x = np.float32(10 + 1e-2 * RNG.normal(size=(2, 16, 16, 3)))
    exact = x.astype(np.float64)
    expected = (exact - exact.mean((1, 2), keepdims=True)) / np.sqrt(exact.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(norms.instance_norm(jnp.asarray(x)), expected, atol=5e-3)


def test_batch_norm_and_its_running_statistics():
    x = jnp.asarray(RNG.normal(2.0, 3.0, (2, 3, 4, 2)), jnp.float32)
    module = norms.BatchNorm()
    variables = module.init(jax.random.key(0), x, use_running_average=False)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], [0, 0])  # init does not change them
    y, updated = module.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    flat = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_allclose(np.asarray(y).reshape(-1, 2), (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)
    z = module.apply({**variables, **updated}, x, use_running_average=True)
    expected = (flat - 0.1 * flat.mean(0)) / np.sqrt(0.9 + 0.1 * flat.var(0, ddof=1) + 1e-5)
    np.testing.assert_allclose(np.asarray(z).reshape(-1, 2), expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_first_and_second_gradients_of_a_norm(norm):
    """A gradient penalty needs the second."""
    axes = (1, 2) if norm == "instance" else (0, 1, 2)

    def reference(x):
        return (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)

    def ours(x):
        return norms.Normalize(norm).apply(variables, x, use_running_average=False, mutable=["batch_stats"])[0]

    def with_second_gradient(f, x):
        return jax.grad(f)(x), jax.grad(lambda x: jnp.square(jax.grad(f)(x)).sum())(x)

    with jax.enable_x64(True):
        x, weights = jnp.asarray(RNG.normal(3, 2, (2, 3, 4, 2))), jnp.asarray(RNG.normal(size=(2, 3, 4, 2)))
        variables = norms.Normalize(norm).init(jax.random.key(0), x, use_running_average=False)
        found, expected = (with_second_gradient(lambda x, f=f: (weights * f(x)).sum(), x) for f in (ours, reference))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-10, atol=1e-12)


# ---- initial values

FAN_IN, FAN_OUT = 16 * 32, 16 * 64
STD = {"normal": 0.02, "xavier": 0.02 * (2 / (FAN_IN + FAN_OUT)) ** 0.5, "kaiming": (2 / FAN_IN) ** 0.5}


@pytest.mark.parametrize("name", STD)
def test_initial_spread(name):
    kernel = L.INITIALIZERS[name](0.02)(jax.random.key(0), (4, 4, 32, 64))
    assert kernel.std() == pytest.approx(STD[name], rel=0.02)
    assert abs(kernel.mean()) < 0.02 * STD[name]


def test_orthogonal_columns():
    kernel = L.INITIALIZERS["orthogonal"](0.5)(jax.random.key(0), (2, 2, 8, 4)).reshape(-1, 4)
    np.testing.assert_allclose(kernel.T @ kernel, 0.25 * np.eye(4), atol=1e-5)


def test_transposed_convolution_counts_inputs_as_pytorch_does():
    """Fan-in and fan-out are exchanged, as in the convolution whose adjoint it is."""
    module = L.TransposedConv(64, 4, kernel_init=L.INITIALIZERS["kaiming"](0.02))
    variables = module.init(jax.random.key(0), jnp.zeros((1, 2, 2, 32)))
    assert variables["params"]["kernel"].std() == pytest.approx((2 / FAN_OUT) ** 0.5, rel=0.02)


def test_batch_norm_scale_starts_around_one():
    scale = L.scale_init(0.02)(jax.random.key(0), (10_000,))
    assert scale.mean() == pytest.approx(1, abs=1e-3) and scale.std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(("x", "slope"), [(-1.0, 0.2), (-0.0, 0.2), (0.0, 0.2), (1e-30, 1.0), (1.0, 1.0)])
def test_leaky_relu_has_pytorchs_slope_at_zero(x, slope):
    """All units of a first layer are at 0 where an image is 0 and biases still have their initial values."""
    value, gradient = jax.value_and_grad(L.leaky_relu)(jnp.float32(x))
    assert (float(value), float(gradient)) == (np.float32(slope) * np.float32(x), np.float32(slope))
