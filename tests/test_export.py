"""Exported artifacts give the model's images in a program that has jax but not this package."""

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
from i2i_jax.interop import export, model_card
from i2i_jax.interop.export import ExportError

pytestmark = pytest.mark.slow

DOCS = (Path(__file__).parents[1] / "docs" / "pytorch.md").read_text()
SCRIPT = next(block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "deserialize" in block)


@pytest.mark.parametrize("name", ["bicycle", "pix2pix"])
def test_the_documented_script(name, trained, tmp_path, command):
    """It has ten lines, imports only jax and NumPy, and gives the model's images for two inputs of another size, with dropout."""
    artifact = tmp_path / "model.stablehlo"
    status, out, err = command("export", f"--run={trained(name)}", f"--out={artifact}")
    assert (status, err) == (0, ""), err
    assert re.fullmatch(rf"exported to {artifact}, \d+\.\d MB; its images differ from the model's by at most \S+\n", out), out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.stablehlo", "model.stablehlo.json"]
    for private in (Path(i2i_jax.__file__).parents[1], trained(name), Path(jax.__file__).parents[1]):
        assert str(private).encode() not in artifact.read_bytes(), "contains paths of this machine"
    assert len(SCRIPT.splitlines()) <= 10 and set(re.findall(r"^import (.*)", SCRIPT, re.MULTILINE)) == {"json", "jax.export, numpy as np"}
    saving = "np.savez('images.npz', images=images, **{'input_' + name: value for name, value in inputs.items()})"
    subprocess.run([sys.executable, "-I", "-c", SCRIPT + saving], cwd=tmp_path, check=True)
    with np.load(tmp_path / "images.npz") as saved:
        model = i2i_jax.load(trained(name))
        z = saved["input_z"] if name == "bicycle" else np.zeros((2, 0), np.float32)
        key = jax.random.key(int(saved["input_seed"]) if name == "pix2pix" else 0)
        expected = model.translate(model.state, saved["input_images"], z[:, None], key)[:, 0]
        np.testing.assert_allclose(saved["images"], expected, atol=1e-5)
        assert np.ptp(saved["images"]) > 0.01
    card = json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert 0 <= card.pop("difference") <= 1e-5
    assert card == json.loads(json.dumps(model_card.card(model.config, model.networks, model.state))) | {
        "inputs": {"images": "float32[b, 64*h, 64*w, 3]"} | ({"z": "float32[b, 2]"} if name == "bicycle" else {"seed": "uint32[]"}),
        "platforms": ["cpu", "cuda", "tpu"],
        "jax": jax.__version__,
    }


@pytest.mark.parametrize(
    "options",
    [
        {  # dropout at training only
            "model.upsample": "bilinear", "model.norm": "batch", "model.latent_at": "input", "data.input_channels": 1,
            "sampling.running_average": True, "model.dropout": True,
        },
        {"model.generator": "resnet_6", "model.dropout": True, "sampling.dropout": True},
    ],
    ids=["unet", "resnet"],
)  # fmt: skip
def test_every_network_can_be_exported_for_any_size(options, tmp_path):
    model = tiny.model_of(options)
    assert export.to_stablehlo(model, tmp_path / "model") <= 1e-5
    inputs = json.loads((tmp_path / "model.json").read_text())["inputs"]
    multiple, channels = model.networks.generator.size_multiple, model.config.data.input_channels
    assert inputs["images"] == f"float32[b, {multiple}*h, {multiple}*w, {channels}]" and inputs["z"] == "float32[b, 2]"
    assert ("seed" in inputs) == model.config.sampling.dropout


@pytest.mark.parametrize("difference", [2e-4, np.nan])
def test_artifacts_that_differ_are_not_written(difference, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_program", lambda model: lambda images, z: images)
    monkeypatch.setattr(export, "_difference", lambda model, artifact: difference)
    with pytest.raises(ExportError, match=f"not written: its images differ by {difference} from the model's, more than 0.0001"):
        export.to_stablehlo(i2i_jax.load(trained("bicycle")), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_invalid_arguments(trained, tmp_path, command):
    for options, expected, message in (
        ([f"--run={tmp_path}", f"--out={tmp_path / 'a'}"], 2, "is not a run: it has no config.json"),
        ([f"--run={trained('bicycle')}", f"--out={tmp_path}"], 2, f"--out: {tmp_path} is a folder: name a file in it"),
        ([f"--run={trained('bicycle')}"], 2, "--out"),
        ([f"--run={trained('bicycle')}", f"--out={tmp_path / 'a'}", "--format=tflite"], 2, "value should be one of <stablehlo|onnx|web>"),
        ([f"--run={trained('bicycle')}", f"--out={tmp_path / 'a'}", "--example=a.png"], 2, "--example=a.png applies to --format=web only"),
        (
            [f"--run={trained('bicycle')}", f"--out={tmp_path / 'a'}", "--dtype=float16"],
            2,
            "--dtype=float16 applies to --format=onnx and web only",
        ),
    ):
        status, _, err = command("export", *options)
        assert (status, err.count("\n")) == (expected, 1) and message in err, err
    assert not list(tmp_path.iterdir())
