"""The command line: its output, and its errors for wrong usage."""

import importlib.metadata
import subprocess
import sys

import pytest
from PIL import Image

import runs
from i2i_jax import config
from i2i_jax.__main__ import COMMANDS, main

BICYCLE = f"--config={runs.CONFIGS / 'bicycle.py'}"
FOLDER = BICYCLE + ":folder"


def side_by_side(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (128, 64), "red").save(folder / name)
    return folder


def assert_one_line(answer, status, *parts):
    """Checks that stderr is a single error line that contains all `parts`."""
    code, _, err = answer
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err, err
    assert code == status


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([], ["no --config"]),
        (["--config=bycicle"], ["no file bycicle and no config of this name: one of bicycle, bicycle_tuned", "did you mean 'bicycle'"]),
        (["--config=configs/bycicle.py"], ["there is no file configs/bycicle.py", "did you mean 'bicycle'"]),
        (["--config=elsewhere/bicycle.py:facades", "--config.train.steps=3"], ["no file elsewhere/bicycle.py: --config=bicycle would do"]),
        (["--config=bicycle:facade"], ["unknown dataset 'facade'", "did you mean 'facades'"]),
        (["--config=finetune"], ["--config=finetune:RUN names the run"]),
        ([BICYCLE + ":facade"], ["unknown dataset 'facade'", "did you mean 'facades'"]),
        ([BICYCLE, "--config.train.stpes=3"], ["unknown option --config.train.stpes", "did you mean 'config.train.steps'"]),
        ([BICYCLE, "--config.steps", "3"], ["unknown option --config.steps"]),
        ([BICYCLE, "--wordkir=x"], ["wordkir", "workdir"]),
        ([BICYCLE, "--config.train.steps=many"], ["config.train.steps", "many"]),
        ([BICYCLE, "--config.train.steps=1.5"], ["config.train.steps", "1.5"]),
        ([BICYCLE, "--config.data.max_pairs=few"], ["config.data.max_pairs", "few"]),
        ([BICYCLE, "--config.data.flip=perhaps"], ["config.data.flip", "perhaps"]),
        ([BICYCLE, "--config.optimizer.learning_rate=nan"], ["optimizer.learning_rate is nan: must be at least 0"]),
        ([BICYCLE, "--config.train.steps=0"], ["train.steps is 0: must be at least 1"]),
        ([BICYCLE, "--config.data.val_fraction=0.9"], ["data.val_fraction is 0.9: must be from 0 to 0.5"]),
        ([BICYCLE, "--config.data.crop_size=128"], ["data.load_size 64 is smaller than data.crop_size 128"]),
        ([BICYCLE, "--config.data.batch_size=3"], ["data.batch_size is 3", "must be a multiple of 2"]),
        ([BICYCLE, "--config.model.generator=unet"], ["unknown model.generator 'unet': one of unet_64"]),
        ([BICYCLE, "--config.eval.best_metric=fid"], ["eval.best_metric is 'fid', which this run does not measure: one of l1, psnr"]),
        ([BICYCLE, "--config.eval.metrics=l1,pnsr"], ["unknown metric 'pnsr': one of l1", "did you mean 'psnr'"]),
        ([BICYCLE, "--config.eval.metrics=squeezenet_caffe"], ["eval.best_metric is 'total_variation'", "squeezenet_caffe would do"]),
        ([FOLDER, "--config.data.batch_size=16"], ["data.path is empty", "--config.data.path=DIR"]),
        ([BICYCLE, "steps=3"], ["unexpected argument 'steps=3'"]),
    ],
    ids=lambda value: value[0] if value else None,
)
def test_wrong_usage(command, tmp_path, options, parts):
    answer = command("train", f"--workdir={tmp_path / 'run'}", *options)
    assert_one_line(answer, 2, *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("def get_config(:\n", "config.py"),
        ("import no_such_module\n", "no_such_module"),
        ("from i2i_jax.presets import pix2pix\n", "get_config"),
        ("def get_config():\n    return 1 / 0\n", "division by zero"),
        ("def get_config():\n    return 3\n", "gives a int: must be a Config"),
    ],
)
def test_a_config_file_that_is_none(command, tmp_path, text, part):
    (tmp_path / "config.py").write_text(text)
    answer = command("train", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}")
    assert_one_line(answer, 2, part)


def test_data_that_cannot_be_used(command, tmp_path):
    def answer(path, *options):
        return command(
            "train", FOLDER, f"--workdir={tmp_path / 'run'}", f"--config.data.path={path}", "--config.data.batch_size=16", *options
        )

    assert_one_line(answer(tmp_path / "none"), 1, str(tmp_path / "none"), "no such folder")
    (tmp_path / "empty").mkdir()
    assert_one_line(answer(tmp_path / "empty"), 1, str(tmp_path / "empty"), "has no image files")

    corrupt = side_by_side(tmp_path / "corrupt", "a.png", "b.png")
    (corrupt / "b.png").write_bytes(b"no image")
    assert_one_line(answer(corrupt), 1, str(corrupt / "b.png"), "is not an image")

    unpaired = tmp_path / "unpaired"
    side_by_side(unpaired / "A", "1.png", "2.png"), side_by_side(unpaired / "B", "1.png")
    assert_one_line(answer(unpaired), 1, str(unpaired), "'2' in one folder only (1 of 2 names)")

    differs = tmp_path / "differs"
    side_by_side(differs / "A", "1.png", "2.png"), side_by_side(differs / "B", "1.png", "2.png")
    Image.new("RGB", (128, 65)).save(differs / "B" / "1.png")
    assert_one_line(answer(differs), 1, str(differs / "B" / "1.png"), "is 128x65: must be of one size")
    assert not (tmp_path / "run").exists()


def test_run_folders_that_cannot_be_used(command, tmp_path, trained):
    (tmp_path / "file").touch()
    sixteen = "--config.data.batch_size=16"
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        assert_one_line(command("train", BICYCLE, sixteen, f"--workdir={workdir}"), 2, f"{tmp_path / 'file'} is a file")
    run = trained("pix2pix")
    assert_one_line(
        command("train", BICYCLE, sixteen, f"--workdir={run}"), 2, f"{run} is a run with objective 'pix2pix', not 'bicycle_gan'"
    )
    (tmp_path / "config.json").write_text("{")
    assert_one_line(command("train", BICYCLE, sixteen, f"--workdir={tmp_path}"), 2, f"{tmp_path / 'config.json'}: not JSON")


def test_commands_are_listed(monkeypatch, capsys):
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        monkeypatch.setattr(sys, "argv", ["i2i", *arguments])
        main()
        out = capsys.readouterr().out
        assert all(name in out for name in COMMANDS)
    monkeypatch.setattr(sys, "argv", ["i2i", "tarin"])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    assert capsys.readouterr().err == f"error: unknown command 'tarin' (did you mean 'train'?): one of {', '.join(COMMANDS)}\n"


@pytest.mark.parametrize("arguments", [["i2i_jax.main"], *(["i2i_jax", name] for name in COMMANDS)], ids=lambda value: value[-1])
def test_help_comes_without_waiting_for_jax(arguments):
    command = [sys.executable, "-X", "importtime", "-m", *arguments, "--help"]
    done = subprocess.run(command, cwd=runs.CONFIGS.parent, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "absl.flags" in imported
    assert not imported & {"jax", "numpy", "flax", "grain", "tensorflow_datasets"}
    name = arguments[-1] if len(arguments) > 1 else "train"
    assert f"python -m i2i_jax {name} " in done.stdout
    assert f"\ni2i {name} " in done.stdout, "no example"
    assert "configs/" not in done.stdout, "an installed wheel has no configs/ folder"
    expected = {"train": "--config ", "translate": "--samples      Translations of each input. (default: 1)"}
    assert expected.get(name, "") in done.stdout


def test_config_shows_every_option_with_its_comment(command):
    status, out, err = command("config", f"{runs.CONFIGS / 'bicycle.py'}")
    assert (status, err) == (0, "")
    options = [line for line in out.splitlines() if line.startswith("--")]
    values = config.flatten(runs.get_config("bicycle"))
    assert options == [f"--config.{name}={value}" for name, value in values.items()]
    assert "--config.model.width=16\n    int; default 64; at least 1\n    channels of the generator's first layer, and" in out
    assert "--config.update=simultaneous\n    str; one of simultaneous, alternating\n    simultaneous: all networks step at once" in out
    _, facades, _ = command("config", f"{runs.CONFIGS / 'pix2pix.py'}:facades")
    assert "--config.data.direction=BtoA\n" in facades
    assert command("config", "pix2pix:facades") == (0, facades, "")


def test_config_ends_quietly_where_nobody_reads_on():
    """As in `i2i config bicycle | head`."""
    command = [sys.executable, "-m", "i2i_jax", "config", str(runs.CONFIGS / "bicycle.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_config_of_what_is_none(command, tmp_path):
    (tmp_path / "config.py").write_text("def get_config():\n    return 1 / 0\n")
    (tmp_path / "three.py").write_text("def get_config():\n    return 3\n")
    for options, part in (
        ([], "name one config, for example bicycle or pix2pix:facades: one of bicycle, bicycle_tuned"),
        (["bycicle"], "no config of this name: one of bicycle, bicycle_tuned"),
        (["elsewhere/bicycle.py"], "there is no file elsewhere/bicycle.py: bicycle would do"),
        ([f"{runs.CONFIGS / 'bicycle.py'}:facade"], "unknown dataset 'facade'"),
        ([str(tmp_path / "config.py")], "division by zero"),
        ([str(tmp_path / "three.py")], "gives a int: must be a Config"),
    ):
        assert_one_line(command("config", *options), 2, part)


def test_options_reach_the_run(command, tmp_path, shapes_dir, monkeypatch):
    from i2i_jax import training

    given = {}
    monkeypatch.setattr(training, "train", lambda config, workdir, command: given.update(config=config, workdir=workdir, command=command))
    options = {"train.steps": 7, "data.max_pairs": 5, "data.flip": False, "optimizer.learning_rate": 1, "model.encoder_width": 3}
    status, out, err = command("train", BICYCLE, f"--workdir={tmp_path}", *runs.as_flags(options))
    assert (status, err) == (0, "")
    assert out.splitlines() == [f"run folder: {tmp_path}", f"done: open {tmp_path / 'index.html'}"]
    found = given["config"]
    assert (found.train.steps, found.data.max_pairs, found.data.flip, found.model.encoder_width) == (7, 5, False, 3)
    assert found.optimizer.learning_rate == 1.0
    assert given["command"].startswith(f"i2i train {BICYCLE} --workdir={tmp_path} --config.train.steps=7")


def test_the_default_run_folder_is_the_same_for_a_name_and_its_file(command, monkeypatch):
    from i2i_jax import training

    given = []
    monkeypatch.setattr(training, "train", lambda config, workdir, command: given.append((str(workdir), config)))
    assert [command("train", option)[0] for option in (BICYCLE, "--config=bicycle", "--config=bicycle:shapes")] == [0, 0, 0]
    assert given == [("runs/bicycle-shapes", runs.get_config("bicycle"))] * 3


def test_a_name_means_the_same_wherever_files_are(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bicycle").mkdir()
    (tmp_path / "pix2pix").write_text("no config")
    (tmp_path / "mine.py").write_text("from i2i_jax.configs.pix2pix import get_config\n")
    _, expected, _ = command("config", str(runs.CONFIGS / "pix2pix.py"))
    assert command("config", "pix2pix") == command("config", "mine.py") == (0, expected, "")
    assert command("config", "bicycle")[0] == 0


def test_the_version_is_that_of_the_installation(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["i2i", "--version"])
    monkeypatch.setattr(importlib.metadata, "version", {"i2i-jax": "1.2.3"}.get)
    main()
    assert capsys.readouterr().out == "i2i_jax 1.2.3\n"


@pytest.mark.slow
def test_a_true_process(tmp_path):
    """A real process prints one line on stderr and no messages of the libraries."""
    train = [sys.executable, "-m", "i2i_jax.main", f"--workdir={tmp_path / 'run'}"]
    for options, status, part in (
        ([BICYCLE, "--config.train.steps=x"], 2, "config.train.steps"),
        ([FOLDER, "--config.data.batch_size=16", f"--config.data.path={tmp_path / 'none'}"], 1, f"{tmp_path / 'none'}: no such folder"),
    ):
        done = subprocess.run([*train, *options], cwd=runs.CONFIGS.parent, capture_output=True, text=True)
        assert_one_line((done.returncode, done.stdout, done.stderr), status, part)


def test_evaluate_and_translate_name_the_run(command, tmp_path):
    for name, *options in (("evaluate",), ("translate", f"--input={tmp_path}", f"--output={tmp_path / 'out'}")):
        assert_one_line(
            command(name, f"--run={tmp_path / 'none'}", *options), 2, f"{tmp_path / 'none'} is not a run: it has no config.json"
        )
        assert_one_line(command(name, *options), 2, "--run")
    assert not (tmp_path / "out").exists()
