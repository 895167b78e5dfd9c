"""Weights & Biases, with a fake of its library."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from i2i_jax import optional
from i2i_jax.training.log import RunLog
from i2i_jax.training.wandb import WandB


@pytest.fixture
def wandb(monkeypatch):
    """The calls to the library, in order."""
    calls = []
    run = SimpleNamespace(log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finish"))
    module = ModuleType("wandb")
    module.init = lambda **options: calls.append(options) or run
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


def test_a_resumed_run_logs_to_the_same_wandb_run(wandb, tmp_path):
    workdir = tmp_path / "my run"
    for start in (0, 10):
        writer = WandB(workdir, project="faces", config={"train.steps": 20})
        with RunLog(workdir, total_steps=20, start_step=start, also=[writer]) as log:
            log.write(start + 10, {"generator/l1": 0.5, "eval/psnr": 12})
    first, (step, values), end, second, (later, _), _ = wandb
    assert (first["project"], first["name"], first["resume"], first["config"]) == ("faces", "my run", "allow", {"train.steps": 20})
    assert second["id"] == first["id"]
    assert (step, later, end) == (10, 20, "finish")
    assert values.pop("steps_per_second") > 0
    assert values == {"generator/l1": 0.5, "eval/psnr": 12.0}
    other = WandB(tmp_path / "other", project="faces", config={})
    assert other and wandb[-1]["id"] != first["id"]


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(optional.MissingExtra, match=r'this needs wandb: pip install "i2i-jax\[wandb\]"'):
        WandB(tmp_path, project="faces", config={})
    assert not list(tmp_path.iterdir())
