"""A run of version 0.2, with its names of options, networks and terms: config, checkpoint, packed model, rows and commands still load."""

import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

import runs
from i2i_jax import build
from i2i_jax import config as configs
from i2i_jax.config import ConfigError, current_name
from i2i_jax.storage.metrics_file import parse_row

ARCHIVE = Path(__file__).parent / "data/run_of_version_0.2.tar.gz"
NETWORKS = {"generator", "encoder", "discriminator", "discriminator_prior"}


@pytest.fixture
def old(tmp_path) -> Path:
    """A folder with the run and its packed model."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_current_names():
    assert current_name("weights.gan_lr") == "weights.gan_prior"
    assert current_name("eval.weights") == "eval.pretrained_dir"
    assert current_name("params.discriminator_lr.scale_0.conv.kernel") == "params.discriminator_prior.scale_0.conv.kernel"
    assert current_name("discriminator/gan_lr") == "discriminator/gan_prior"
    for name in (*configs.flatten(configs.Config()), "params.generator.in.kernel", "generator/gan_prior", "eval/l1"):
        assert current_name(name) == name


def test_config_loads(old):
    assert b'"gan_lr": 1.5' in (old / "run/config.json").read_bytes()
    config = build.read_config(old / "run")
    assert (config.weights.gan_prior, config.eval.pretrained_dir) == (1.5, "weights")


def test_checkpoint_and_packed_model_have_the_same_parameters(old):
    (_, state), (_, packed) = (build.load(path, networks=None) for path in (old / "run", old / "packed.safetensors"))
    assert set(state.params) == NETWORKS
    assert packed.params.keys() <= NETWORKS
    for name, params in packed.params.items():
        jax.tree.map(np.testing.assert_array_equal, params, state.params[name])


def test_rows_have_current_names(old):
    rows = [parse_row(line) for line in (old / "run/metrics.jsonl").read_bytes().splitlines()]
    assert all({"generator/gan_prior", "discriminator/gan_prior"} <= row.keys() for row in rows)
    assert not any("gan_lr" in name for row in rows for name in row)


def test_old_options_on_the_command_line_and_in_a_config_file(command, tmp_path):
    status, _, err = command("train", "--config=bicycle", "--config.eval.weights=weights", "--config.weights.gan_lr=-2")
    assert (status, err) == (2, "error: weights.gan_prior is -2.0: must be at least 0\n")
    written = "from i2i_jax.presets import bicycle_family\ndef get_config():\n    config = bicycle_family('bicycle_gan', 'shapes')\n"
    (tmp_path / "old.py").write_text(f"{written}    config.weights.gan_lr = 7.0\n    config.eval.weights = 'here'\n    return config\n")
    status, out, _ = command("config", str(tmp_path / "old.py"))
    assert status == 0 and "--config.weights.gan_prior=7.0\n" in out and "--config.eval.pretrained_dir=here\n" in out
    (tmp_path / "wrong.py").write_text(f"{written}    config.weights.gan_pior = 7.0\n    return config\n")
    assert "unknown option gan_pior of WeightsConfig (did you mean 'gan_prior'?)" in command("config", str(tmp_path / "wrong.py"))[2]
    with pytest.raises(ConfigError, match="unknown option steps of DataConfig"):
        configs.Config().data.steps = 3


@pytest.mark.slow
def test_training_resumes(old, shapes_dir):
    """With the optimizers' moments: restoring verifies the checksum of every array and refuses missing ones."""
    run = old / "run"
    config = configs.override(build.read_config(run), {"train.steps": 3, "data.prepared_dir": str(shapes_dir)})
    state = runs.train(config, run)
    assert int(state.step) == 3 and set(state.opt_state) == NETWORKS
    assert '"gan_prior": 1.5' in (run / "config.json").read_text()
    assert "gan_lr" not in (run / "index.html").read_text().split("<pre>i2i train")[0]
