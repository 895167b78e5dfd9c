"""The wheel: its contents, and that it is enough to train, translate and evaluate in any folder."""

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import runs

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

pytestmark = pytest.mark.slow


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, built from a copy, since building leaves folders behind."""
    folder = tmp_path_factory.mktemp("source")
    for path in (ROOT / name for name in ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")):
        shutil.copy(path, folder)
    for name in ("i2i_jax", "configs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [file] = (folder / "dist").iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", sdist, "--no-build-isolation", f"--wheel-dir={folder}")
    [file] = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def i2i(wheel, tmp_path_factory):
    """Runs the installed wheel's `i2i ARGUMENT ...` in a folder; returns its exit status, stdout and stderr."""
    installed = tmp_path_factory.mktemp("installed")
    pip("install", wheel, f"--target={installed}")
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(installed), *libraries]),
        "XLA_FLAGS": "",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    }
    # Without -S, Python would find an editable installation and hide what the wheel lacks.
    program = [sys.executable, "-S", str(installed / "bin" / "i2i")]

    def run(*arguments: str, cwd: Path) -> tuple[int, str, str]:
        done = subprocess.run([*program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


def test_the_wheel_is_the_package(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "i2i_jax").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert names == files
    assert {
        "i2i_jax/py.typed",
        "i2i_jax/configs/bicycle.py",
        "i2i_jax/pages/templates/run.html",
        "i2i_jax/pages/templates/painter/index.html",
    } <= names
    assert {f"i2i_jax/pretrained/{name}.{suffix}" for name in ("facades", "shapes") for suffix in ("safetensors", "md")} <= names
    assert wheel.name == f"i2i_jax-{VERSION}-py3-none-any.whl"


def test_the_source_has_the_thin_configs_and_no_tests(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"configs/bicycle.py", "CHANGELOG.md", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_what_a_user_types_in_an_empty_folder(i2i, tmp_path):
    assert i2i("--version", cwd=tmp_path) == (0, f"i2i_jax {VERSION}\n", "")
    status, out, err = i2i("config", "pix2pix:folder", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "--config.data.name=folder\n" in out
    status, out, err = i2i("demo", "--samples=2", cwd=tmp_path)
    assert (status, err) == (0, "") and (tmp_path / "demo" / "index.html").is_file()
    assert i2i("train", "--config=configs/bicycle.py", cwd=tmp_path) == (
        2, "", "error: there is no file configs/bicycle.py: --config=bicycle would do\n",
    )  # fmt: skip


def test_from_photos_to_figures_by_what_is_printed(i2i, tmp_path):
    def done(*arguments: str) -> str:
        status, out, err = i2i(*arguments, cwd=tmp_path)
        assert status == 0, err
        return out

    (tmp_path / "photos").mkdir()
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(tmp_path / "photos" / f"{seed}.png")
    out = done("pairs", "--photos=photos", "--make=grey", "--size=64", "--val=0.3", "--test=0.3", "--output=my pairs")
    program, *train = shlex.split(out.splitlines()[-1].removeprefix("train: "))
    assert program == "i2i"

    out = done(*train, *runs.as_flags(runs.TINY | runs.TINY_NETWORKS))
    run = tmp_path / "runs" / "pix2pix-folder"
    assert out.startswith(f"run folder: {run.relative_to(tmp_path)}\n")
    assert shlex.split((run / "command.txt").read_text())[: 1 + len(train)] == [program, *train]
    done("translate", f"--run={run}", "--input=my pairs/A/test", "--output=translated")
    assert len(list((tmp_path / "translated").glob("*.png"))) == len(list((tmp_path / "my pairs" / "A" / "test").iterdir()))
    assert "psnr" in done("evaluate", f"--run={run}", "--split=test")
