"""Config options: validation and its error messages, and the round trip through JSON."""

import dataclasses
import json

import pytest

from i2i_jax import build, config
from i2i_jax.config import OPTIONS, Config, ConfigError, changed, flatten, from_json, to_json, validate


def with_option(name: str, value) -> Config:
    """The default config with one option set, by its dotted name."""
    fresh = Config()
    *sections, field = name.split(".")
    section = fresh
    for part in sections:
        section = getattr(section, part)
    setattr(section, field, value)
    return fresh


def test_defaults_are_valid():
    assert validate(Config()) == Config()


def test_every_option_has_a_meaning_and_holds_its_default():
    flat = flatten(Config())
    assert list(OPTIONS) == list(config.TYPES) == list(flat)
    assert all(OPTIONS[name].help and OPTIONS[name].allows(value) for name, value in flat.items())


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.choices])
def test_unknown_choice_is_refused_and_the_choices_are_named(name):
    with pytest.raises(ConfigError) as error:
        validate(with_option(name, "nonsense"))
    assert str(error.value).startswith(f"unknown {name} 'nonsense': one of {OPTIONS[name].choices[0]}")
    assert "\n" not in str(error.value)


def test_unknown_choice_comes_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown model.generator 'unet256': one of .*unet_256.* \(did you mean 'unet_256'\?\)$"):
        validate(with_option("model.generator", "unet256"))


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.low is not None])
def test_value_out_of_bounds_is_refused(name):
    low, high = OPTIONS[name].low, OPTIONS[name].high
    with pytest.raises(ConfigError, match=rf"^{name} is {low - 1}: must be "):
        validate(with_option(name, low - 1))
    if high is not None:
        with pytest.raises(ConfigError, match=rf"^{name} is {high + 1}: must be from {low} to {high}"):
            validate(with_option(name, high + 1))


@pytest.mark.parametrize("name", ["weights.l1", "optimizer.learning_rate"])
def test_nan_is_out_of_bounds(name):
    with pytest.raises(ConfigError, match=f"^{name} is nan: must be at least 0"):
        validate(with_option(name, float("nan")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data.load_size": 100}, "data.load_size 100 is smaller than data.crop_size 256"),
        ({"model.latent_dim": 0}, "model.latent_dim is 0: bicycle_gan needs at least 1"),
        ({"model.norm_over": "batch"}, "model.norm_over is 'batch', but model.norm 'instance' has no .*: model.norm_over=device would do"),
        ({"data.batch_size": 3}, "data.batch_size is 3: bicycle_gan splits a batch in two halves: must be a multiple of 2"),
        ({"train.microbatches": 4}, "data.batch_size is 2: .* and train.microbatches is 4: must be a multiple of 8"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    (name, value), *_ = options.items()
    with pytest.raises(ConfigError, match=f"^{message}$"):
        validate(with_option(name, value))


@pytest.mark.parametrize("objective", ["pix2pix", "cae_gan", "cvae_gan", "segmenter"])
def test_mode_seeking_needs_a_random_z(objective):
    config = Config(objective=objective)
    config.weights.mode_seeking = 0.5
    with pytest.raises(ConfigError, match=f"^weights.mode_seeking is 0.5: {objective} draws no random z: must be 0$"):
        validate(config)


@pytest.mark.parametrize("objective", ["pix2pix", "pix2pix_noise"])
def test_systems_of_one_branch_take_any_batch(objective):
    single = with_option("data.batch_size", 1)
    single.objective = objective
    validate(single)


def test_pix2pix_needs_no_latent():
    without = with_option("model.latent_dim", 0)
    without.objective = "pix2pix"
    validate(without)


def test_json_round_trip_keeps_every_option():
    original = with_option("data.max_pairs", 7)
    original.model.encoder_width, original.weights.kl, original.train.parallel = None, 0.25, "pmap"
    assert from_json(to_json(original)) == original
    assert set(flatten(from_json(to_json(original)))) == set(flatten(Config()))


def test_json_of_fewer_options_takes_the_defaults():
    assert from_json('{"objective": "cvae_gan"}') == dataclasses.replace(Config(), objective="cvae_gan")


def test_whole_numbers_do_for_floats():
    assert from_json('{"weights": {"l1": 100}}').weights.l1 == 100.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: "),
        ("[]", r"config is \[\]: must be an object"),
        ('{"data": 3}', "data is 3: must be an object"),
        ('{"objectve": "pix2pix"}', r"unknown option objectve \(did you mean 'objective'\?\)"),
        ('{"data": {"batchsize": 2}}', r"unknown option data.batchsize \(did you mean 'batch_size'\?\)"),
        ('{"data": {"batch_size": 2.5}}', "data.batch_size is 2.5: must be int"),
        ('{"data": {"batch_size": true}}', "data.batch_size is True: must be int"),
        ('{"data": {"flip": 1}}', "data.flip is 1: must be bool"),
        ('{"data": {"max_pairs": "all"}}', "data.max_pairs is 'all': must be int"),
        ('{"data": {"path": null}}', "data.path is None: must be str"),
        ('{"train": {"steps": 0}}', "train.steps is 0: must be at least 1"),
    ],
)
def test_json_that_is_no_config(text, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        from_json(text)


def test_changed_names_what_a_resumed_run_may_not_change():
    old, new = Config(), Config()
    new.train.steps, new.data.cache_gb = 5, 0.0
    assert changed(old, new) == {}
    new.data.batch_size = 8
    new.model.norm = "batch"
    assert changed(old, new) == {"data.batch_size": (2, 8), "model.norm": ("instance", "batch")}


def test_json_is_readable():
    assert json.loads(to_json(Config()))["model"]["generator"] == "unet_256"
    assert to_json(Config()).endswith("}\n")


def test_choices_are_those_of_the_code():
    from i2i_jax import losses, models, objectives
    from i2i_jax.models.layers import INITIALIZERS

    for name, registry in {
        "objective": objectives.OBJECTIVES,
        "gan_loss": losses.GAN_LOSSES,
        "model.generator": models.GENERATORS,
        "model.encoder": models.ENCODERS,
        "model.discriminator": models.DISCRIMINATORS,
        "model.initializer": INITIALIZERS,
    }.items():
        assert set(OPTIONS[name].choices) == set(registry), name


def test_build_validates():
    with pytest.raises(ConfigError, match="unknown objective"):
        build.game(with_option("objective", "cyclegan"))
