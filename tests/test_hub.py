"""Models are pushed to the hub and loaded from it, here a fake hub on loopback."""

import importlib

import numpy as np
import pytest

import i2i_jax
from fake_hub import Hub
from i2i_jax.storage.hub import HubError

pytest.importorskip("huggingface_hub", reason="speaks to the hub")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with Hub() as server:
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
        }.items():
            monkeypatch.setattr(importlib.import_module("huggingface_hub.constants"), name, value)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the library itself
def test_a_model_is_pushed_and_loaded(hub, trained, command):
    status, out, err = command("push", f"--run={trained('bicycle')}", "--to=hf://someone/shapes")
    assert (status, out, err) == (0, f"pushed: {hub.url}/someone/shapes\n", ""), err
    assert hub.private == {"someone/shapes": True}
    files = hub.repositories["someone/shapes"]
    page = files["README.md"].decode()
    assert 'load("hf://someone/shapes")' in page and "pipeline_tag: image-to-image" in page and '"model": "bicycle_gan"' in page
    image = np.zeros((64, 64, 3), np.uint8)
    np.testing.assert_array_equal(i2i_jax.load("hf://someone/shapes")(image), i2i_jax.load(trained("bicycle"))(image))
    downloads = [request for request in hub.asked if request.startswith("GET /someone")]
    assert downloads == ["GET /someone/shapes/resolve/main/model.safetensors"]  # once

    assert command("push", f"--run={trained('pix2pix')}", "--to=hf://someone/shapes")[0] == 0  # as another commit
    assert i2i_jax.load("hf://someone/shapes").config.objective == "pix2pix"


def test_the_hubs_library_is_left_as_it_was(hub):
    """Its log level and progress bars are settings of the program that uses us."""
    logs, utils = (importlib.import_module(f"huggingface_hub.utils{name}") for name in (".logging", ""))
    before = logs.get_verbosity(), utils.are_progress_bars_disabled()
    with pytest.raises(HubError, match="hf://someone/none: is not on the hub"):
        i2i_jax.load("hf://someone/none")
    assert (logs.get_verbosity(), utils.are_progress_bars_disabled()) == before


def test_what_goes_wrong_is_one_line(hub, trained, command, monkeypatch):
    hub.repositories["someone/empty"] = {}
    hub.repositories["someone/text"] = {"model.safetensors": b"<!DOCTYPE html>"}
    run = f"--run={trained('bicycle')}"
    image = ["--input=none.png", "--output=none"]
    cases = [
        ("translate", ["--run=hf://someone/none", *image], "hf://someone/none: is not on the hub, or not yours"),
        ("translate", ["--run=hf://someone/empty", *image], "hf://someone/empty: holds no model.safetensors"),
        ("translate", ["--run=hf://someone", *image], "hf://someone: is not the name of a model on the hub: must be hf://USER/NAME"),
        ("translate", ["--run=hf://some one/shapes", *image], "hf://some one/shapes: "),
        ("translate", ["--run=hf://someone/text", *image], "model.safetensors: is no model that `i2i_jax pack` wrote"),
        ("push", [run, "--to=someone/shapes"], "someone/shapes: is not the name of a model on the hub: must be hf://USER/NAME"),
    ]
    for name, options, message in cases:
        status, out, err = command(name, *options)
        assert (status, out, err.count("\n")) == (1, "", 1), err
        assert message in err, err
    monkeypatch.setenv("HF_TOKEN", "wrong")
    status, _, err = command("push", run, "--to=hf://someone/shapes")
    assert (status, err.count("\n")) == (1, 1) and "log in with `hf auth login`" in err, err
    assert "someone/shapes" not in hub.repositories
    with Hub() as closed:
        pass
    address = closed.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(importlib.import_module("huggingface_hub.constants"), "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's retries
    status, _, err = command("translate", "--run=hf://someone/else", *image)
    assert (status, err) == (1, "error: hf://someone/else: cannot be reached, and is not in the cache\n")


def test_without_the_library(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    from i2i_jax import optional
    from i2i_jax.storage import hub

    with pytest.raises(optional.MissingExtra, match=r'^this needs huggingface_hub: pip install "i2i-jax\[hub\]"$'):
        hub.local("hf://someone/shapes")
    assert hub.local("runs/shapes") == "runs/shapes"
