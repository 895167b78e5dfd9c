"""Networks, losses, learning rates and errors that a config gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from i2i_jax import build, configs, losses, presets
from i2i_jax.config import OBJECTIVES, Config, ConfigError, to_json
from i2i_jax.models import PatchGAN, PixelGAN, ResNet, UNet
from i2i_jax.storage import packed
from tiny import batch_of


def config_with(**model):
    return Config(model=dataclasses.replace(Config().model, **model))


def init_shapes(config, size=64):
    config.data.crop_size = size
    game = build.game(config)
    return jax.eval_shape(game.init, jax.random.key(0), build.example_batch(config))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("pix2pix", {"generator", "discriminator"}),
        ("pix2pix_noise", {"generator", "discriminator"}),
        ("cae_gan", {"generator", "encoder", "discriminator"}),
        ("cvae_gan", {"generator", "encoder", "discriminator"}),
        ("clr_gan", {"generator", "encoder", "discriminator_prior"}),
        ("bicycle_gan", {"generator", "encoder", "discriminator", "discriminator_prior"}),
        ("segmenter", {"generator"}),
    ],
)
def test_system_has_the_networks_that_it_uses(objective, expected):
    config = config_with(generator="unet_64", encoder="resnet_64", width=2)
    config.objective = objective
    state = init_shapes(config)
    assert set(state.params) == set(state.batch_stats) == set(state.opt_state) == expected


def test_every_objective_is_covered_above():
    assert len(OBJECTIVES) == 7


def test_pix2pix_gives_its_generator_no_latent():
    config = config_with(latent_dim=8, generator="unet_64", width=2)
    for objective, channels in (("pix2pix", 3), ("pix2pix_noise", 3 + 8)):
        config.objective = objective
        assert init_shapes(config).params["generator"]["down_0"]["kernel"].shape[2] == channels


def test_a_segmenter_scores_the_classes_of_its_palette():
    config = config_with(generator="unet_64", width=2)
    config.objective = "segmenter"
    for config.data.palette, classes in (("facades", 12), ("cityscapes", 19)):
        assert init_shapes(config).params["generator"]["scores"]["up_0"]["bias"].shape == (classes,)


@pytest.mark.parametrize(
    ("name", "kind", "depth"),
    [("unet_64", UNet, 6), ("unet_512", UNet, 9), ("resnet_6", ResNet, 6), ("resnet_9", ResNet, 9)],
)
def test_generator_by_name(name, kind, depth):
    generator = build.networks(config_with(generator=name, width=7, upsample="bilinear", dropout=True)).generator
    assert isinstance(generator, kind)
    assert (generator.depth if kind is UNet else generator.blocks) == depth
    assert (generator.width, generator.upsample, generator.dropout, generator.channels) == (7, "bilinear", True, 3)


def test_options_of_the_unet_are_passed_on():
    generator = build.networks(config_with(latent_at="input", skip=False, skip_order="encoder_first", norm="batch")).generator
    assert (generator.latent_at, generator.skip, generator.skip_order, generator.norm) == ("input", False, "encoder_first", "batch")


def test_channels_are_those_of_the_data():
    config = config_with(generator="unet_64", width=2)
    config.objective, config.data.input_channels, config.data.target_channels = "pix2pix", 4, 2
    params = init_shapes(config).params
    assert params["generator"]["down_0"]["kernel"].shape[2] == 4
    assert params["generator"]["up_0"]["kernel"].shape[3] == 2
    assert params["discriminator"]["scales_0"]["conv_0"]["kernel"].shape[2] == 4 + 2


def test_each_scale_has_half_the_width_of_the_one_before():
    scales = build.networks(config_with(discriminator_scales=3, discriminator_width=5, discriminator_layers=2)).discriminator.scales
    assert [scale.width for scale in scales] == [5, 2, 1]
    assert all(isinstance(scale, PatchGAN) and scale.layers == 2 for scale in scales)


def test_pixel_discriminator_by_name():
    (scale,) = build.networks(config_with(discriminator="pixel", discriminator_scales=1)).discriminator.scales
    assert isinstance(scale, PixelGAN)


def test_widths_default_to_the_generators():
    nets = build.networks(config_with(width=24))
    assert nets.encoder.width == nets.discriminator.scales[0].width == 24
    nets = build.networks(config_with(width=24, encoder_width=6, discriminator_width=12))
    assert (nets.encoder.width, nets.discriminator.scales[0].width) == (6, 12)


@pytest.mark.parametrize("shared", [True, False])
def test_shared_discriminator_is_one_module(shared):
    nets = build.networks(config_with(shared_discriminator=shared))
    assert (nets.discriminator is nets.discriminator_prior) == shared


def test_parameters_are_float32_with_bfloat16_computation():
    config = config_with(dtype="bfloat16", generator="unet_64", encoder="conv_64", width=2)
    assert {leaf.dtype for leaf in jax.tree.leaves(init_shapes(config).params)} == {jnp.dtype("float32")}
    assert build.networks(config).generator.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", losses.GAN_LOSSES)
def test_gan_loss_by_name(name):
    options = build.objective(Config(gan_loss=name, kl_reduction="sum")).keywords["options"]
    assert options.gan is losses.GAN_LOSSES[name] and options.sum_kl


def test_learning_rate_is_constant_then_linear_to_zero():
    """1 - max(0, t - constant) / (decay + 1) at step t = 1, 2, ..., which is above zero during training."""
    config = Config()
    config.train.steps, config.optimizer.decay_fraction, config.optimizer.learning_rate = 10, 0.4, 0.5
    rate = build.learning_rate(config)
    expected = [0.5] * 6 + [0.5 * (1 - i / 5) for i in (1, 2, 3, 4)]
    np.testing.assert_allclose([rate(jnp.int32(step)) for step in range(10)], expected, rtol=1e-6)
    np.testing.assert_allclose(rate(jnp.int32(10)), 0, atol=1e-7)


# Whether the training loop updates the learning rate before each epoch instead of after it.
PROJECTS = {"BicycleGAN": False, "pytorch-CycleGAN-and-pix2pix": True}


def by_epoch(project: str, config: Config) -> list[float]:
    """The factor of each epoch by the project's `lambda_rule`, which its training loop updates after or before an epoch."""
    held = config.optimizer.held_for
    decay = round(config.train.steps * config.optimizer.decay_fraction) // held
    constant = config.train.steps // held - decay
    updates = [epoch + PROJECTS[project] for epoch in range(constant + decay)]
    return [1.0 - max(0, count + 1 - constant) / float(decay + 1) for count in updates]


@pytest.mark.parametrize("project", PROJECTS)
@pytest.mark.parametrize(("epochs", "per_epoch", "fraction"), [(4, 3, 0.5), (6, 1, 0.5), (5, 7, 0.4), (3, 2, 0.0), (200, 5, 0.5)])
def test_learning_rate_is_the_originals_over_epochs(project, epochs, per_epoch, fraction):
    config = Config()
    config.train.steps, config.optimizer.held_for, config.optimizer.decay_fraction = epochs * per_epoch, per_epoch, fraction
    config.optimizer.decay_early = PROJECTS[project] and fraction > 0
    expected = np.repeat(by_epoch(project, config), per_epoch) if fraction else np.ones(config.train.steps)
    with jax.enable_x64(True):
        found = [float(build.learning_rate(config)(jnp.int64(step))) for step in range(config.train.steps)]
    np.testing.assert_allclose(found, 2e-4 * expected, rtol=1e-14, atol=1e-19)


@pytest.mark.parametrize("steps", [1, 100, 300, 1000, 9000])
@pytest.mark.parametrize("preset", ["bicycle", "pix2pix"])
def test_a_shorter_run_of_a_public_set_learns_at_the_full_rate_first(preset, steps):
    """It is not a whole number of epochs, so the rate changes with every step. Held for whole epochs, it would be 0 at once."""
    held, plain = configs.read(f"{preset}:facades"), configs.read(f"{preset}:folder")
    held.train.steps = plain.train.steps = steps
    found, expected = ([float(build.learning_rate(config)(jnp.int32(step))) for step in range(0, steps, max(1, steps // 10))]
                       for config in (held, plain))  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert steps == 1 or found[0] == np.float32(2e-4)


@pytest.mark.parametrize("preset", ["bicycle", "pix2pix"])
def test_the_public_sets_have_their_projects_epochs(preset):
    for name, public in presets.PUBLIC_SETS.items():
        config = configs.read(f"{preset}:{name}")
        whole, rest = divmod(public["pairs"], config.data.batch_size)
        assert config.optimizer.held_for == whole + (preset == "pix2pix" and rest > 0)
        assert config.train.steps % config.optimizer.held_for == 0
        assert config.optimizer.decay_early == (preset == "pix2pix")


@pytest.mark.parametrize("project", PROJECTS)
def test_training_over_epochs_is_pytorchs(project):
    """Adam with LambdaLR, called as in the project's training loop, over both parts of the schedule."""
    torch = pytest.importorskip("torch", reason="trains with PyTorch")
    epochs, per_epoch = 6, 3
    config = Config()
    config.train.steps, config.optimizer.held_for, config.optimizer.decay_early = epochs * per_epoch, per_epoch, PROJECTS[project]
    gradients = np.random.default_rng(0).normal(size=(config.train.steps, 4))
    parameter = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([parameter], lr=2e-4, betas=(0.5, 0.999))
    scheduler = torch.optim.lr_scheduler.LambdaLR(adam, lambda epoch: 1.0 - max(0, epoch + 1 - epochs // 2) / float(epochs // 2 + 1))
    with jax.enable_x64(True):
        tx, ours = build.optimizer(config), jnp.zeros(4)
        state = tx.init(ours)
        parameter.grad = torch.zeros_like(parameter)
        for epoch in range(epochs):
            if epoch and not PROJECTS[project]:
                scheduler.step()
            if PROJECTS[project]:
                adam._opt_called = True  # or PyTorch warns of the order of calls in the project
                scheduler.step()
            for gradient in gradients[epoch * per_epoch :][:per_epoch]:
                parameter.grad = torch.from_numpy(gradient)
                adam.step()
                updates, state = tx.update(jnp.asarray(gradient), state, ours)
                ours = ours + updates
            np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-12, atol=1e-16)


def test_mode_seeking_falls_linearly_to_zero():
    config = Config()
    config.train.steps, config.weights.mode_seeking_until = 100, 0.4
    factors = build.factors(config)
    assert [float(factors(jnp.int32(step))["mode_seeking"]) for step in (0, 10, 40, 99)] == [1, 0.75, 0, 0]
    assert build.factors(Config())(jnp.int32(5)) == {}


def test_mode_seeking_ends_at_zero_where_xla_multiplies_by_the_reciprocal():
    config = Config()
    config.train.steps, config.weights.mode_seeking_until = 82, 0.5  # 41 / 41 is not 1 then
    factors = jax.jit(build.factors(config), compiler_options={"xla_backend_optimization_level": 3})
    assert [float(factors(jnp.int32(step))["mode_seeking"]) for step in (41, 60, 81)] == [0, 0, 0]


def test_learning_rate_without_decay_is_constant():
    config = Config()
    config.optimizer.decay_fraction = 0.0
    assert {float(build.learning_rate(config)(jnp.int32(step))) for step in (0, 1, config.train.steps - 1)} == {float(np.float32(2e-4))}


def test_optimizer_is_adam():
    """Two steps against Kingma's algorithm 1."""
    config = Config()
    config.optimizer.learning_rate, config.optimizer.beta1, config.optimizer.beta2 = 0.1, 0.5, 0.9
    tx, x, m, v = build.optimizer(config), np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    state, params = tx.init(jnp.float32(x)), jnp.float32(x)
    for t in (1, 2):
        gradient = x**2
        m, v = 0.5 * m + 0.5 * gradient, 0.9 * v + 0.1 * gradient**2
        x = x - 0.1 * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
        updates, state = tx.update(jnp.square(params), state, params)
        params = params + updates
        np.testing.assert_allclose(params, x, rtol=1e-5)


def test_game_takes_the_update_order():
    assert build.game(Config(update="alternating")).update == "alternating"


def test_example_batch_has_the_shapes_of_training():
    config = Config()
    config.data.crop_size, config.data.input_channels = 64, 1
    batch = build.example_batch(config, batch_size=6)
    assert batch.input.shape == (6, 64, 64, 1) and batch.target.shape == (6, 64, 64, 3)
    assert batch_of(2).input.dtype == batch.input.dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda run: run / "config.json", ": it is inside the run RUN, which would do"),
        (lambda run: run / "checkpoints" / "2", ": it has no config.json: it is inside the run RUN, which would do"),
        (lambda run: run.parent, ": it has no config.json"),
        (
            lambda run: run.parent / "latest_net_G.pth",
            " is a PyTorch file: convert it to a run with i2i convert --from=torch PARENT/latest_net_G.pth --out=RUN",
        ),
        (lambda run: run.parent / "photo.jpg", ": is no model that `i2i_jax pack` wrote, or is damaged"),
    ],
)
def test_error_for_a_path_that_is_not_a_run_names_what_would_do(make, message, tmp_path):
    run = tmp_path / "parent" / "run"
    (run / "checkpoints" / "2").mkdir(parents=True)
    (run / "config.json").write_text(to_json(Config()))
    for name in ("latest_net_G.pth", "photo.jpg"):
        (run.parent / name).write_bytes(b"something else")
    path = make(run)
    with pytest.raises((ConfigError, packed.PackedError)) as refused:
        build.read_config(path)
    error = str(refused.value)
    assert message.replace("RUN, ", f"{run}, ").replace("PARENT", str(run.parent)) in error, error
    assert "\n" not in error
