"""The pairs of a run: held-out pairs stay held out, results name their split, moved data is found, and side-by-side inputs are split."""

import json

import numpy as np
import pytest
from PIL import Image

import runs
from i2i_jax import build, training
from i2i_jax.config import Config, ConfigError, from_json, override, to_json, validate
from i2i_jax.data import folder, splits

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)


def save_pairs(root, names, *, size=(16, 16)):
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(RNG.integers(0, 256, (size[0], 2 * size[1], 3), np.uint8)).save(root / f"{name}.png")
    return root


def names_of(pairs):
    return {pairs.name(index) for index in range(len(pairs))}


@pytest.fixture
def train(shallow, tmp_path):
    """Returns a function that trains pix2pix on `tmp_path / "pairs"` up to a step and returns the run's folder."""

    def train(steps: int = 1, **options):
        every = {f"train.{name}_every": 1 for name in ("checkpoint", "sample", "eval")}
        config = shallow("pix2pix", tmp_path / "pairs", every | {"train.steps": steps} | options, dataset="folder")
        runs.train(config, tmp_path / "run")
        return tmp_path / "run"

    return train


def test_what_is_held_out_stays_held_out(train, tmp_path, capsys):
    """Also when pairs are added, although a new choice of a tenth would hold out others."""
    save_pairs(tmp_path / "pairs", "abcdefghij")
    run = train()
    held_out = names_of(build.pairs(build.read_config(run), "val"))
    capsys.readouterr()
    save_pairs(tmp_path / "pairs", [f"new {i}" for i in range(60)])
    chosen_anew = names_of(build.pairs(build.read_config(run), "val"))
    assert chosen_anew & set("abcdefghij") != held_out, "the names are such that a new choice differs"
    train(steps=2)
    assert splits.read(run).val.keys() == held_out
    assert "60 pairs were added (new 0, new 1, new 10 ...); 1 pairs are held out, 69 trained on\n" in capsys.readouterr().out
    assert names_of(build.pairs(build.read_config(run), "val", held_out=held_out)) == held_out
    train(steps=3)
    assert "added" not in capsys.readouterr().out, "it was reported before"


def test_removed_and_changed_pairs_are_reported_and_remembered(train, tmp_path, capsys):
    pairs = save_pairs(tmp_path / "pairs", "abcdefghij")
    run = train()
    [held_out] = splits.read(run).val
    kept, *others = sorted(set("abcdefghij") - {held_out})
    away = {name: (pairs / f"{name}.png").read_bytes() for name in others[:2]}
    for name in away:
        (pairs / f"{name}.png").unlink()
    save_pairs(pairs, [kept], size=(16, 20))
    train(steps=2)
    assert f"2 pairs were removed ({others[0]}, {others[1]}); 1 pairs were changed ({kept})" in capsys.readouterr().out
    for name, content in away.items():
        (pairs / f"{name}.png").write_bytes(content)
    train(steps=3)
    assert set(splits.read(run).train) == {kept, *others} and set(splits.read(run).val) == {held_out}
    (pairs / f"{held_out}.png").unlink()
    with pytest.raises(folder.FolderError, match=r"none of the 1 pairs that the run holds out is there: put them back"):
        train(steps=4)


def test_pairs_that_were_trained_on_and_are_held_out_now_are_named(train, tmp_path, capsys):
    pairs = save_pairs(tmp_path / "pairs" / "train", "abcdef").parent
    run = train()
    trained_on = sorted(splits.read(run).train)
    (pairs / "val").mkdir()
    (pairs / "train" / f"{trained_on[0]}.png").rename(pairs / "val" / f"{trained_on[0]}.png")
    train(steps=2)
    assert f"1 of the 1 held-out pairs were trained on before ({trained_on[0]}): their metrics are too good" in capsys.readouterr().out


def test_names_that_are_not_valid_text_can_be_printed():
    before, now = (splits.Splits({"a": 1} | more, {"b": 1}, side_by_side=True) for more in ({}, {"\udcff": 1}))
    [line] = splits.changes(before, now)
    assert line.encode() == b"1 pairs were added ('\\udcff')"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"train": {}}', '{"train": 3, "val": {}, "side_by_side": true, "size": null}'])
def test_a_broken_record_is_none(content, tmp_path):
    (tmp_path / splits.FILE).write_text(content)
    assert splits.read(tmp_path) is None


@pytest.mark.parametrize(
    ("there", "options", "asked", "measured", "note"),
    [
        (("train",), {}, "test", "val", "measured on the val split, which also selects the best checkpoint: there is no test split"),
        (("train",), {"data.val_fraction": 0.0}, "test", "train", "measured on the training pairs: there is no test split"),
        (("train",), {"data.val_fraction": 0.0}, "val", "train", "measured on the training pairs: there is no val split"),
        (("train", "val"), {}, "test", "val", "measured on the val split"),
        (("train", "test"), {}, "test", "test", ""),
        (("train", "val"), {}, "val", "val", ""),
        (("train",), {}, "train", "train", ""),
        (("train", "test"), {}, "all", "all", ""),
    ],
)
def test_evaluate_names_what_it_measured(there, options, asked, measured, note, train, tmp_path, command):
    for split in there:
        save_pairs(tmp_path / "pairs" / split, [f"{split} {i}" for i in range(4)])
    run = train(**options)
    status, out, err = command("evaluate", f"--run={run}", f"--split={asked}", "--metrics=l1", "--inputs=9")
    assert (status, err) == (0, "")
    assert f"step 1, split {measured}, inputs " in out
    assert ("note: " + note in out) if note else ("note: " not in out)
    name = "00000001" if measured == "test" else f"00000001_{measured}"
    written = json.loads((run / "evaluation" / f"{name}.json").read_text())
    assert written["split"] == measured
    assert [bool(note)] == [bool(written["notes"])]
    if measured == "all":
        assert written["inputs"] == 8


def test_a_public_set_without_a_test_split_says_val():
    for name, split in (("maps", "val"), ("facades", "test")):
        assert build.split_used(override(Config(), {"data.name": name}), "test") == split
    assert build.split_used(Config(), "test") == "test"


def test_data_that_was_moved(train, tmp_path, command):
    """Held-out pairs are recognised by name after a move. Other pairs, of a test split or all, can be evaluated too."""
    save_pairs(tmp_path / "pairs", "abcdefghij")
    run = train()
    assert command("evaluate", f"--run={run}", "--split=val")[0] == 0
    (tmp_path / "pairs").rename(tmp_path / "moved")
    status, _, err = command("evaluate", f"--run={run}", "--split=val")
    lost = f"its folder of pairs, {tmp_path / 'pairs'}, does not exist"
    assert (status, err) == (2, f"error: --run: {run}: {lost}: give --data=DIR\n")
    assert command("evaluate", f"--run={run}", "--split=val", f"--data={tmp_path / 'moved'}")[0] == 0
    first, second = (json.loads((run / "evaluation" / f"00000001_val{suffix}.json").read_text()) for suffix in ("", "_2"))
    assert second["data"] == str(tmp_path / "moved")
    assert second["figures"] == first["figures"]
    others = save_pairs(tmp_path / "others", "xyz")
    status, _, err = command("evaluate", f"--run={run}", f"--data={others}")
    assert status == 1 and "none of the 1 pairs that the run holds out is there: put them back, or evaluate with --split=all" in err
    status, out, _ = command("evaluate", f"--run={run}", f"--data={others}", "--split=all", "--inputs=9", "--direction=BtoA")
    assert status == 0 and f"step 1, data {others}, split all, inputs 3, " in out


def test_a_packed_run_is_measured_on_a_folder(train, tmp_path, command):
    save_pairs(tmp_path / "pairs", "abcd")
    packed = tmp_path / "packed.safetensors"
    assert command("pack", f"--run={train()}", f"--out={packed}")[0] == 0
    pairs, output = f"--data={tmp_path / 'pairs'}", f"--output={tmp_path / 'report'}"
    for options, message in (
        ([output], f"--run: {packed}: it does not say where its pairs are: give --data=DIR"),
        ([pairs], f"--run: {packed} is not a folder, so the results cannot be written into it: give --output=DIR"),
        ([output, "--direction=AtoB"], "--direction applies to the pairs of --data or --real only"),
    ):
        status, _, err = command("evaluate", f"--run={packed}", *options)
        assert status == 2 and message in err, err
    status, out, err = command("evaluate", f"--run={packed}", pairs, output)
    assert (status, err) == (0, "")
    assert f"note: the val split is the pairs of {tmp_path / 'pairs'} that training would hold out: --split=all measures all pairs" in out
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text())["split"] == "val"
    assert (tmp_path / "report" / "evaluation.html").is_file()


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_side_by_side_files_are_split_when_asked_and_else_refused(direction, train, tmp_path, command):
    """They are recognised by the shape that the run was trained on, here not a square."""
    pairs = save_pairs(tmp_path / "pairs", "abcd", size=(16, 24))
    run = train(**{"data.direction": direction})
    source = pairs / "a.png"
    translate = f"--run={run}", f"--input={source}"
    status, _, err = command("translate", *translate, f"--output={tmp_path / 'refused'}")
    half = "left" if direction == "AtoB" else "right"
    shape = f"--input: {source} has the shape of the side-by-side pairs that this run was trained on"
    assert (status, err) == (2, f"error: {shape}: --pairs translates the {half} half of each, --nopairs all of it\n")
    assert not (tmp_path / "refused").exists()
    whole = np.asarray(Image.open(source))
    Image.fromarray(whole[:, :24] if direction == "AtoB" else whole[:, 24:]).save(tmp_path / "a.png")
    for name, options in {
        "halves": [*translate, "--pairs"],
        "inputs": [f"--run={run}", f"--input={tmp_path / 'a.png'}"],
        "whole": [*translate, "--nopairs"],
    }.items():
        status, _, err = command("translate", *options, f"--output={tmp_path / name}")
        assert status == 0, err
    outputs = {name: np.asarray(Image.open(tmp_path / name / "a.png")) for name in ("halves", "inputs", "whole")}
    np.testing.assert_array_equal(outputs["halves"], outputs["inputs"])
    assert outputs["whole"].shape == (16, 48, 3)
    Image.new("RGB", (47, 16)).save(tmp_path / "odd.png")
    status, _, err = command("translate", f"--run={run}", f"--input={tmp_path / 'odd.png'}", "--pairs", f"--output={tmp_path / 'odd'}")
    assert status == 1 and "odd.png: is 47 pixels wide: a side-by-side pair must have an even width" in err


def test_wide_inputs_of_two_folders_are_no_pairs(train, tmp_path, command):
    for side in "AB":
        save_pairs(tmp_path / "pairs" / side, "abcd")
    run = train()
    options = f"--run={run}", f"--input={tmp_path / 'pairs' / 'A'}", f"--output={tmp_path / 'out'}"
    assert command("translate", *options)[0] == 0
    (run / splits.FILE).unlink()  # an imported run has none
    status, out, _ = command("translate", *options)
    assert status == 0 and "a.png is twice as wide as high; if it is a side-by-side pair, --pairs translates the left half of each" in out


def test_a_folder_of_pairs_is_no_place_for_a_prepared_set(tmp_path):
    """Otherwise, fine-tuning on one's own pairs would train on the old dataset and write it among them."""
    config = override(Config(), {"data.path": str(tmp_path)})
    message = rf"^data.path is '{tmp_path}', but data.name 'shapes': data.name=folder trains on the pairs there, data.prepared_dir says"
    with pytest.raises(ConfigError, match=message):
        validate(config)
    with pytest.raises(ConfigError, match=message):
        training.train(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())
    assert validate(override(config, {"data.name": "folder"})).data.path == str(tmp_path)


def test_configs_of_older_versions_name_the_folder_of_their_prepared_set():
    old = json.loads(to_json(Config()))
    old["data"] |= {"name": "facades", "path": "/sets"}
    del old["data"]["prepared_dir"]
    config = from_json(json.dumps(old))
    assert (config.data.path, config.data.prepared_dir) == ("", "/sets")


def test_fine_tuning_on_pairs_of_ones_own(trained, tmp_path, command):
    pairs = save_pairs(tmp_path / "pairs", "abcd", size=(64, 64))
    before = sorted(pairs.iterdir())
    finetune = [f"--config=finetune:{trained('pix2pix')}", f"--workdir={tmp_path / 'new'}", f"--config.data.path={pairs}"]
    status, _, err = command("train", *finetune)
    assert status == 2 and err.count("\n") == 1 and f"data.path is '{pairs}'" in err and "data.name=folder trains on the pairs there" in err
    assert sorted(pairs.iterdir()) == before and not (tmp_path / "new").exists()
    status, out, err = command("train", *finetune, "--config.data.name=folder", "--config.train.steps=1")
    assert status == 0, err
    assert sorted(pairs.iterdir()) == before
    assert build.read_config(tmp_path / "new").data.name == "folder"
