"""Training steps of the public PyTorch code and of ours, taking turns in one run: same sizes, losses, dropout and dtype.

    python benchmarks/versus_torch.py --reference=DIR [--rounds=10] [--size=256] [--width=64]

DIR is a clone of junyanz/BicycleGAN or junyanz/pytorch-CycleGAN-and-pix2pix; which one it is decides what is compared. Prints
medians and the ratio ours / PyTorch, and writes benchmarks/results/versus_torch_SYSTEM.json.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import torch
from absl import app, flags

from i2i_jax import build, presets
from i2i_jax.config import Config
from i2i_jax.types import Batch

_REFERENCE = flags.DEFINE_string("reference", None, "A clone of one of the two public projects.", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Timed steps of each.")
_SIZE = flags.DEFINE_enum("size", "256", ["128", "256"], "Pixels.")
_WIDTH = flags.DEFINE_integer("width", 64, "Channels of every first layer.")

COMMON = {"isTrain": True, "gpu_ids": [], "name": "benchmark", "preprocess": "resize_and_crop", "direction": "AtoB", "lr": 2e-4,
          "beta1": 0.5, "input_nc": 3, "output_nc": 3, "init_gain": 0.02, "verbose": False, "model": "", "lr_policy": "linear"}  # fmt: skip


def bicycle_gan(config: Config) -> object:
    """BicycleGAN's public model with its default options."""
    from models.bicycle_gan_model import BiCycleGANModel

    size, width = config.data.crop_size, config.model.width
    return BiCycleGANModel(
        SimpleNamespace(
            **COMMON, checkpoints_dir=tempfile.mkdtemp(), batch_size=config.data.batch_size, nz=8, ngf=width, ndf=width, nef=width,
            netG=f"unet_{size}", netD=f"basic_{size}_multi", netD2=f"basic_{size}_multi", netE=f"resnet_{size}", norm="instance",
            nl="relu", use_dropout=False, init_type="xavier", upsample="basic", where_add="all", conditional_D=False, num_Ds=2,
            gan_mode="lsgan", lambda_L1=10.0, lambda_GAN=1.0, lambda_GAN2=1.0, lambda_z=0.5, lambda_kl=0.01, use_same_D=False,
            no_encode=False,
        )
    )  # fmt: skip


def pix2pix(config: Config) -> object:
    """pix2pix's public model with its default options."""
    from models.pix2pix_model import Pix2PixModel

    return Pix2PixModel(
        SimpleNamespace(
            **COMMON, checkpoints_dir=tempfile.mkdtemp(), ngf=config.model.width, ndf=config.model.width,
            netG=f"unet_{config.data.crop_size}", netD="basic", n_layers_D=3, norm="batch", no_dropout=False, init_type="normal",
            gan_mode="vanilla", lambda_L1=100.0,
        )
    )  # fmt: skip


def main(argv: list[str]) -> None:
    sys.path.insert(0, _REFERENCE.value)
    is_bicycle = (Path(_REFERENCE.value) / "models" / "bicycle_gan_model.py").exists()
    config = presets.bicycle_family("bicycle_gan", "facades") if is_bicycle else presets.pix2pix("facades")
    config.data.crop_size, config.model.width = int(_SIZE.value), _WIDTH.value
    config.model.generator, config.model.encoder = f"unet_{_SIZE.value}", f"resnet_{_SIZE.value}"
    if is_bicycle and _SIZE.value == "128":
        config.model.discriminator_layers = 2
    torch.set_num_threads(os.cpu_count() or 1)
    theirs = _torch_step((bicycle_gan if is_bicycle else pix2pix)(config), config)
    ours = _jax_step(config)
    seconds = {"torch": [], "jax": []}
    for _ in range(_ROUNDS.value):
        seconds["torch"].append(_timed(theirs))
        seconds["jax"].append(_timed(ours))
    _report(config, seconds)


def _images(config: Config) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shape = (config.data.batch_size, config.data.crop_size, config.data.crop_size, 3)
    return [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(2)]


def _torch_step(model: object, config: Config) -> Callable[[], None]:
    a, b = (torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in _images(config))

    def step() -> None:
        model.set_input({"A": a, "B": b, "A_paths": "", "B_paths": ""})
        model.optimize_parameters()

    step()
    return step


def _jax_step(config: Config) -> Callable[[], None]:
    game, batch, key = build.game(config), Batch(*(jax.device_put(x) for x in _images(config))), jax.random.key(0)
    state = jax.jit(game.init)(key, batch)
    start = time.perf_counter()
    run = jax.jit(game.train_step, donate_argnums=0).lower(state, batch, key).compile()
    print(f"compiled in {time.perf_counter() - start:.1f} s, {run.cost_analysis()['flops'] / 1e9:.1f} GFLOP a step")

    def step() -> None:
        nonlocal state
        state, _ = run(state, batch, key)
        jax.block_until_ready(state)

    step()
    return step


def _timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _report(config: Config, seconds: dict[str, list[float]]) -> None:
    ratios = sorted(ours / theirs for ours, theirs in zip(seconds["jax"], seconds["torch"], strict=True))
    result = {
        "system": config.objective,
        "size": config.data.crop_size,
        "batch": config.data.batch_size,
        "width": config.model.width,
        "rounds": len(ratios),
        "torch_seconds": statistics.median(seconds["torch"]),
        "jax_seconds": statistics.median(seconds["jax"]),
        "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
    }
    path = Path(__file__).parent / "results" / f"versus_torch_{config.objective}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    app.run(main)
