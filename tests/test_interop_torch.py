"""Conversion of PyTorch state dicts to our parameters and back, and the errors for those that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax.interop.torch import (
    StateDictError,
    batch_stats_from_state_dict,
    params_from_state_dict,
    state_dict_from_params,
    with_transposed_convolutions,
)
from i2i_jax.models import ConvEncoder, MultiScale, PatchGAN, PixelGAN, ResNet, ResNetEncoder, UNet

IMAGE, LATENT = (1, 64, 64, 3), (1, 5)
NORMS = ("batch", "instance", "none")
KINDS = {
    "pix2pix unet": (lambda norm: UNet(2, 6, 2, norm), [IMAGE]),
    "pix2pix unet with dropout": (lambda norm: UNet(2, 6, 2, norm, dropout=True), [IMAGE]),
    "bicycle unet, z at all": (lambda norm: UNet(2, 6, 2, norm, skip_order="decoder_first"), [IMAGE, LATENT]),
    "bicycle unet, z at input": (lambda norm: UNet(2, 6, 2, norm, skip_order="decoder_first", latent_at="input"), [IMAGE, LATENT]),
    "bicycle unet, bilinear": (lambda norm: UNet(2, 6, 2, norm, skip_order="decoder_first", upsample="bilinear"), [IMAGE, LATENT]),
    "resnet": (lambda norm: ResNet(2, 2, 2, norm), [IMAGE]),
    "resnet with dropout": (lambda norm: ResNet(2, 2, 2, norm, dropout=True), [IMAGE]),
    "patchgan": (lambda norm: PatchGAN(3, 2, norm), [IMAGE]),
    "pixel": (lambda norm: PixelGAN(2, norm), [IMAGE]),
    "multi-scale": (lambda norm: MultiScale((PatchGAN(2, 4, norm), PatchGAN(2, 2, norm))), [IMAGE]),
    "one scale": (lambda norm: MultiScale((PatchGAN(2, 4, norm),)), [IMAGE]),
    "resnet encoder": (lambda norm: ResNetEncoder(5, 2, norm, blocks=2), [IMAGE]),
    "conv encoder": (lambda norm: ConvEncoder(5, 2, norm, layers=3), [IMAGE]),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_norm = pytest.mark.parametrize("norm", NORMS)


def filled(kind, norm):
    """A module and its variables, filled with random numbers."""
    make, inputs = KINDS[kind]
    return filled_with(make(norm), inputs)


def filled_with(module, inputs):
    rng = np.random.default_rng(0)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    variables = jax.eval_shape(lambda: module.init(keys, *map(jnp.zeros, inputs)))
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), variables)
    return module, variables["params"], variables.get("batch_stats", {})


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
@each_norm
@each_kind
def test_round_trip(kind, norm):
    module, params, stats = filled(kind, norm)
    state = state_dict_from_params(module, params, stats)
    assert_same(params_from_state_dict(module, state), params)
    assert_same(batch_stats_from_state_dict(module, state), stats)
    again = state_dict_from_params(module, params_from_state_dict(module, state), batch_stats_from_state_dict(module, state))
    assert set(again) == set(state)
    assert_same(again, state)


@pytest.mark.slow
@each_norm
def test_nearest_upsampling_is_written_as_transposed_convolutions(norm):
    module, params, stats = filled_with(UNet(2, 6, 2, norm, skip_order="decoder_first", upsample="nearest"), [IMAGE, LATENT])
    transposed, converted = with_transposed_convolutions(module, params)
    assert_same(params_from_state_dict(transposed, state_dict_from_params(transposed, converted, stats)), converted)
    rng = np.random.default_rng(1)
    inputs = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (IMAGE, LATENT)]
    networks = ((module, params), (transposed, converted))
    images = [jax.jit(network.apply)({"params": weights, "batch_stats": stats}, *inputs) for network, weights in networks]
    np.testing.assert_allclose(images[1], images[0], atol=1e-6)


@each_kind
def test_cancelled_biases_are_written_as_zeros(kind):
    """PyTorch's networks with instance norm have a bias in every convolution."""
    module, params, _ = filled(kind, "instance")
    state = state_dict_from_params(module, params)
    weights = {key.removesuffix(".weight") for key in state if key.endswith(".weight")}
    assert {key.removesuffix(".bias") for key in state if key.endswith(".bias")} == weights
    kept = sum(path[-1].key == "bias" for path, _ in jax.tree_util.tree_leaves_with_path(params))
    zeros = [key for key, value in state.items() if key.endswith(".bias") and not value.any()]
    assert len(zeros) == len(weights) - kept > 0


def test_cancelled_biases_are_dropped_whatever_their_values():
    module, params, _ = filled("multi-scale", "instance")
    state = state_dict_from_params(module, params)
    state["model_0.2.bias"] = np.ones_like(state["model_0.2.bias"])
    assert_same(params_from_state_dict(module, state), params)


@pytest.mark.parametrize("kind", ["bicycle unet, z at all", "bicycle unet, z at input", "multi-scale", "resnet encoder", "conv encoder"])
def test_running_means_do_not_contain_the_dropped_biases(kind):
    """BicycleGAN's convolutions have a bias before a batch norm, so PyTorch's running mean includes it."""
    module, params, stats = filled(kind, "batch")
    state = state_dict_from_params(module, params, stats)
    cancelled = [key for key, value in state.items() if key.endswith(".bias") and not value.any()]
    assert cancelled
    for number, key in enumerate(cancelled):
        state[key] = state[key] + number + 1
        *path, index = key.removesuffix(".bias").split(".")
        norm = ".".join([*path, f"{int(index) + 1}.running_mean"])
        state[norm] = state[norm] + number + 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), batch_stats_from_state_dict(module, state), stats)


def test_prefix_of_data_parallel_is_stripped():
    module, params, stats = filled("patchgan", "batch")
    state = {f"module.{key}": value for key, value in state_dict_from_params(module, params, stats).items()}
    assert_same(params_from_state_dict(module, state), params)
    assert_same(batch_stats_from_state_dict(module, state), stats)


def test_statistics_of_instance_norms_in_old_files_are_ignored():
    module, params, _ = filled("patchgan", "instance")
    state = state_dict_from_params(module, params)
    old = {"model.3.running_mean": np.ones(4), "model.3.running_var": np.ones(4), "model.3.num_batches_tracked": np.zeros(())}
    assert_same(params_from_state_dict(module, state | old), params)


@each_kind
def test_every_missing_key_is_named(kind):
    module, params, stats = filled(kind, "batch")
    whole = state_dict_from_params(module, params, stats)
    for key in list(whole)[:: max(1, len(whole) // 6)]:
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith(".bias") and not whole[key].any():
            continue  # cancelled: it may be missing
        read = batch_stats_from_state_dict if "running" in key else params_from_state_dict
        with pytest.raises(StateDictError, match=f"^the state dict has no '{key}'"):
            read(module, {k: v for k, v in whole.items() if k != key})


def test_unknown_key_is_named():
    module, params, stats = filled("resnet", "batch")
    state = state_dict_from_params(module, params, stats) | {"model.99.weight": np.ones(3)}
    with pytest.raises(StateDictError, match=r"^the state dict has 1 keys that this network does not have, first 'model.99.weight'$"):
        params_from_state_dict(module, state)


def test_an_effective_bias_that_this_network_does_not_have_is_refused():
    module, params, _ = filled("pix2pix unet", "none")
    state = state_dict_from_params(module, params) | {"model.model.0.bias": np.ones(2, np.float32)}
    with pytest.raises(StateDictError, match="first 'model.model.0.bias'"):
        params_from_state_dict(module, state)


@each_kind
def test_network_of_another_width_is_refused(kind):
    module, params, stats = filled(kind, "batch")
    state = state_dict_from_params(module, params, stats)
    narrower = module.clone(width=1) if hasattr(module, "width") else module.clone(scales=tuple(s.clone(width=1) for s in module.scales))
    with pytest.raises(StateDictError, match=r"^'[\w.]+' has shape \(.*\): this network needs \(.*\)$"):
        params_from_state_dict(narrower, state)


def test_wrong_shapes_are_reported_in_pytorch_order():
    module, params, stats = filled("pix2pix unet", "batch")
    state = state_dict_from_params(module, params, stats)
    state["model.model.3.weight"] = state["model.model.3.weight"].transpose(1, 0, 2, 3)
    with pytest.raises(StateDictError, match=r"^'model.model.3.weight' has shape \(2, 4, 4, 4\): this network needs \(4, 2, 4, 4\)$"):
        params_from_state_dict(module, state)


def test_running_statistics_of_another_width_are_refused():
    module, params, stats = filled("patchgan", "batch")
    state = state_dict_from_params(module, params, stats) | {"model.3.running_var": np.ones(7)}
    with pytest.raises(StateDictError, match=r"^'model.3.running_var' has shape \(7,\): this network needs \(4,\)$"):
        batch_stats_from_state_dict(module, state)


def test_latent_and_channels_are_read_from_the_state_dict():
    for channels, latent in ((1, 1), (4, 9)):
        module = UNet(2, 6, 4, "instance", skip_order="decoder_first")
        shapes = jax.eval_shape(
            lambda module=module, c=channels, z=latent: module.init(jax.random.key(0), jnp.zeros((1, 64, 64, c)), jnp.zeros((1, z)))
        )
        params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes["params"])
        assert_same(params_from_state_dict(module, state_dict_from_params(module, params)), params)


def test_network_without_a_pytorch_counterpart_is_refused():
    with pytest.raises(StateDictError, match="no PyTorch layout is known for Dense"):
        import flax.linen as nn

        params_from_state_dict(nn.Dense(3), {})


def test_kernels_are_written_in_pytorch_order():
    module, params, _ = filled("pix2pix unet", "none")
    state = state_dict_from_params(module, params)
    np.testing.assert_array_equal(state["model.model.0.weight"][1, 2, 0, 3], params["down_0"]["kernel"][0, 3, 2, 1])
    np.testing.assert_array_equal(state["model.model.3.weight"][1, 0, 0, 3], params["up_0"]["kernel"][3, 0, 1, 0])  # flipped
