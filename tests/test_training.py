import contextlib
import json
import signal

import jax
import numpy as np
import pytest

import runs
from i2i_jax import build, configs, training
from i2i_jax.config import ConfigError, flatten, override
from i2i_jax.storage import checkpoints, metrics_file
from i2i_jax.storage.checkpoints import named
from i2i_jax.training import Diverged, Stopped, loop
from i2i_jax.training.log import RunLog

pytestmark = pytest.mark.slow


@pytest.fixture
def stop_after(monkeypatch):
    """Sends SIGTERM once the given step is logged: seen after the step that follows."""

    def stop_after(step: int):
        write = RunLog.write

        def writing(log, at, values):
            write(log, at, values)
            if at == step:
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(RunLog, "write", writing)

    return stop_after


def rows(workdir):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in metrics_file.TIMING} for row in found]


def assert_equal(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for (path, a), b in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, shapes_dir, stop_after, capsys, shallow):
    config = shallow("bicycle", shapes_dir, {"train.steps": 5, "train.checkpoint_every": 3, "train.eval_every": 4})
    whole = runs.train(config, tmp_path / "whole")
    stop_after(2)
    with pytest.raises(Stopped, match="stopped after step 3 of 5; the same command resumes it"):
        runs.train(config, tmp_path / "parts")
    assert "resumes" not in capsys.readouterr().out
    parts = runs.train(config, tmp_path / "parts")
    assert "resumes after step 3 of 5" in capsys.readouterr().out
    assert_equal(parts, whole)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "parts")] == [1, 2, 3, 4, 5]
    grids = sorted(path.name for path in (tmp_path / "whole" / "samples").iterdir())
    assert grids == ["00000002.png", "00000004.png", "00000005.png"]
    for name in grids:
        assert (tmp_path / "parts" / "samples" / name).read_bytes() == (tmp_path / "whole" / "samples" / name).read_bytes()


def test_a_run_is_a_function_of_its_seed(tmp_path, shapes_dir, shallow):
    first, again = (runs.train(shallow("pix2pix", shapes_dir), tmp_path / name) for name in ("first", "again"))
    assert_equal(first, again)
    assert rows(tmp_path / "first") == rows(tmp_path / "again")
    other = runs.train(shallow("pix2pix", shapes_dir, {"train.seed": 1}), tmp_path / "other")
    assert rows(tmp_path / "first")[0]["generator/l1"] != rows(tmp_path / "other")[0]["generator/l1"]
    assert not np.array_equal(*(jax.tree.leaves(state.params["generator"])[0] for state in (first, other)))


def test_a_finished_run_is_not_changed(tmp_path, shapes_dir, capsys, shallow):
    config = shallow("pix2pix", shapes_dir)
    first = runs.train(config, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert_equal(runs.train(config, tmp_path), first)
    assert capsys.readouterr().out == "nothing to do: this run is at step 2 of 2; a higher train.steps continues it\n"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    longer = runs.train(shallow("pix2pix", shapes_dir, {"train.steps": 3, "train.sample_every": 1}), tmp_path)
    assert int(longer.step) == 3
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    assert build.read_config(tmp_path).train.steps == 3


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ({"train.steps": 2}, {"train.steps": 6}, "the learning rate goes from 1.0e-04 to 2.0e-04, since train.steps is 6 and no longer 2"),
        ({"train.steps": 2, "optimizer.decay_fraction": 0.0}, {"train.steps": 6, "optimizer.decay_fraction": 0.0}, None),
        ({"train.steps": 6}, {"train.steps": 6}, None),  # it falls from step to step as it should
    ],
)
def test_a_learning_rate_that_rises_again_is_reported(first, then, said, tmp_path, shapes_dir, capsys, shallow, stop_after, monkeypatch):
    every = {f"train.{name}_every": 6 for name in ("sample", "checkpoint", "eval")}
    stop_after(3)
    with contextlib.suppress(Stopped):
        runs.train(shallow("pix2pix", shapes_dir, every | first), tmp_path / "run")
    capsys.readouterr()
    monkeypatch.undo()
    runs.train(shallow("pix2pix", shapes_dir, every | then), tmp_path / "run")
    out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("the learning rate")]
    way = f"--config=finetune:{tmp_path / 'run'} --config.optimizer.learning_rate=RATE --workdir=NEW starts another run with its networks"
    assert out == ([f"{said}; to choose it, {way}"] if said else [])


def test_a_refusal_names_the_command_for_another_learning_rate(tmp_path, trained, shapes_dir):
    run = trained("pix2pix")
    config = runs.tiny("pix2pix", shapes_dir, {"optimizer.learning_rate": 1e-5})
    way = f"--config=finetune:{run} --config.optimizer.learning_rate=1e-05 --workdir=NEW starts another run with its networks"
    with pytest.raises(ConfigError) as refused:
        runs.train(config, run)
    assert str(refused.value).endswith(f"name another --workdir; {way}")
    tuned = override(configs.read(f"finetune:{run}"), {"optimizer.learning_rate": 1e-5, "train.steps": 1})
    assert int(runs.train(tuned, tmp_path / "new").step) == 1


FORMS = {
    "input": ({"data.input_channels": 1}, "data.input_channels is 1, but 3 in train.start_from RUN"),
    "target": ({"data.target_channels": 1}, "data.target_channels is 1, but 3 in train.start_from RUN"),
    "width": ({"model.width": 4}, "model.width is 4, but 2 in train.start_from RUN"),
    "norm": ({"model.norm": "batch", "train.adapt_channels": True}, "model.norm is 'batch', but 'instance' in train.start_from RUN"),
}


@pytest.mark.parametrize("form", FORMS)
def test_networks_that_do_not_fit_are_refused_by_the_option_that_differs(form, tmp_path, trained):
    options, message = FORMS[form]
    run = trained("bicycle")
    config = override(configs.read(f"finetune:{run}"), {"eval.best_metric": "l1", **options})
    [(name, old)] = [(name, flatten(build.read_config(run))[name]) for name in options if name != "train.adapt_channels"]
    anew = "; train.adapt_channels=True reinitialises the layers that depend on the channels" if "channels" in name else ""
    with pytest.raises(ConfigError) as refused:
        runs.train(config, tmp_path / "new")
    assert str(refused.value) == message.replace("RUN", str(run)) + f": its networks fit --config.{name}={old} only{anew}"


@pytest.mark.parametrize(
    ("channels", "new"),
    [
        ("input", {"generator.down_0.kernel"}),
        ("target", {"generator.up_0.kernel", "generator.up_0.bias", "encoder.first.kernel"}),
    ],
)
def test_layers_of_other_channels_are_initialized_again(channels, new, tmp_path, trained, capsys):
    """All other layers are those of the old run, bit for bit, and the new ones are listed."""
    run = trained("bicycle")
    options = {f"data.{channels}_channels": 1, "train.adapt_channels": True, "eval.best_metric": "l1"}
    config = override(configs.read(f"finetune:{run}"), options)
    fresh = build.game(config).init(jax.random.key(0), build.example_batch(config))
    state = build.start_from(config, fresh)
    line = capsys.readouterr().out.splitlines()[-1]
    said = set(line.split("new: ")[1].split(", "))
    assert {name for name in said if not name.startswith("discriminator")} == new
    assert len(said - new) == 6, "the first kernel of two discriminators at three scales each"
    _, old = build.load(run, networks=None)
    theirs, before, after = ({name[len("params.") :]: leaf for name, leaf in named(of).items() if name.startswith("params.")}
                             for of in (old, fresh, state))  # fmt: skip
    for name, leaf in after.items():
        np.testing.assert_array_equal(leaf, before[name] if name in said else theirs[name], err_msg=name)
    assert len(said) < len(after) / 4


def test_a_run_of_another_config_is_refused_before_anything_is_read(tmp_path, trained, shapes_dir):
    workdir = trained("bicycle")
    written = (workdir / "config.json").read_text()
    for options, message in (
        ({"model.width": 4}, "model.width 2, not 4"),
        ({"data.name": "folder", "data.path": "/nowhere", "eval.best_metric": "l1"}, "data.name 'shapes', not 'folder'"),
        ({"objective": "cvae_gan"}, "objective 'bicycle_gan', not 'cvae_gan'"),
    ):
        with pytest.raises(ConfigError, match=message):
            runs.train(runs.tiny("bicycle", shapes_dir, options), workdir)
    assert (workdir / "config.json").read_text() == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json: not JSON: "),
        ('{"objective": "bicycle"}', "config.json: unknown objective 'bicycle': one of .* .did you mean 'bicycle_gan'"),
        ('{"modle": {}}', "config.json: unknown option modle .did you mean 'model'"),
        ('{"train": {"steps": "many"}}', "config.json: train.steps is 'many': must be int"),
        ("[]", "config.json: config is .*: must be an object"),
        (b"\xff\xfe", "config.json: "),
    ],
)
def test_a_damaged_config_file_is_named(tmp_path, text, message, shapes_dir):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message) as refused:
        runs.train(runs.tiny("bicycle", shapes_dir), tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path, shapes_dir):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="has checkpoints but no config.json"):
        runs.train(runs.tiny("bicycle", shapes_dir), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file"):
        runs.train(runs.tiny("bicycle", shapes_dir), tmp_path / "file")


def test_divergence_ends_training_and_keeps_the_last_finite_checkpoint(tmp_path, shapes_dir, monkeypatch, shallow):
    every = {"train.steps": 6, "train.checkpoint_every": 2, "train.eval_every": 6, "train.sample_every": 6}
    config = shallow("bicycle", shapes_dir, every)
    step_of = loop.training_step

    def poisoned(*arguments):
        step = step_of(*arguments)

        def poison(state, batch, key):
            state, losses = step(state, batch, key)
            l1 = losses.generator["l1"] * np.float32(np.nan if int(state.step) >= 3 else 1)
            return state, losses._replace(generator={**losses.generator, "l1": l1})

        poison.lower = step.lower
        return poison

    monkeypatch.setattr(loop, "training_step", poisoned)
    with pytest.raises(Diverged, match="generator/l1 is nan at step 3; the checkpoint of step 2 is the last good one"):
        runs.train(config, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal()) == ["2"]
    assert "NaN or Inf at step 3: generator/l1" in (tmp_path / "index.html").read_text()
    monkeypatch.undo()
    assert int(runs.train(config, tmp_path).step) == 6
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_learning_rate_that_is_too_high_diverges(tmp_path, shapes_dir, shallow):
    with pytest.raises(Diverged, match=r"is (nan|inf|not finite) at step \d; .* a lower optimizer.learning_rate may help") as stopped:
        runs.train(shallow("pix2pix", shapes_dir, {"train.steps": 5, "optimizer.learning_rate": 1e38}), tmp_path)
    assert "\n" not in str(stopped.value)


def test_pmap_trains_as_shard_map_does(tmp_path, shapes_dir, shallow):
    states = {}
    for mode in ("shard_map", "pmap"):
        options = {"data.batch_size": 8, "train.parallel": mode}
        states[mode] = training.train(shallow("pix2pix", shapes_dir, options), tmp_path / mode)
    assert len(states["pmap"].step.sharding.device_set) == 8
    assert_equal(states["pmap"], states["shard_map"])
    assert rows(tmp_path / "pmap") == rows(tmp_path / "shard_map")


def test_val_fraction_0_evaluates_on_the_training_pairs(tmp_path, shallow):
    from PIL import Image

    (tmp_path / "pairs").mkdir()
    Image.new("RGB", (128, 64), "red").save(tmp_path / "pairs" / "one.png")
    state = runs.train(shallow("pix2pix", tmp_path / "pairs", {"data.val_fraction": 0.0}, dataset="folder"), tmp_path / "run")
    assert int(state.step) == 2
    assert (tmp_path / "run" / "samples" / "00000002.png").exists()


@pytest.mark.parametrize(
    ("name", "metrics", "best_metric", "choose"),
    [("pix2pix", "", "modes", max), ("segmenter", "l1,squeezenet_caffe,segmentation", "squeezenet_caffe", min),
     ("segmenter", "l1,psnr,segmentation", "psnr", max)],
)  # fmt: skip
def test_the_best_checkpoint_is_kept(tmp_path, shapes_dir, trained, request, name, metrics, best_metric, choose):
    options = {"train.steps": 4, "train.eval_every": 1, "train.keep": 1, "eval.best_metric": best_metric, "train.sample_every": 4}
    if metrics:
        weights = request.getfixturevalue("shared") / "weights"
        options |= {"eval.metrics": metrics, "eval.pretrained_dir": str(weights), "eval.segmenter": str(trained("segmenter"))}
    runs.train(runs.tiny(name, shapes_dir, options), tmp_path)
    figures = {row["step"]: row[f"eval/{best_metric}"] for row in rows(tmp_path)}
    assert not metrics or len({*figures.values()}) > 1
    best = choose(figures, key=lambda step: (figures[step], step if choose is max else -step))
    kept = checkpoints.Checkpoints(tmp_path / "checkpoints", keep=1, best_metric=best_metric, higher_is_better=choose is max)
    assert kept.best() == best
    assert kept.latest() == 4
    kept.close()


def test_a_run_writes_a_table_of_its_parameters(trained):
    run = trained("bicycle")
    text = (run / "parameters.txt").read_text()
    _, state = build.load(run, networks=None)
    for name, params in state.params.items():
        assert f"{name}\n+--" in text
        assert f"Total: {sum(leaf.size for leaf in jax.tree.leaves(params)):,} -- " in text
    assert "Parameters" in (run / "index.html").read_text() and "conv" in text.lower()
