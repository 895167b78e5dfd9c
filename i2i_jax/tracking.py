"""A run's losses at Weights & Biases, which is optional."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from i2i_jax import extras, logs


class WandB:
    """A run of a project there, under the name of its folder; a training that goes on, goes on with it (RUN/wandb_id.txt).

    Raises MissingExtra. Its own variables apply: WANDB_MODE=offline keeps everything in RUN/wandb.
    """

    def __init__(self, workdir: Path, *, project: str, config: dict[str, Any]):
        wandb = extras.library("wandb", "wandb")
        name = workdir / "wandb_id.txt"
        if not name.exists():
            logs.atomic_write(name, secrets.token_hex(4).encode())
        self._run = wandb.init(
            project=project, name=workdir.resolve().name, id=name.read_text(), resume="allow", dir=str(workdir), config=config
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
