"""The demo: a page of translations by a model of the package, without training or downloads."""

import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image, ImageSequence

from i2i_jax.data import shapes
from i2i_jax.inference import demo
from i2i_jax.pages.demo import Section, write_demo


def test_inputs_of_other_seeds_differ():
    for name, size in (("facades", 128), ("shapes", 64)):
        inputs = np.concatenate([demo._drawn(name, seed) for seed in range(3)])
        assert inputs.shape == (3 * demo.INPUTS, size, size, 3)
        assert len({picture.tobytes() for picture in inputs}) == len(inputs)


def test_the_page_escapes_and_links(tmp_path):
    sections = [Section("<b>", "&", ["input", "1"], [[tmp_path / "a b.png", tmp_path / "c.png"], [None, tmp_path / "d.png"]])]
    sections.append(Section("walk", "", [], [[tmp_path / "walk.gif"]]))
    page = write_demo(tmp_path, sections, title="<t>", introduction="<i>", next_steps=[("Do", "i2i <x>")])
    text = page.read_text()
    assert page == tmp_path / "index.html" and "<b>" not in text and "&lt;b&gt;" in text and "i2i &lt;x&gt;" in text
    assert re.findall('src="([^"]*)"', text) == ["a%20b.png", "c.png", "d.png", "walk.gif"]


@pytest.mark.slow
def test_a_page_of_shapes(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shapes").mkdir()
    Path("shapes/config.json").write_text("{}")  # a local run of that name does not matter
    status, out, err = command("demo", "--model=shapes", "--samples=3", "--output=my demo")
    assert (status, err) == (0, "")
    assert out.startswith("open my demo/index.html\n")
    page = Path("my demo/index.html").read_text()
    shown = {unquote(source) for source in re.findall('(?:src|href)="([^":]*)"', page)}
    written = {path.relative_to("my demo").as_posix() for path in Path("my demo").rglob("*") if path.is_file()}
    assert shown | {"index.html"} == written
    assert len(written) == 2 + demo.INPUTS * 4 + demo.STYLES * (demo.INPUTS - 1)
    assert f"shapes, seed {demo.SEEDS['shapes']}" in page

    [translate] = [line.strip() for line in out.splitlines() if line.startswith("  i2i translate")]
    assert Path(dict(word.split("=") for word in shlex.split(translate)[2:])["--input"]).is_dir()
    with Image.open("my demo/walk.gif") as gif:
        frames = [(np.asarray(frame.convert("RGB"), int), frame.info["duration"]) for frame in ImageSequence.Iterator(gif)]
    assert sum(duration for _, duration in frames) == demo.WALK_MILLISECONDS * demo.WALK_FRAMES * 3  # equal frames are one
    frames = [frame for frame, _ in frames]
    assert frames[0].shape == (128, 64 * demo.WALK_INPUTS, 3)
    assert all((frame[:64] == frames[0][:64]).all() for frame in frames), "the inputs do not move"
    steps = [np.abs(frame[64:] - after[64:]).mean() for frame, after in zip(frames, frames[1:] + frames[:1], strict=True)]
    assert max(steps) < 40

    for row in range(1, demo.INPUTS + 1):  # the answers are shapes on white, of one material each, which depends on the column
        outline = np.asarray(Image.open(f"my demo/inputs/{row}.png"))
        _, mask = shapes.modes(outline)
        for column in range(1, 4):
            answer = np.asarray(Image.open(f"my demo/answers/{row}/{column}.png"))
            assert answer[~mask].mean() > 230 and answer[mask].mean() < 230

    assert command("demo", "--model=shapes", "--samples=3", "--seed=63", "--output=again")[0] == 0
    same = [path for path in written if path != "index.html"]
    assert all((Path("again") / path).read_bytes() == (Path("my demo") / path).read_bytes() for path in same)


@pytest.mark.slow
def test_a_page_of_facades(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = command("demo", "--samples=2")
    assert (status, err) == (0, "") and out.startswith("open demo/index.html\n")
    answers = np.stack([np.asarray(Image.open(f"demo/answers/{row}/{column}.png")) for row in (1, 2) for column in (1, 2)])
    assert answers.shape == (4, 128, 128, 3)
    assert np.abs(answers[0].mean((0, 1)) - answers[1].mean((0, 1))).max() > 10, "two answers to one input"
    assert np.abs(answers[0].astype(int) - answers[2]).mean() > 10, "two inputs"


def test_wrong_usage(tmp_path, command, unprivileged, monkeypatch):
    def unexpected(*_):
        raise AssertionError("the model is loaded before the folder is known to be good")

    monkeypatch.setattr(demo.model, "load", unexpected)
    (tmp_path / "file").write_text("")
    cases = [
        (["--model=facade"], 2, "facades|shapes"),
        (["--samples=1"], 2, "samples"),
        (["--seed=-1"], 2, "seed"),
        ([f"--output={tmp_path / 'file'}"], 1, str(tmp_path / "file")),
    ]
    for options, expected, message in cases:
        status, out, err = command("demo", *options)
        assert (status, out, err.count("\n")) == (expected, "", 1), err
        assert message in err, err
    folder, as_nobody = unprivileged
    os.chmod(folder, 0o555)
    with as_nobody():
        status, out, err = command("demo", f"--output={folder / 'demo'}")
    os.chmod(folder, 0o777)
    assert (status, out, err.count("\n")) == (1, "", 1) and str(folder / "demo") in err and "cannot be written" in err
