"""One command trains on any number of devices: on as many as divide the batch, with a message if that is not all of them."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import runs
from i2i_jax import build, training
from i2i_jax.config import DATASETS, Config, ConfigError, override
from i2i_jax.data.loader import RawBatch
from i2i_jax.devices import parallel
from i2i_jax.training import pieces

COUNTS = (1, 2, 3, 4, 6, 8, 16)
SYSTEMS = ("bicycle", "cae_gan", "clr_gan", "cvae_gan", "pix2pix", "pix2pix_noise", "segmenter")
HALVES = ("bicycle", "cae_gan", "clr_gan", "cvae_gan")


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_preset_uses_as_many_devices_as_divide_its_batch(name, dataset, capsys):
    config = runs.get_config(name, dataset)
    least, size = 2 if name in HALVES else 1, config.data.batch_size
    for count in COUNTS:
        mesh = pieces.mesh_of(config, jax.devices()[:count])
        usable = [number for number in range(1, count + 1) if size % number == 0 and size // number % least == 0]
        assert mesh.size == max(usable)
        message = capsys.readouterr().out
        if mesh.size == count:
            assert not message
        else:
            assert message.startswith(f"trains on {mesh.size} of {count} devices, since data.batch_size is {size}: data.batch_size=")
            config_for_all = override(runs.get_config(name, dataset), {"data.batch_size": int(message.split("=")[1].split()[0])})
            assert pieces.mesh_of(config_for_all, jax.devices()[:count]).size == count


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_preset_trains_two_steps_on_any_number_of_devices(name, shallow):
    """The step is compiled once for each number of devices in use."""
    batch_size = runs.get_config(name).data.batch_size
    config = shallow(name, "", {"data.batch_size": batch_size, "model.discriminator_width": 2})
    meshes = {count: pieces.mesh_of(config, jax.devices()[:count]) for count in COUNTS}
    states = {size: two_steps(config, parallel.make_mesh(jax.devices()[:size])) for size in {mesh.size for mesh in meshes.values()}}
    for mesh in meshes.values():
        assert int(states[mesh.size].step) == 2
        for leaf in jax.tree.leaves(states[mesh.size].params):
            assert np.isfinite(leaf).all()
            assert leaf.sharding.device_set == set(mesh.devices.flat)


def two_steps(config: Config, mesh: Mesh):
    data, key, rng = config.data, jax.random.key(0), np.random.default_rng(0)
    game = build.game(config)
    step = pieces.training_step(config, game, mesh)
    state = parallel.jit_replicated(lambda key: game.init(key, build.example_batch(config)), key, mesh=mesh)
    rows = parallel.local_rows(data.batch_size, mesh)
    shape = (data.batch_size, data.load_size, data.load_size)
    channels = (data.input_channels, data.target_channels)
    images = [rng.integers(0, 256, (*shape, c), np.uint8)[rows] for c in channels]
    for _ in range(2):
        state, _ = step(state, parallel.global_batch(RawBatch(*images, rows.astype(np.int32)), mesh), key)
    return state


@pytest.mark.slow
def test_a_run_resumes_with_more_or_fewer_devices(tmp_path, shapes_dir, shallow, capsys):
    rarely = {"train.eval_every": 9, "train.sample_every": 9, "train.checkpoint_every": 9}
    for step, devices in enumerate((8, 3, 6, 16), start=1):
        config = shallow("pix2pix", shapes_dir, {"data.batch_size": 48, "train.steps": step} | rarely)
        state = training.train(config, tmp_path, devices=jax.devices()[:devices])
        assert int(state.step) == step
        assert len(state.step.sharding.device_set) == devices
        assert (f"resumes after step {step - 1} of {step}" in capsys.readouterr().out) == (step > 1)


def test_several_processes_need_all_their_devices(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    config = override(runs.get_config("bicycle"), {"data.batch_size": 12})
    refusal = r"^data.batch_size 12 does not divide over the 8 devices of all processes: 16 does$"
    with pytest.raises(ConfigError, match=refusal):
        pieces.mesh_of(config, jax.devices()[:8])
    assert pieces.mesh_of(config, jax.devices()[:6]).size == 6
