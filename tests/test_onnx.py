"""ONNX graphs give the networks' numbers in onnxruntime, for every network and every option that shapes one."""

import jax
import numpy as np
import pytest

import tiny
from i2i_jax import models
from i2i_jax.interop import export_onnx, onnx_networks
from i2i_jax.models import ConvEncoder, ResNet, ResNetEncoder, UNet
from i2i_jax.sampling import Mode

pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

NORMS = {
    "instance": ("instance", Mode()),
    "batch": ("batch", Mode()),
    "running": ("batch", Mode(running_average=True)),
    "none": ("none", Mode()),
}
UPSAMPLES = ("transposed", "bilinear", "nearest")
COLOURS = ((-1.0, -1.0, -1.0), (1.0, 0.0, 0.5), (0.0, 1.0, -1.0))


def images_of(side: int, channels: int = 3) -> np.ndarray:
    """Two images that are not square."""
    return np.random.default_rng(0).uniform(-1, 1, (2, side, 2 * side, channels)).astype(np.float32)


def variables_of(network, *arguments):
    variables = jax.eval_shape(network.init, {"params": jax.random.key(0), "dropout": jax.random.key(0)}, *(x[:1] for x in arguments))
    return {"batch_stats": {}} | tiny.random_variables(variables)


def applied(network, variables, mode, *arguments):
    """The network's output for each image by itself."""

    def apply_row(*row):
        return jax.tree.map(lambda x: x[0], network.apply(variables, *(x[None] for x in row), use_running_average=mode.running_average))

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(apply_row))(*arguments))


def assert_equal(graph, inputs, expected, tolerance):
    outputs = export_onnx.run(graph, inputs)
    assert outputs.keys() == expected.keys()
    for name, values in expected.items():
        assert np.ptp(values) > 0.01
        np.testing.assert_allclose(outputs[name], values, rtol=0, atol=tolerance * np.abs(values).max(), err_msg=name)


def check_generator(network, mode, side, *, latent_dim=2, dtype="float32", tolerance=1e-5):
    images, z = images_of(side), np.random.default_rng(1).normal(size=(2, latent_dim)).astype(np.float32)
    arguments = (images, z) if latent_dim else (images,)
    variables = variables_of(network, *arguments)
    graph = onnx_networks.generator(network, variables, mode, channels=3, latent_dim=latent_dim, dtype=dtype)
    expected = export_onnx.nchw(applied(network, variables, mode, *arguments))
    inputs = {"image": export_onnx.nchw(images)} | ({"z": z} if latent_dim else {})
    assert_equal(graph, inputs, {"translation": expected}, tolerance)


@pytest.mark.parametrize("upsample", UPSAMPLES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("network", [UNet(3, depth=3, width=3), ResNet(3, blocks=1, width=3)], ids=["unet", "resnet"])
def test_layers(network, norm, upsample):
    kind, mode = NORMS[norm]
    check_generator(network.clone(norm=kind, upsample=upsample), mode, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "upsample"), [("instance", "bilinear"), ("batch", "nearest"), ("running", "transposed"), ("none", "bilinear")]
)
@pytest.mark.parametrize("name", models.GENERATORS)
def test_generators(name, norm, upsample):
    """Of the layers, whose combinations are tested above, in the number and sizes of each generator."""
    kind, mode = NORMS[norm]
    network = models.GENERATORS[name](channels=3, width=2, norm=kind, upsample=upsample)
    check_generator(network, mode, max(16, network.size_multiple), tolerance=1e-3)  # statistics of few pixels amplify rounding


@pytest.mark.parametrize("skip_order", ["encoder_first", "decoder_first"])
@pytest.mark.parametrize("latent_at", ["all", "input"])
def test_where_features_are_concatenated(latent_at, skip_order):
    check_generator(UNet(1, depth=3, width=3, latent_at=latent_at, skip_order=skip_order), Mode(), 16)


@pytest.mark.parametrize("network", [UNet(3, depth=2, width=3, skip=False), ResNet(1, blocks=1, width=3)], ids=["unet", "resnet"])
def test_without_latent_or_skip_connections(network):
    check_generator(network, Mode(), 16, latent_dim=0)


@pytest.mark.parametrize("network", [UNet(3, depth=3, width=3, norm="batch"), ResNet(3, blocks=1, width=3)], ids=["unet", "resnet"])
def test_float16(network):
    check_generator(network, Mode(), 16, dtype="float16", tolerance=5e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("encoder", [ResNetEncoder(2, 3, blocks=2), ConvEncoder(2, 3, layers=3)], ids=["resnet", "conv"])
def test_encoders(encoder, norm, dtype):
    kind, mode = NORMS[norm]
    network, images = encoder.clone(norm=kind), images_of(19)
    variables = variables_of(network, images)
    graph = onnx_networks.encoder(network, variables, mode, channels=3, dtype=dtype)
    posterior = applied(network, variables, mode, images)._asdict()
    assert_equal(graph, {"image": export_onnx.nchw(images)}, posterior, {"float32": 1e-5, "float16": 5e-3}[dtype])


def test_an_encoder_of_constant_std():
    network, images = ResNetEncoder(2, 3, blocks=2, std=0.25), images_of(19)
    graph = onnx_networks.encoder(network, variables_of(network, images), Mode(), channels=3)
    log_var = export_onnx.run(graph, {"image": export_onnx.nchw(images)})["log_var"]
    np.testing.assert_allclose(log_var, np.full((2, 2), np.log(0.25**2)), rtol=1e-6)
