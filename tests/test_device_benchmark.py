"""The benchmark of one accelerator: its parts fail and end alone, its report, and a rehearsal of all of it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("device", ROOT / "benchmarks" / "device.py")
device = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(device)

MODEL = """
import torch

class {name}:
    model_names = ["G"]

    def __init__(self, options):
        self.netG = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.optimizer = torch.optim.SGD(self.netG.parameters(), options.lr)

    def set_input(self, images):
        self.input, self.target = images["A"], images["B"]

    def optimize_parameters(self):
        self.optimizer.zero_grad()
        (self.netG(self.input) - self.target).abs().mean().backward()
        self.optimizer.step()
"""
MODELS = {"bicycle_gan": "BiCycleGANModel", "pix2pix": "Pix2PixModel"}


def python(code: str, *, writes: str = "") -> "device.Part":
    return device.Part("part", 60, [sys.executable, "-c", code], writes)


def test_a_part_gives_its_results(tmp_path):
    files = {"x.json": '{"results": [1]}', "x.md": "|t|"}
    code = f"import pathlib; [pathlib.Path({str(tmp_path)!r}, name).write_text(text) for name, text in {files}.items()]"
    done = device.outcome(python(code, writes="x"), 60, tmp_path)
    assert (done.state, done.results, done.table) == ("done", [1], "|t|")


def test_a_part_that_fails_says_why_and_gives_nothing(tmp_path):
    (tmp_path / "x.json").write_text('{"results": [1]}')  # of before
    failed = device.outcome(python("print('first'); raise SystemExit('no | GPU')", writes="x"), 60, tmp_path)
    assert failed.state == "failed with status 1: no | GPU"
    assert failed.results is None and failed.log.startswith("first")
    assert "| part | " in device.report({"part": failed}, False) and "no / GPU |" in device.report({"part": failed}, False)


def test_a_part_without_time_is_not_begun(tmp_path):
    assert device.outcome(python("raise SystemExit(1)"), 1, tmp_path).state == "not begun: no time was left"


@pytest.mark.parametrize(
    ("signals", "ends_well", "state"),
    [("", False, "ended after 0 s"), ("", True, "done"), ("signal.signal(signal.SIGTERM, signal.SIG_IGN); ", True, "killed after 0 s")],
)
def test_a_part_that_takes_too_long_is_ended(signals, ends_well, state, monkeypatch):
    monkeypatch.setattr(device, "GRACE", 0.2 if signals else 60)
    code = f"import signal; {signals}print('ready', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout.readline() == b"ready\n"
        assert device._ended(process, 0.01, ends_well) == state


def test_goals_are_shares_and_ratios():
    seconds = {"PyTorch": [3.0, 4.0, 5.0], "PyTorch, compiled, bfloat16": [2.0] * 3, device.OURS: [1.0, 1.0, 9.0]}
    outcomes = {
        "step_bicycle_256_64": device.Outcome("step", 1.0, "done", {"bicycle_256_64": {"share_of_peak": 0.25}}, "", ""),
        "versus_bicycle_gan": device.Outcome("versus_bicycle_gan", 1.0, "done", {"seconds": seconds}, "", ""),
        "versus_pix2pix": device.Outcome("versus_pix2pix", 1.0, "killed after 9 s", None, "", ""),
    }
    assert [(found, wanted) for _, found, wanted in device.goals(outcomes)] == [(0.25, 0.4), (4.0, 2.0), (2.0, 1.2), (None, 3.0)]


def prepared(folder: Path) -> list[str]:
    """The options of a rehearsal on a few random pairs, with stand-ins for the public code."""
    random = np.random.default_rng(0)
    (folder / "pairs").mkdir()
    for i in range(4):
        Image.fromarray(random.integers(0, 256, (64, 128, 3), np.uint8)).save(folder / f"pairs/{i}.jpg")
    for system, clone in device.REFERENCES.items():
        models = folder / "references" / clone / "models"
        models.mkdir(parents=True)
        (models / f"{system}_model.py").write_text(MODEL.format(name=MODELS[system]))
    return [f"--data={folder / 'pairs'}", f"--references={folder / 'references'}", f"--output={folder / 'output'}"]


@pytest.mark.slow
def test_a_rehearsal_does_every_part(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    environment = os.environ | {"PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]), "XLA_FLAGS": ""}
    command = ["bash", "benchmarks/device.sh", "--rehearse", "--minutes=60", *prepared(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    report = json.loads((tmp_path / "output/report.json").read_text())
    assert {part["name"]: part["state"] for part in report["parts"]} == dict.fromkeys(
        ("environment", "versus_bicycle_gan", "versus_pix2pix", "step_quickstart", "agreement", "data", "translate", "training"), "done"
    ), done.stdout + done.stderr
    assert done.returncode == 0
    results = {part["name"]: part["results"] for part in report["parts"]}
    assert results["agreement"]["pix2pix"]["float32"]["generator"] < 1e-6 < results["agreement"]["pix2pix"]["bfloat16"]["generator"]
    assert results["step_quickstart"]["quickstart"]["operations"] > 0
    assert set(results["versus_pix2pix"]["seconds"]) == {"PyTorch", "PyTorch, bfloat16", "ours, bfloat16"}
    assert {path.name for path in (tmp_path / "output").iterdir()} == {"report.md", "report.json", "samples.png", "metrics.jsonl"}


def test_wrong_options_are_one_line(tmp_path):
    command = ["bash", str(ROOT / "benchmarks/device.sh"), "--data=nowhere", f"--output={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "device.sh: error: --data is nowhere: no such folder"


def test_a_run_that_fails_ends_the_comparison(tmp_path):
    code = "import timing, functools\nif __name__ == '__main__': timing.in_turns({'theirs': functools.partial(int, 'x')}, rounds=1)"
    (tmp_path / "compare.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    done = subprocess.run([sys.executable, tmp_path / "compare.py"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "invalid literal" in done.stderr and done.stderr.splitlines()[-1] == "theirs failed"
