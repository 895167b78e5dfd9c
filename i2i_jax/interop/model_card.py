"""Packs trained models into one file, with a card that describes them, and uploads them to the Hugging Face Hub."""

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

from i2i_jax import build, sampling
from i2i_jax.config import Config
from i2i_jax.data import labels, values
from i2i_jax.models import Networks
from i2i_jax.storage import files, hub, packed
from i2i_jax.train_state import TrainState


def card(config: Config, networks: Networks, state: TrainState) -> dict[str, Any]:
    """Describes what a user of the model must know (sizes, channels, latent, mode), as JSON values."""
    mode: sampling.Mode = build.mode(config)
    return {
        "model": config.objective,
        "step": int(state.step),
        "input": {"channels": config.data.input_channels, "range": [-1, 1], **_units(values.of_config(config.data, "input"))},
        "output": {"channels": config.data.target_channels, "range": [-1, 1], **_units(values.of_config(config.data, "target"))},
        "size": {"multiple_of": networks.generator.size_multiple, "trained_at": config.data.crop_size},
        "z": {"numbers": networks.latent_dim, "drawn_from": "normal"} if networks.latent_dim else None,
        "mode": {
            "norm": config.model.norm,
            "statistics": "of training" if config.model.norm == "batch" and mode.running_average else "of each image",
            "dropout": config.model.dropout and mode.dropout,
        },
    }


def _units(scale: values.Scale) -> dict[str, Any]:
    """The values in files that the ends of the networks' range stand for, unless they are those of the files' type."""
    return {} if scale.low is None else {"range_in_files": [scale.low, scale.high]}


def pack(run: str | Path, out: Path, *, step: int | Literal["best"] | None = None, dtype: str = "float32") -> dict[str, Any]:
    """Writes the generator and, if there is one, the encoder of a run to one file, atomically.

    Args:
        run: the run's folder.
        out: the file to write.
        step: the checkpoint: a step or "best"; defaults to the newest.
        dtype: how the parameters are stored, one of `packed.DTYPES`; bfloat16 halves the file.

    Returns:
        The model's card.
    """
    config, (game, state) = labels.resolved(build.read_config(run)), build.load(run, step=step)
    model_card = card(config, game.networks, state)
    content = packed.to_bytes(config, model_card, state, target_type=build.target_type(run), dtype=dtype)
    files.atomic_write(out, content)
    return model_card


def push(run: str | Path, to: str, *, step: int | Literal["best"] | None = None) -> str:
    """Uploads a packed run with a model page to the Hugging Face Hub.

    Args:
        run: the run's folder.
        to: hf://USER/NAME.
        step: the checkpoint: a step or "best"; defaults to the newest.

    Returns:
        The address of the model page.

    Raises:
        HubError: if the upload fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        model_card = pack(run, Path(folder) / hub.MODEL, step=step)
        (Path(folder) / "README.md").write_text(_page(model_card, to))
        return hub.push(Path(folder), to)


def _taken(card: dict[str, Any]) -> str:
    if limits := card["input"].get("range_in_files"):
        return f"with values from {values.number(limits[0])} to {values.number(limits[1])}"
    return "uint8 or floats in [-1, 1]"


def _page(card: dict[str, Any], name: str) -> str:
    return f"""---
library_name: i2i_jax
pipeline_tag: image-to-image
tags: [i2i_jax, jax, {card["model"]}]
---

A {card["model"]} model of i2i_jax, trained at {card["size"]["trained_at"]} pixels. Install `i2i-jax[hub]`; then

```python
from i2i_jax import load

model = load("{name}")
images = model(inputs, n=5, seed=0)
```

translates NumPy images of any size, {_taken(card)}. The model's card:

```json
{json.dumps(card, indent=2)}
```
"""
