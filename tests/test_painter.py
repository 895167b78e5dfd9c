"""`export --format=web` writes a folder that any web server can serve, or nothing."""

import html
import json
import re
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from i2i_jax.data import facade_layouts, palettes
from i2i_jax.inference import drawings
from i2i_jax.interop import export_onnx, export_web
from i2i_jax.interop.export import ExportError
from i2i_jax.pages import painter
from i2i_jax.storage import files, onnxruntime_web
from i2i_jax.storage.onnxruntime_web import RuntimeMissing


@pytest.fixture
def runtime(tmp_path) -> Path:
    """An unpacked npm package with other contents."""
    folder = tmp_path / "package"
    for name in [*onnxruntime_web.CHECKSUMS, "ort.js"]:
        files.atomic_write(folder / "dist" / name, name.encode())
    return folder


@pytest.fixture
def without_onnx(monkeypatch):
    """A function that sets what `to_onnx` says of the exported files, which are not written then."""

    def write(inputs: dict, encoder: dict | None = None) -> None:
        def to_onnx(model, out, *, dtype):
            out.with_name(f"{out.name}.json").write_text(json.dumps({"inputs": inputs, "encoder": encoder}))
            return {out: 0.0}

        monkeypatch.setattr(export_onnx, "to_onnx", to_onnx)

    return write


def settings_of(folder: Path) -> dict:
    (script,) = re.findall(r'<script type="application/json" id="settings">(.*?)</script>', (folder / "index.html").read_text())
    return json.loads(script)


@pytest.mark.slow
def test_a_model_of_the_package(tmp_path, runtime, command):
    pytest.importorskip("onnx", reason="needs the extra `onnx`")
    pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    out = tmp_path / "shapes"
    status, printed, err = command("export", "--run=shapes", "--format=web", f"--onnxruntime_web={runtime}", f"--out={out}")
    assert (status, err) == (0, "")
    assert re.sub(r"\d+\.\d MB|at most \S+", "…", printed) == (
        f"exported to {out}/model.onnx, …; its numbers differ from the model's by … of the largest\n"
        f"exported to {out}/model.encoder.onnx, …; its numbers differ from the model's by … of the largest\n"
        f"open the address that this prints: python -m http.server --directory {out}\n"
    )
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {
        "index.html", "model.onnx", "model.encoder.onnx", "model.onnx.json", "example_1.png", "example_2.png", "example_3.png",
        "onnxruntime/ort.wasm.bundle.min.mjs", "onnxruntime/ort-wasm-simd-threaded.wasm", *(file.name for file in painter.FILES),
    }  # fmt: skip
    page = (out / "index.html").read_text()
    assert page.count("<h1>Shapes</h1>") == 1 and "Draw the outline of one closed shape" in page
    expected = {
        "kind": "pen",
        "line": 3,
        "height": 64,
        "width": 64,
        "channels": 3,
        "answers": 4,
        "latent": 2,
        "encoder": True,
        "examples": 3,
    }
    assert expected.items() <= settings_of(out).items()


def test_the_page_names_no_other_host():
    for file in [*painter.FILES, painter.TEMPLATES / "painter" / "index.html"]:
        addresses = set(re.findall(r"https?://[^\"' )]+", file.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file


ANY_METRIC = {"eval.best_metric": "l1"}  # the preset's is known for shapes only
CASES = {
    "label maps": ({"data.name": "facades", "data.direction": "BtoA"}, {"kind": "classes", "channels": 3, "examples": 3}),
    "classes": (
        {"data.name": "facades", "data.direction": "BtoA", "data.input_labels": "facades", "data.input_channels": 12},
        {"kind": "classes", "channels": "classes"},
    ),
    "edges": ({"data.name": "edges2shoes"}, {"kind": "pen", "line": 1, "examples": 0}),
    "own pairs": ({"data.name": "folder", "data.path": "pairs", "data.input_channels": 1}, {"kind": "pen", "channels": 1}),
    "photos": ({"data.name": "facades"}, {"kind": "photo", "examples": 0}),
    "shapes to outlines": ({"data.direction": "BtoA"}, {"kind": "photo", "examples": 0}),
}


@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES)
def test_what_is_drawn_with(options, expected, tmp_path, runtime, without_onnx):
    without_onnx({"image": "float32[batch, 3, 64*height, 64*width]"}, {"file": "model.encoder.onnx"})
    export_web.to_web(tiny.model_of(ANY_METRIC | options), tmp_path / "out", name="my <run>", runtime=runtime)
    settings = settings_of(tmp_path / "out")
    assert expected.items() <= settings.items()
    if settings["kind"] == "classes":
        brushes = {brush["name"]: tuple(brush["colour"]) for brush in settings["brushes"]}
        assert list(brushes.items()) == list(palettes.PALETTES["facades"].classes.items())
        example = np.asarray(Image.open(tmp_path / "out" / "example_1.png"))
        np.testing.assert_array_equal(example, facade_layouts.layout(60)[2::4, 2::4])
    named = (options.get("data.name", "shapes"), options.get("data.direction", "AtoB")) in drawings.SUBJECTS
    page = (tmp_path / "out" / "index.html").read_text()
    assert (f"<h1>{html.escape('my <run>')}</h1>" in page) != named and "<h1>my <run>" not in page


def test_dropout_masks(tmp_path, runtime, without_onnx):
    without_onnx({"image": "float32[batch, 3, 64*height, 64*width]", "dropout_0": "float32[batch, 16, 4*height, 4*width]"})
    export_web.to_web(tiny.model_of({"sampling.dropout": True}, objective="pix2pix"), tmp_path / "out", name="run", runtime=runtime)
    expected = {"latent": 0, "masks": {"dropout_0": [16, 4, 4]}, "answers": 4, "encoder": False}
    assert expected.items() <= settings_of(tmp_path / "out").items()


def test_one_answer_without_latent_and_dropout(tmp_path, runtime, without_onnx):
    without_onnx({"image": "float32[batch, 3, 64*height, 64*width]"})
    export_web.to_web(tiny.model_of({}, objective="pix2pix"), tmp_path / "out", name="run", runtime=runtime)
    assert settings_of(tmp_path / "out")["answers"] == 1 and 'id="seed"' not in (tmp_path / "out" / "index.html").read_text()


def test_an_example_of_ones_own(tmp_path, runtime, without_onnx):
    without_onnx({"image": "float32[batch, 3, 64*height, 64*width]"})
    Image.new("RGB", (128, 96), (10, 20, 30)).save(tmp_path / "photo.png")
    model = tiny.model_of(ANY_METRIC | {"data.name": "facades"})
    export_web.to_web(model, tmp_path / "out", name="run", runtime=runtime, example=tmp_path / "photo.png")
    with Image.open(tmp_path / "out" / "example_1.png") as example:
        assert (example.size, example.getpixel((0, 0))) == ((64, 64), (10, 20, 30))
    assert settings_of(tmp_path / "out")["examples"] == 1


@pytest.mark.parametrize(
    ("options", "objective", "message"),
    [
        ({}, "segmenter", r"run is a segmenter, which gives label maps: a page is made for runs that give pictures, such as pix2pix$"),
        ({"data.input_channels": 4}, "bicycle_gan", r"run: its images have 4 and 3 channels: a page shows 1 \(grey\) or 3 \(colour\)$"),
    ],
)
def test_runs_that_are_refused(options, objective, message, tmp_path, runtime):
    with pytest.raises(ExportError, match=message):
        export_web.to_web(tiny.model_of(options, objective=objective), tmp_path / "out", name="run", runtime=runtime)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there(tmp_path, runtime):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ExportError, match=r"out is there already: name a new folder$"):
        export_web.to_web(tiny.model_of({}), tmp_path / "out", name="run", runtime=runtime)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_folder_without_the_runtime(tmp_path, command):
    status, _, err = command("export", "--run=shapes", "--format=web", f"--onnxruntime_web={tmp_path}", f"--out={tmp_path / 'out'}")
    reason = "has no ort.wasm.bundle.min.mjs and ort-wasm-simd-threaded.wasm: an unpacked npm package onnxruntime-web has them in dist/"
    assert (status, err) == (1, f"error: --onnxruntime_web: {tmp_path} {reason}\n")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A function that puts a program `npm` on the path, with the given lines of Python; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install(*lines: str) -> None:
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / "npm").write_text("\n".join([f"#!{sys.executable}", "import shutil, sys", *lines]))
        (tmp_path / "bin" / "npm").chmod(0o755)

    return install


@pytest.fixture
def archive(tmp_path, runtime) -> Path:
    with tarfile.open(tmp_path / "archive.tar", "w:gz") as package:
        package.add(runtime, "package")
    return tmp_path / "archive.tar"


def test_without_npm(npm):
    with pytest.raises(RuntimeMissing, match=r"npm is not installed: install it, or name a folder that holds .* by --onnxruntime_web=DIR$"):
        onnxruntime_web.folder()


def test_npm_fails(npm):
    npm("sys.exit('npm error no\\nnpm error network')")
    with pytest.raises(RuntimeMissing, match=r"npm pack onnxruntime-web@\S+ failed \(no network\): try again, or name a folder"):
        onnxruntime_web.folder()


def test_what_npm_gives_is_checked_and_kept(npm, archive, monkeypatch):
    npm(
        f"assert (sys.argv[1], sys.argv[-1]) == ('pack', 'onnxruntime-web@{onnxruntime_web.VERSION}')",
        f"shutil.copy({str(archive)!r}, 'a.tgz')",
    )
    with pytest.raises(RuntimeMissing, match=r"has the SHA-256 \w{64}: expected \w{64}; name a folder"):
        onnxruntime_web.folder()
    with tarfile.open(archive) as package:
        package.extractall(archive.parent / "unpacked", filter="data")
    checksums = {name: files.sha256(archive.parent / "unpacked" / "package" / "dist" / name) for name in onnxruntime_web.CHECKSUMS}
    monkeypatch.setattr(onnxruntime_web, "CHECKSUMS", checksums)
    folder = onnxruntime_web.folder()
    assert {path.name for path in folder.iterdir()} == set(checksums)
    npm("sys.exit('called again')")
    assert onnxruntime_web.folder() == folder
    (folder / "ort.wasm.bundle.min.mjs").write_text("damaged")
    with pytest.raises(RuntimeMissing, match="called again"):
        onnxruntime_web.folder()


def test_a_package_without_the_files(npm, tmp_path):
    (tmp_path / "readme").touch()
    with tarfile.open(tmp_path / "archive.tar", "w:gz") as package:
        package.add(tmp_path / "readme", "package/README.md")
    npm(f"shutil.copy({str(tmp_path / 'archive.tar')!r}, 'a.tgz')")
    with pytest.raises(RuntimeMissing, match="onnxruntime-web"):
        onnxruntime_web.folder()
