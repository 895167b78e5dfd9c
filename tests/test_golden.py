"""Compares networks, gradients and three training steps in float64 with stored results of the public PyTorch code.

The code is that of pix2pix and BicycleGAN. `meta` in each file has the options of the run, with the names of the PyTorch code.
`data/golden` has the smallest set with every kind of network and both trainings; the other files are tested if the shared folder
exists.
"""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import conftest
from i2i_jax import build, objectives
from i2i_jax.config import Config
from i2i_jax.interop.torch import batch_stats_from_state_dict, params_from_state_dict, state_dict_from_params
from i2i_jax.models import ENCODERS, GENERATORS, MultiScale, PatchGAN, PixelGAN
from i2i_jax.train_state import TrainState
from i2i_jax.types import Batch

HERE = {path.name: path for path in (Path(__file__).parent / "data" / "golden").glob("*.npz")}
ALL = {path.name: path for path in (conftest.SHARED / "golden").glob("*.npz")} | HERE
TRAININGS = sorted(name for name in ALL if name.startswith("train_"))
NETWORKS = sorted(set(ALL) - set(TRAININGS))

OURS = {"G": "generator", "E": "encoder", "D": "discriminator", "D2": "discriminator_prior"}
GENERATOR = {"resnet_6blocks": "resnet_6", "resnet_9blocks": "resnet_9"}
UPSAMPLE = {"basic": "transposed", "bilinear": "bilinear"}
GAN_LOSS = {"wgangp": "wgan"}


class Golden(NamedTuple):
    meta: dict
    arrays: dict[str, np.ndarray]  # all float64

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}


def load(path: Path) -> Golden:
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return Golden(json.loads(str(arrays.pop("meta"))), {key: value.astype(np.float64) for key, value in arrays.items()})


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def nhwc(x):
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def assert_within(tolerance, ours, theirs):
    """Compares all leaves, with a tolerance relative to the largest value of all leaves."""
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale), ours, theirs)


# ---- one network


def patch_layers(options):
    """The number of layers of a discriminator. BicycleGAN's names contain the image size instead."""
    return options["n_layers_D"] if "n_layers_D" in options else {"basic_128": 2, "basic_256": 3}[options["netD"].removesuffix("_multi")]


def network(meta):
    norm = meta["norm"]
    if meta["net"] == "E":
        return ENCODERS[meta["netE"]](latent_dim=meta["nz"], width=meta["nef"], norm=norm)
    if meta["net"] == "G":
        kind = GENERATORS[GENERATOR.get(meta["netG"], meta["netG"])]
        if meta["repo"] == "pix2pix":
            return kind(meta["output_nc"], width=meta["ngf"], norm=norm, dropout=meta["dropout_layers"])
        own = {"latent_at": meta["where_add"], "skip_order": "decoder_first", "upsample": UPSAMPLE[meta["upsample"]]}
        return kind(meta["output_nc"], width=meta["ngf"], norm=norm, **own)
    if meta["netD"] == "pixel":
        return PixelGAN(meta["ndf"], norm)
    scales = tuple(PatchGAN(patch_layers(meta), meta["ndf"] // 2**i, norm) for i in range(meta.get("num_Ds", 1)))
    return MultiScale(scales) if meta["repo"] == "bicycle" else scales[0]


def assert_same_outputs(golden, module, variables, tolerance, kinds=("output/", "output_running_stats/")):
    """Compares the outputs for the stored inputs, in the dtype of `variables`."""
    inputs = [jnp.asarray(nhwc(x), jax.tree.leaves(variables)[0].dtype) for x in golden.under("input/").values()]
    switches = {"deterministic": True} if golden.meta["net"] == "G" else {}
    for kind in kinds:
        theirs = [nhwc(x) for x in golden.under(kind).values()]
        if theirs:
            average = kind == "output_running_stats/"
            run = jax.jit(lambda v, *x, average=average: module.apply(v, *x, use_running_average=average, **switches))
            for ours, expected in zip(jax.tree.leaves(run(variables, *inputs)), theirs, strict=True):
                assert_within(tolerance, ours, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_network(name):
    golden = load(ALL[name])
    module, state = network(golden.meta), golden.under("state/")
    variables = {"params": params_from_state_dict(module, state), "batch_stats": batch_stats_from_state_dict(module, state)}
    assert_same_outputs(golden, module, variables, 1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_state_dict_survives_the_round_trip(name):
    golden = load(ALL[name])
    module, state = network(golden.meta), golden.under("state/")
    params, stats = params_from_state_dict(module, state), batch_stats_from_state_dict(module, state)
    back = state_dict_from_params(module, params, stats)
    written = {key: value for key, value in back.items() if not key.endswith("num_batches_tracked")}
    assert set(written) == set(state)
    for key, value in written.items():
        cancelled = key.endswith(".bias") and not value.any()
        np.testing.assert_array_equal(value, np.zeros_like(state[key]) if cancelled else state[key], err_msg=key)
    assert_within(0, params_from_state_dict(module, back), params)


# ---- three steps of training


def config_of(meta: dict) -> Config:
    options, config = meta["options"], Config()
    config.data.input_channels, config.data.target_channels = options["input_nc"], options["output_nc"]
    config.model.generator = GENERATOR.get(options["netG"], options["netG"])
    config.model.width, config.model.discriminator_width = options["ngf"], options["ndf"]
    config.model.norm = options["norm"]
    config.model.discriminator_layers = 3 if options["netD"] in ("basic", "pixel") else patch_layers(options)
    config.gan_loss = GAN_LOSS.get(options["gan_mode"], options["gan_mode"])
    config.weights.gradient_penalty = 0.0  # neither training code uses its own
    config.weights.l1 = options["lambda_L1"]
    config.optimizer.learning_rate, config.optimizer.beta1 = options["lr"], options["beta1"]
    config.optimizer.decay_fraction = 0.0
    (as_pix2pix if meta["repo"] == "pix2pix" else as_bicycle_gan)(config, options)
    return config


def as_pix2pix(config: Config, options: dict) -> None:
    config.objective, config.update = "pix2pix", "alternating"
    config.data.batch_size = options.get("batch_size", 2)
    config.model.dropout, config.model.skip_order = not options["no_dropout"], "encoder_first"
    config.model.discriminator, config.model.discriminator_scales = {"pixel": "pixel"}.get(options["netD"], "patchgan"), 1


def as_bicycle_gan(config: Config, options: dict) -> None:
    config.objective, config.kl_reduction = "bicycle_gan" if options["lambda_GAN2"] or options["lambda_z"] else "cvae_gan", "sum"
    config.data.batch_size = options["batch_size"]
    config.model.dropout = options["use_dropout"]
    config.model.encoder, config.model.encoder_width, config.model.latent_dim = options["netE"], options["nef"], options["nz"]
    config.model.latent_at, config.model.upsample = options["where_add"], UPSAMPLE[options["upsample"]]
    config.model.conditional, config.model.shared_discriminator = options["conditional_D"], options["use_same_D"]
    config.model.discriminator_scales = options["num_Ds"]
    config.weights.gan, config.weights.gan_prior = options["lambda_GAN"], options["lambda_GAN2"]
    config.weights.kl, config.weights.latent = options["lambda_kl"], options["lambda_z"]


def remember_gradient() -> optax.GradientTransformation:
    """A transformation that passes gradients on and keeps the last one as its state."""
    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), lambda grad, *_: (grad, grad))


def expected_losses(theirs: dict) -> dict[str, dict[str, float]]:
    """The losses of the PyTorch code by player and term."""
    halved = 0.5 * (theirs.get("D_real", 0.0) + theirs.get("D_fake", 0.0))
    discriminator = {"gan": theirs.get("D", halved), "gan_prior": theirs.get("D2", 0.0)}
    names = {"gan": "G_GAN", "gan_prior": "G_GAN2", "l1": "G_L1", "kl": "kl", "latent": "z_L1"}
    return {"generator": {ours: theirs.get(name, 0.0) for ours, name in names.items()}, "discriminator": discriminator}


def assert_losses(ours: objectives.Losses, theirs: dict) -> None:
    for player, terms in expected_losses(theirs).items():
        assert set(getattr(ours, player)) <= set(terms)
        for name, expected in terms.items():
            np.testing.assert_allclose(getattr(ours, player).get(name, 0.0), expected, rtol=1e-8, err_msg=f"{player} {name}")


def replay(golden: Golden, monkeypatch) -> None:
    """Repeats the stored training; compares the losses of every step, the first gradients and the final networks."""
    game = build.game(config_of(golden.meta))
    game = dataclasses.replace(game, tx=optax.chain(remember_gradient(), game.tx))
    latents: list[jax.Array] = []
    monkeypatch.setattr(objectives, "standard_normal", lambda nets, shape: latents.pop(0))

    @jax.jit
    def train_step(state, batch, drawn):
        latents[:] = drawn
        return game.train_step(state, batch, jax.random.key(0))

    nets = {net: getattr(game.networks, OURS[net]) for net in OURS if golden.under(f"initial/{net}/")}

    def theirs(prefix, read=params_from_state_dict, needed=nets):
        return {OURS[net]: read(module, golden.under(f"{prefix}/{net}/")) for net, module in needed.items()}

    params = jax.tree.map(jnp.asarray, theirs("initial"))
    state = TrainState(
        jnp.int32(0), params, theirs("initial", batch_stats_from_state_dict), {n: game.tx.init(p) for n, p in params.items()}
    )
    for step in range(golden.meta["steps"]):
        given = golden.under(f"batch/{step}/")
        drawn = [given[name] for name in ("eps_posterior", "z_random") if name in given]
        state, losses = train_step(state, Batch(nhwc(given["A"]), nhwc(given["B"])), drawn)
        assert_losses(losses, golden.meta["losses"][step])
        if step == 0:
            with_gradients = {net: module for net, module in nets.items() if golden.under(f"grad0/{net}/")}
            for name, expected in theirs("grad0", needed=with_gradients).items():
                assert_within(1e-9, state.opt_state[name][0], expected)
    assert set(state.params) == set(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-7), state.params, theirs("final"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-7), state.batch_stats, theirs("final", batch_stats_from_state_dict)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_golden_training(name, monkeypatch):
    replay(load(ALL[name]), monkeypatch)


def test_golden_copies_hold_the_figures_of_the_shared_files(shared):
    assert HERE
    for name, path in HERE.items():
        copy, original = load(path), load(shared / "golden" / name)
        assert copy.meta == original.meta
        for key, value in copy.arrays.items():
            np.testing.assert_array_equal(value, original.arrays[key], err_msg=f"{name} {key}")
