"""The configs: each is valid for every dataset, and trains on the embedded dataset and on real pairs."""

import dataclasses
import importlib
import json
import runpy

import jax
import numpy as np
import pytest
from PIL import Image

import runs
from i2i_jax import build, configs, presets
from i2i_jax.config import DATASETS, OBJECTIVES, ConfigError, flatten, from_json, to_json, validate
from i2i_jax.data import pix2pix
from i2i_jax.types import Batch

NAMES = ("bicycle", "cae_gan", "clr_gan", "cvae_gan", "pix2pix", "pix2pix_noise")
TUNED = ("bicycle_tuned", "pix2pix_tuned")

# REFERENCE: epochs x pairs / batch.
PIX2PIX_STEPS = {
    "facades": 200 * 400,
    "maps": 200 * 1096,
    "cityscapes": 200 * 2975,
    "edges2shoes": 15 * -(-49_825 // 4),
    "edges2handbags": 15 * -(-138_567 // 4),
    "night2day": 17 * -(-17_823 // 4),
}
BICYCLE_STEPS = {
    "facades": 400 * 400 // 2,
    "maps": 400 * 1096 // 2,
    "edges2shoes": 60 * (49_825 // 2),
    "edges2handbags": 30 * (138_567 // 2),
    "night2day": 100 * (17_823 // 2),
}


def test_every_objective_has_a_config():
    assert sorted(configs.NAMES) == sorted((*NAMES, *TUNED, "segmenter", "finetune"))
    assert sorted(runs.get_config(name).objective for name in (*NAMES, "segmenter")) == sorted(OBJECTIVES)
    for name in (*NAMES, *TUNED, "segmenter"):
        doc = importlib.import_module(f"i2i_jax.configs.{name}").__doc__
        assert f"--config={name}" in doc
        assert name in TUNED or "201" in doc, "the year of the paper"


def test_every_config_is_a_file_in_configs_too():
    assert sorted(path.stem for path in runs.CONFIGS.glob("*.py")) == sorted(configs.NAMES)
    for name in configs.NAMES:
        found = runpy.run_path(str(runs.CONFIGS / f"{name}.py"))
        assert found["get_config"] is importlib.import_module(f"i2i_jax.configs.{name}").get_config
        assert f"i2i_jax/configs/{name}.py" in found["__doc__"]


@pytest.mark.parametrize("name", (*NAMES, *TUNED, "segmenter"))
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_set_gives_a_valid_config(name, dataset):
    config = validate(runs.get_config(name, dataset))
    assert config.data.name == dataset
    assert from_json(to_json(config)) == config
    if dataset == "shapes":
        assert (config.data.crop_size, config.model.generator, config.model.encoder) == (64, "unet_64", "resnet_64")
    else:
        assert (config.data.crop_size, config.model.generator, config.model.width) == (256, "unet_256", 64)


def test_the_datasets_are_those_of_the_papers():
    for name, public in presets.PUBLIC_SETS.items():
        assert (public["direction"], public["pairs"]) == (pix2pix.SETS[name].direction, pix2pix.SETS[name].train_pairs)
        assert runs.get_config("bicycle", name).data.direction == public["direction"]
    assert {name: runs.get_config("pix2pix", name).train.steps for name in PIX2PIX_STEPS} == PIX2PIX_STEPS
    assert {name: runs.get_config("bicycle", name).train.steps for name in BICYCLE_STEPS} == BICYCLE_STEPS
    assert [runs.get_config("pix2pix", name).data.batch_size for name in PIX2PIX_STEPS] == [1, 1, 1, 4, 4, 4]
    assert [runs.get_config("bicycle", name).data.input_channels for name in BICYCLE_STEPS] == [3, 3, 1, 1, 3]
    assert [runs.get_config("bicycle", name).data.load_size for name in BICYCLE_STEPS] == [286, 600, 256, 256, 286]
    with pytest.raises(ConfigError, match="unknown dataset 'facade': one of shapes, .*did you mean 'facades'"):
        runs.get_config("bicycle", "facade")


def test_the_originals_options():
    bicycle, pix = runs.get_config("bicycle", "facades"), runs.get_config("pix2pix", "facades")
    weights = {"gan": 1, "gan_prior": 1, "l1": 10, "kl": 0.01, "latent": 0.5, "gradient_penalty": 10}
    assert dataclasses.asdict(bicycle.weights) == weights | {"mode_seeking": 0, "mode_seeking_until": 0}
    assert (bicycle.model.upsample, pix.model.upsample, bicycle.train.ema, pix.train.ema) == ("transposed", "transposed", 0, 0)
    assert bicycle.model.posterior_std == 0
    assert (bicycle.gan_loss, bicycle.update, bicycle.model.norm, bicycle.model.latent_dim) == ("lsgan", "simultaneous", "instance", 8)
    assert (bicycle.model.conditional, bicycle.model.discriminator_scales, bicycle.sampling.dropout) == (False, 2, False)
    assert (pix.gan_loss, pix.update, pix.model.norm, pix.weights.l1) == ("vanilla", "alternating", "batch", 100)
    assert (pix.model.conditional, pix.model.discriminator_scales, pix.sampling.dropout) == (True, 1, True)
    for config in (bicycle, pix):
        assert (config.optimizer.learning_rate, config.optimizer.beta1, config.optimizer.decay_fraction) == (2e-4, 0.5, 0.5)


MORE = {"bicycle": {"model.posterior_std": 0.25, "weights.mode_seeking": 0.05, "weights.mode_seeking_until": 0.7}, "pix2pix": {}}


@pytest.mark.parametrize(("name", "more"), MORE.items())
def test_the_tuned_configs_differ_from_the_originals_in_few_options(name, more):
    original, tuned = (flatten(runs.get_config(config, "facades")) for config in (name, f"{name}_tuned"))
    differing = {option: value for option, value in tuned.items() if value != original[option]}
    assert differing == {"model.upsample": "nearest", "train.ema": 0.999} | more


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_segmenter_has_the_reverse_direction_and_no_noise(dataset):
    segmenter, pix = (runs.get_config(name, dataset) for name in ("segmenter", "pix2pix"))
    assert {segmenter.data.direction, pix.data.direction} == {"AtoB", "BtoA"}
    assert (segmenter.sampling.dropout, segmenter.model.norm, segmenter.data.target_channels) == (False, "instance", 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dataset", ["facades", "edges2shoes"])
def test_the_papers_networks_take_a_step(name, dataset):
    config = runs.get_config(name, dataset)
    game, example = build.game(config), build.example_batch(config, config.data.batch_size)
    assert example.input.shape == (config.data.batch_size, 256, 256, config.data.input_channels)
    state = jax.eval_shape(game.init, jax.random.key(0), example)
    after, losses = jax.eval_shape(game.train_step, state, Batch(*example), jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert all(term.shape == () for term in jax.tree.leaves(losses))
    if (name, dataset) == ("pix2pix", "facades"):
        assert sum(leaf.size for leaf in jax.tree.leaves(state.params["generator"])) == 54_413_955


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_system_trains(trained, name):
    run = trained(name)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    config = build.read_config(run)
    terms = {term for term in rows[0] if term.startswith("generator/")}
    assert terms == {f"generator/{term}" for term in {
        "pix2pix": {"gan", "l1"}, "pix2pix_noise": {"gan", "l1"}, "cae_gan": {"gan", "l1"}, "cvae_gan": {"gan", "l1", "kl"},
        "clr_gan": {"gan_prior", "latent"}, "bicycle_gan": {"gan", "l1", "kl", "gan_prior", "latent"},
    }[config.objective]}  # fmt: skip
    game, state = build.load(run)
    assert int(state.step) == 2
    assert ("encoder" in state.params) == (not config.objective.startswith("pix2pix"))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.slow
def test_real_pairs_side_by_side(shared, tmp_path, shallow):
    facades = shared / "data" / "facades"
    state = runs.train(shallow("pix2pix", facades, {"data.direction": "BtoA", "data.max_pairs": 4}, dataset="folder"), tmp_path)
    assert int(state.step) == 2
    assert (tmp_path / "samples" / "00000002.png").exists()


@pytest.mark.slow
def test_real_pairs_in_two_folders(shared, tmp_path, shallow):
    """Both layouts of the same pairs give the same run."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for file in sorted((shared / "data" / "facades" / "train").iterdir())[:5]:
        image = Image.open(file)
        width, height = image.size
        for folder, box in (
            (whole, (0, 0, width, height)),
            (halves / "A", (0, 0, width // 2, height)),
            (halves / "B", (width // 2, 0, width, height)),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            image.crop(box).save(folder / f"{file.stem}.png")
    states = [runs.train(shallow("bicycle", path, {"data.direction": "BtoA"}, dataset="folder"), path / "run") for path in (whole, halves)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)
