"""A config that is valid is one whose networks can be made and take a step; one that is not is refused before anything is computed."""

import jax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import runs
from i2i_jax import build, models
from i2i_jax.config import OPTIONS, SIZE_MULTIPLES, Config, ConfigError, override, validate


def test_what_generators_take():
    assert {name: kind(3).size_multiple for name, kind in models.GENERATORS.items()} == SIZE_MULTIPLES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data.crop_size": 128}, "data.crop_size is 128: model.generator unet_256 takes multiples of 256: data.crop_size=256 would do, "
         "or model.generator=unet_128"),
        ({"data.crop_size": 286}, "data.crop_size is 286: model.generator unet_256 takes multiples of 256: data.crop_size=256 would do"),
        ({"data.crop_size": 300, "data.load_size": 320}, "data.crop_size=256 would do, or model.generator=resnet_6"),
        ({"data.crop_size": 100, "model.generator": "unet_64"}, "of 64: data.crop_size=128 would do, or model.generator=resnet_6"),
        ({"data.crop_size": 60, "model.generator": "unet_64"}, "data.crop_size=64 would do, or model.generator=resnet_6"),
        ({"data.crop_size": 101, "model.generator": "resnet_6"}, "takes multiples of 4: data.crop_size=100 would do"),
        ({"data.crop_size": 4, "model.generator": "resnet_9"}, "data.crop_size is 4: model.generator resnet_9 needs at least 8"),
        ({"data.crop_size": 16, "model.generator": "resnet_9"}, "data.crop_size is 16: model.encoder resnet_256 needs at least 32"),
        ({"model.discriminator_layers": 6}, "model.discriminator_layers is 6: too many for data.crop_size 256, 128 at the smallest of 2 "
         "model.discriminator_scales: model.discriminator_layers=5 would do"),
        ({"data.crop_size": 64, "model.generator": "unet_64", "model.discriminator_scales": 4, "model.discriminator_layers": 2},
         "64, 8 at the smallest of 4 model.discriminator_scales: model.discriminator_layers=1 would do"),
        ({"data.crop_size": 8, "model.generator": "resnet_6", "model.encoder": "conv_64"}, "model.discriminator=pixel would do"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(ConfigError) as refused:
        validate(override(Config(), options))
    assert message in str(refused.value)


@st.composite
def configs(draw):
    """Of any size; about half of them are valid."""
    name = draw(st.sampled_from(["bicycle", "pix2pix", "cvae_gan", "segmenter"]))
    size = draw(st.integers(1, 24)) * draw(st.sampled_from([1, 4, 16]))
    options = {
        "data.crop_size": size,
        "data.load_size": size,
        "model.width": 1,
        "model.generator": draw(st.sampled_from(["unet_64", "unet_128", "resnet_6"])),
        "model.encoder": draw(st.sampled_from(OPTIONS["model.encoder"].choices)),
        "model.discriminator": draw(st.sampled_from(OPTIONS["model.discriminator"].choices)),
        "model.discriminator_layers": draw(st.integers(1, 6)),
        "model.discriminator_scales": draw(st.integers(1, 4)),
        "model.norm": draw(st.sampled_from(OPTIONS["model.norm"].choices)),
        "model.upsample": draw(st.sampled_from(OPTIONS["model.upsample"].choices)),
    }
    return override(runs.get_config(name, "facades"), options)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True)
@given(configs())
def test_what_is_valid_takes_a_step(config):
    try:
        game = build.game(config)
    except ConfigError:
        assume(False)
    batch, key = build.example_batch(config), jax.random.key(0)
    state = jax.eval_shape(game.init, key, batch)
    after, _ = jax.eval_shape(game.train_step, state, batch, key)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)
    assert all(leaf.size for leaf in jax.tree.leaves(state.params))
