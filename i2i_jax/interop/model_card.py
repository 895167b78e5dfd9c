"""Trained models made ready for elsewhere: the card that says how one is used, and the model packed into one file."""

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

from i2i_jax import build, sampling
from i2i_jax.config import Config
from i2i_jax.models import Networks
from i2i_jax.storage import files, hub, packed
from i2i_jax.train_state import TrainState


def card(config: Config, networks: Networks, state: TrainState) -> dict[str, Any]:
    """What must be known to use the model, as JSON can hold it."""
    mode: sampling.Mode = build.mode(config)
    return {
        "model": config.objective,
        "step": int(state.step),
        "input": {"channels": config.data.input_channels, "range": [-1, 1]},
        "output": {"channels": config.data.target_channels, "range": [-1, 1]},
        "size": {"multiple_of": networks.generator.size_multiple, "trained_at": config.data.crop_size},
        "z": {"numbers": networks.latent_dim, "drawn_from": "normal"} if networks.latent_dim else None,
        "mode": {
            "norm": config.model.norm,
            "statistics": "of training" if config.model.norm == "batch" and mode.running_average else "of each image",
            "dropout": config.model.dropout and mode.dropout,
        },
    }


def pack(run: str | Path, out: Path, *, step: int | Literal["best"] | None = None) -> dict[str, Any]:
    """Writes the generator and, where there is one, the encoder of a run into the file `out`, whole or not at all; returns its card."""
    config, (game, state) = build.read_config(run), build.load(run, step=step)
    described = card(config, game.networks, state)
    files.atomic_write(out, packed.to_bytes(config, described, state))
    return described


def push(run: str | Path, to: str, *, step: int | Literal["best"] | None = None) -> str:
    """Puts a run, packed, with a page about it, on the hub as `to`, hf://USER/NAME; returns the page's address. Raises HubError."""
    with tempfile.TemporaryDirectory() as folder:
        described = pack(run, Path(folder) / hub.MODEL, step=step)
        (Path(folder) / "README.md").write_text(_page(described, to))
        return hub.push(Path(folder), to)


def _page(card: dict[str, Any], name: str) -> str:
    return f"""---
library_name: i2i_jax
pipeline_tag: image-to-image
tags: [i2i_jax, jax, {card["model"]}]
---

A {card["model"]} model of i2i_jax, trained at {card["size"]["trained_at"]} pixels. With i2i_jax and its extra `hub`

```python
from i2i_jax import load

model = load("{name}")
images = model(inputs, n=5, seed=0)
```

translates NumPy images of any size, uint8 or floats in [-1, 1]. Its card:

```json
{json.dumps(card, indent=2)}
```
"""
