"""The notebooks of colab/, executed from top to bottom with tiny networks."""

import os
import re
import shutil
import zipfile
from pathlib import Path

import jax
import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

import runs
from i2i_jax import notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))


def parameters_of(document: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell to set parameters in."""
    [cell] = [cell for cell in document.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """Runs a notebook with other parameters; returns the output of all cells as text."""
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def execute(name: str, **parameters: object) -> str:
        document = nbformat.read(ROOT / "colab" / f"{name}.ipynb", as_version=4)
        cell = parameters_of(document)
        assert {name for name in parameters if f"\n{name} = " not in f"\n{cell.source}"} == set()
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
        nbclient.NotebookClient(document, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
        outputs = [output for cell in document.cells for output in cell.get("outputs", [])]
        return "".join(output.get("text", "") or str(output.get("data", "")) for output in outputs)

    return execute


@pytest.mark.slow
def test_training_resumes_shows_samples_and_is_archived(execute, trained, shapes_dir, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained("pix2pix"), run)
    options = runs.TINY | runs.TINY_NETWORKS | {"data.prepared_dir": str(shapes_dir), "train.steps": 3, "train.sample_every": 3}
    shown = execute("train_tpu", CONFIG="pix2pix", RUN=str(run), OPTIONS=" ".join(runs.as_flags(options)))
    assert "(cpu): enough for shapes" in shown
    assert "resumes after step 2 of 3" in shown
    assert "image/png" in shown
    assert {"run.zip", "run"} <= {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "index.html", "samples/00000003.png"} <= set(zipfile.ZipFile(tmp_path / "run.zip").namelist())


@pytest.mark.slow
def test_translation_shows_its_outputs(execute, trained, tmp_path):
    Image.fromarray(np.full((64, 64, 3), 255, np.uint8)).save(tmp_path / "a b.png")
    shown = execute("translate", RUN=str(trained("pix2pix")), INPUT=str(tmp_path / "a b.png"), OUTPUT=str(tmp_path / "out"), SAMPLES=2)
    assert "1 translated" in shown
    assert "a b_002.png" in shown and "image/png" in shown
    assert "a b_001.png" in zipfile.ZipFile(tmp_path / "out.zip").namelist()


@pytest.mark.slow
def test_own_training_on_two_devices_shows_pictures(execute, shapes_dir, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    tiny = {"model.width": 2, "data.batch_size": 2, "data.prepared_dir": str(shapes_dir)} | runs.TINY_NETWORKS
    shown = execute("train_state", STEPS=2, PICTURE_EVERY=1, OPTIONS=tiny)
    assert "2 x cpu, batch size 4" in shown
    assert shown.count("step 2: {'gan'") == 2
    assert shown.count("image/png") == 3, "of the untrained game, and of each training"


def test_translating_starts_with_what_the_clone_has():
    cell = parameters_of(nbformat.read(ROOT / "colab" / "translate.ipynb", as_version=4))
    values = dict(re.findall(r'^(\w+) = "(.*?)"', cell.source, re.MULTILINE))
    assert values["RUN"] == "facades"
    with Image.open(ROOT / values["INPUT"]) as image:
        assert image.size == (128, 128)


def test_notebooks_are_installed_alike():
    """All have the same installation, which is skipped here, since the package is installed."""
    assert len({nbformat.read(path, as_version=4).cells[1].source for path in NOTEBOOKS}) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_clean(path):
    document = nbformat.read(path, as_version=4)
    nbformat.validate(document)
    for cell in document.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert set(cell.metadata) <= {"tags"}
    assert set(document.metadata) <= {"accelerator", "colab", "kernelspec", "language_info"}


def test_a_failed_training_raises(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(notebook.subprocess.CalledProcessError):
        notebook.train(tmp_path, "--config=none.py")
    assert "there is no file none.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("devices", "config", "batch"), [(1, "bicycle", None), (8, "bicycle", 16), (8, "pix2pix:facades", 8), (4, "pix2pix:maps", 4)]
)
def test_the_batch_of_a_new_run_has_pairs_for_every_device(tmp_path, monkeypatch, devices, config, batch):
    monkeypatch.setattr(notebook, "_devices", lambda: (devices, "tpu", "TPU v3"))
    option = [f"--config.data.batch_size={batch}"] if batch else []
    assert notebook._batch(tmp_path, [f"--config={config}", "--config.train.steps=2"]) == option
    assert notebook._batch(tmp_path, [f"--config={config}", "--config.data.batch_size=6"]) == []
    (tmp_path / "config.json").touch()
    assert notebook._batch(tmp_path, [f"--config={config}"]) == []
