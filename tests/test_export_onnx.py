"""`export --format=onnx` writes files that programs without this package can use, or nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import i2i_jax
import tiny
from i2i_jax.interop import export_onnx, model_card
from i2i_jax.interop.export import ExportError

pytest.importorskip("onnx", reason="needs the extra `onnx`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
pytestmark = pytest.mark.slow

DOCS = (Path(__file__).parents[1] / "docs" / "pytorch.md").read_text()
SCRIPT = next(block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "onnxruntime" in block)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_documented_script(dtype, tmp_path, command):
    """It imports only onnxruntime and NumPy, and gives the model's translation."""
    file, encoder = tmp_path / "shapes.onnx", tmp_path / "shapes.encoder.onnx"
    status, out, err = command("export", "--run=shapes", "--format=onnx", f"--dtype={dtype}", f"--out={file}")
    assert (status, err) == (0, ""), err
    report = r"exported to {}, \d+\.\d MB; its numbers differ from the model's by at most \S+ of the largest\n"
    assert re.fullmatch("".join(report.format(path) for path in (file, encoder)), out), out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes.encoder.onnx", "shapes.onnx", "shapes.onnx.json"]
    assert not any(str(Path(i2i_jax.__file__).parents[1]).encode() in path.read_bytes() for path in (file, encoder))
    assert set(re.findall(r"^import (.*)", SCRIPT, re.MULTILINE)) == {"numpy as np, onnxruntime"}
    saving = "np.savez('arrays.npz', **inputs, translation=translation)"
    subprocess.run([sys.executable, "-I", "-c", SCRIPT + saving], cwd=tmp_path, check=True)
    with np.load(tmp_path / "arrays.npz") as saved:
        expected = i2i_jax.load("shapes")(saved["image"].transpose(0, 2, 3, 1), z=saved["z"][:, None])[:, 0]
        np.testing.assert_allclose(saved["translation"].transpose(0, 2, 3, 1), expected, atol={"float32": 1e-4, "float16": 2e-2}[dtype])
        assert np.ptp(expected) > 0.1


def test_the_card(tmp_path, command):
    assert command("export", "--run=shapes", "--format=onnx", f"--out={tmp_path / 'model.onnx'}")[0] == 0
    card, model = json.loads((tmp_path / "model.onnx.json").read_text()), i2i_jax.load("shapes")
    assert 0 <= card.pop("difference") <= 1e-4 and 0 <= card["encoder"].pop("difference") <= 1e-4
    assert card == json.loads(json.dumps(model_card.card(model.config, model.networks, model.state))) | {
        "file": "model.onnx",
        "inputs": {"image": "float32[batch, 3, 64*height, 64*width]", "z": "float32[batch, 2]"},
        "outputs": {"translation": "float32[batch, 3, 64*height, 64*width]"},
        "encoder": {
            "file": "model.encoder.onnx",
            "inputs": {"image": "float32[batch, 3, height, width]"},
            "outputs": {"mean": "float32[batch, 2]", "log_var": "float32[batch, 2]"},
        },
        "layout": "NCHW",
        "dtype": "float32",
        "opset": 17,
        "onnxruntime": onnxruntime.__version__,
    }


def test_no_encoder_of_a_model_exported_before_is_left(trained, tmp_path, command):
    for config in ("bicycle", "pix2pix"):
        assert command("export", f"--run={trained(config)}", "--format=onnx", f"--out={tmp_path / 'model.onnx'}")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]


@pytest.mark.parametrize(
    ("generator", "masks"),
    [
        ("unet_64", {"dropout_0": "float32[batch, 16, 4*height, 4*width]"}),
        ("resnet_6", {f"dropout_{i}": "float32[batch, 8, height, width]" for i in range(6)}),
    ],
)
def test_dropout_masks_are_inputs(generator, masks, tmp_path):
    """The check feeds the masks that the model draws; masks of ones are no dropout."""
    model = tiny.model_of({"model.generator": generator, "model.dropout": True, "sampling.dropout": True})
    assert all(difference < 1e-4 for difference in export_onnx.to_onnx(model, tmp_path / "model.onnx").values())
    inputs = json.loads((tmp_path / "model.onnx.json").read_text())["inputs"]
    assert {name: kind for name, kind in inputs.items() if name not in ("image", "z")} == masks
    plain = tiny.model_of({"model.generator": generator, "model.dropout": True})
    images, z = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32), np.ones((1, 2), np.float32)
    side = 4 if generator == "unet_64" else 16
    ones = {name: np.ones((1, int(kind.split(", ")[1]), side, side), np.float32) for name, kind in masks.items()}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (translation,) = session.run(None, {"image": export_onnx.nchw(images), "z": z} | ones)
    expected = plain.translate(plain.state, images, z[:, None], jax.random.key(0))[:, 0]
    np.testing.assert_allclose(translation, export_onnx.nchw(expected), atol=1e-4)


def test_label_maps(tmp_path):
    """A segmenter's file gives the colour of each pixel's class, and the scores."""
    model = tiny.model_of({"data.palette": "facades"}, objective="segmenter")
    assert list(export_onnx.to_onnx(model, tmp_path / "model.onnx")) == [tmp_path / "model.onnx"]
    images = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    (labels, scores) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(
        ["translation", "scores"], {"image": export_onnx.nchw(images)}
    )
    expected = export_onnx.nchw(model.translate(model.state, images, np.zeros((1, 1, 0), np.float32), jax.random.key(0))[:, 0])
    top, second = np.sort(scores, axis=1)[:, :-3:-1].swapaxes(0, 1)
    np.testing.assert_allclose(*(np.where((top - second)[:, None] > 1e-4, x, 0) for x in (labels, expected)), atol=1e-6)
    assert np.ptp(labels) > 0.1


def test_networks_that_compute_in_bfloat16_are_exported_in_float32(tmp_path):
    model = tiny.model_of({"model.dtype": "bfloat16"})
    assert all(difference < 1e-4 for difference in export_onnx.to_onnx(model, tmp_path / "model.onnx").values())


@pytest.mark.parametrize(("size", "result"), [((66, 64), "error"), ((66, 62), (68, 64))], ids=["unet", "resnet"])
def test_sizes_that_are_not_multiples(size, result, tmp_path):
    model = tiny.model_of({"model.generator": "unet_64" if result == "error" else "resnet_6"})
    export_onnx.to_onnx(model, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
    inputs = {"image": np.zeros((1, 3, *size), np.float32), "z": np.zeros((1, 2), np.float32)}
    if result == "error":
        with pytest.raises(Exception, match="Non-zero status code returned while running"):
            session.run(None, inputs)
    else:
        assert session.run(None, inputs)[0].shape == (1, 3, *result)


@pytest.mark.parametrize("difference", [2e-4, np.nan])
def test_files_that_differ_are_not_written(difference, tmp_path, command, monkeypatch):
    monkeypatch.setattr(export_onnx, "_difference", lambda outputs, expected: difference)
    status, out, err = command("export", "--run=shapes", "--format=onnx", f"--out={tmp_path / 'model.onnx'}")
    reason = f"its numbers differ by {difference} of the largest from the model's, more than 0.0001"
    assert (status, out, err) == (1, "", f"error: {tmp_path / 'model.onnx'}: not written: {reason}\n")
    assert not list(tmp_path.iterdir())


def test_files_that_would_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "LARGEST", 1000)
    with pytest.raises(ExportError, match=r"not written: it would have 0\.0 GB, .* --dtype=float16 halves it$"):
        export_onnx.to_onnx(tiny.model_of({}), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_the_missing_extra(library, tmp_path, command, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    status, out, err = command("export", "--run=shapes", "--format=onnx", f"--out={tmp_path / 'model.onnx'}")
    assert (status, out, err) == (1, "", f'error: this needs {library}: pip install "i2i-jax[onnx]"\n')
    assert not list(tmp_path.iterdir())
