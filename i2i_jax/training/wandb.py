"""The figures of a run at Weights & Biases (extra `wandb`)."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from i2i_jax import optional
from i2i_jax.storage import files


class TrackingError(RuntimeError):
    """Weights & Biases does not accept the run: one line that says why."""


class WandB:
    """A run in a Weights & Biases project, named after its folder; a resumed training resumes it (its id is in RUN/wandb_id.txt).

    Raises MissingExtra or TrackingError. The library's environment variables apply: WANDB_MODE=offline keeps everything in RUN/wandb.
    """

    def __init__(self, workdir: Path, *, project: str, config: dict[str, Any]):
        wandb = optional.library("wandb", "wandb")
        name = workdir / "wandb_id.txt"
        if not name.exists():
            files.atomic_write(name, secrets.token_hex(4).encode())
        run = {"name": workdir.resolve().name, "id": name.read_text(), "resume": "allow", "dir": str(workdir)}
        try:
            self._run = wandb.init(project=project, config=config, **run)
        except wandb.Error as error:
            raise TrackingError(f"train.wandb: {' '.join(str(error).split())}; WANDB_MODE=offline keeps the run here") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
