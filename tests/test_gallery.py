"""The pictures of the gallery: small files, label maps in the colours of the dataset, one command that draws them."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i_jax.data.palettes import PALETTES

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "gallery"

COLOURS = {colour: name for name, colour in PALETTES["facades"].classes.items()}


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("facade_pictures", ROOT / "benchmarks" / "facade_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def classes(label_map: np.ndarray) -> set[str]:
    """The classes in a label map; KeyError if a pixel has another colour."""
    return {COLOURS[tuple(int(x) for x in colour)] for colour in np.unique(label_map.reshape(-1, 3), axis=0)}


@pytest.mark.parametrize(("columns", "floors"), [(3, 3), (4, 4), (6, 5), (5, 7)])
def test_each_stage_of_a_drawing_adds_classes(pictures, columns, floors):
    drawn = [classes(pictures.facade(columns, floors, stage=stage)) for stage in pictures.STAGES]
    assert drawn[0] == {"background", "facade"}
    for before, after, new in zip(drawn, drawn[1:], ["window", "door", "balcony", "cornice"], strict=False):
        assert before < after and new in after - before


def test_a_drawing_is_symmetric_if_its_doors_are_left_out(pictures):
    drawn = pictures.facade(4, 4, stage="+ windows")
    inside = (drawn == PALETTES["facades"].classes["window"]).all(-1)
    assert inside.any() and np.abs(inside.mean(0) - inside.mean(0)[::-1]).mean() < 0.1


def test_the_label_map_that_guides_translate_is_the_first(pictures):
    np.testing.assert_array_equal(np.asarray(Image.open(PICTURES / "label_map.png")), pictures.LABEL_MAPS[0])


def test_all_pictures_are_there_and_small(pictures):
    assert {path.name for path in PICTURES.iterdir()} == set(pictures.PICTURES)
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 3e6
    text = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    shown = {Path(source).name for source in re.findall(r'<img src="(.*?)"', text)}
    assert shown == set(pictures.PICTURES) - {"label_map.png"}


def test_one_command_draws_them(trained, tmp_path, pictures):
    command = [sys.executable, "benchmarks/gallery.py", f"--run={trained('bicycle')}", f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(pictures.PICTURES)
    with Image.open(tmp_path / "walk.gif") as film:
        assert film.n_frames == 4 * pictures.FRAMES
