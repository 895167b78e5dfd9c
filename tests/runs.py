"""Small runs for tests: networks of width 2 on 64-pixel images, a few steps."""

from pathlib import Path
from typing import Any

import jax

from i2i_jax import configs, training
from i2i_jax.config import Config, override
from i2i_jax.train_state import TrainState

CONFIGS = Path(__file__).parents[1] / "configs"

TINY = {
    "model.width": 2,
    "data.load_size": 64,
    "data.crop_size": 64,
    "data.batch_size": 2,
    "train.steps": 2,
    "train.log_every": 1,
    "train.sample_every": 2,
    "train.checkpoint_every": 2,
    "train.eval_every": 2,
    "train.samples": 2,
    "eval.inputs": 2,
    "eval.samples": 2,
}
TINY_NETWORKS = {"model.generator": "unet_64", "model.encoder": "resnet_64", "model.discriminator_layers": 2}
ORIGINAL = {"model.upsample": "transposed", "model.posterior_std": 0.0}  # the public code's networks, where the preset has others

OF_16_PIXELS = {
    "data.load_size": 16, "data.crop_size": 16, "model.encoder": "conv_64", "model.discriminator_layers": 1,
    "model.discriminator_scales": 2,
}  # fmt: skip


def get_config(name: str, dataset: str = "shapes") -> Config:
    """The config of --config=NAME:DATASET."""
    return configs.read(f"{name}:{dataset}")


def tiny(name: str, path: Path, options: dict[str, Any] | None = None, *, dataset: str = "shapes") -> Config:
    """A config for a run of two steps on the data at `path`."""
    return override(get_config(name, dataset), TINY | TINY_NETWORKS | {_path_option(dataset): str(path)} | (options or {}))


def _path_option(dataset: str) -> str:
    return "data.path" if dataset == "folder" else "data.prepared_dir"


def as_flags(options: dict[str, Any]) -> list[str]:
    return [f"--config.{name}={value}" for name, value in options.items()]


def train(config: Config, workdir: Path) -> TrainState:
    """Trains on one device."""
    return training.train(config, workdir, devices=jax.devices()[:1])
