"""The speed of the public PyTorch code and ours, taking turns in one run, with equal sizes, losses, dropout and number format.

    python benchmarks/versus_torch.py --reference=DIR [--batch=2 --size=256 --width=64 --rounds=10]
    python benchmarks/versus_torch.py --reference=DIR --task=translate [--samples=20]

DIR is a clone of junyanz/BicycleGAN or junyanz/pytorch-CycleGAN-and-pix2pix, whose system is compared. `train` times a training step,
`translate` samples of one input. On a GPU the PyTorch code is also run as its users would speed it up (channels last, bfloat16 autocast,
without and with torch.compile), and ours in bfloat16. Needs the extra `torch`.
"""

import contextlib
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lists
import numpy as np
import tables
import timing
import torch
from absl import flags

from i2i_jax import build, presets, sampling
from i2i_jax.commands import app
from i2i_jax.commands.app import keep_freed_memory
from i2i_jax.config import Config
from i2i_jax.devices import parallel
from i2i_jax.types import Batch

_REFERENCE = flags.DEFINE_string("reference", None, "A clone of one of the two public projects.", required=True)
_TASK = flags.DEFINE_enum("task", "train", ["train", "translate"], "Task to time.")
_BATCH = flags.DEFINE_integer("batch", None, "Pairs per step (default: as in the papers).", lower_bound=1)
_SAMPLES = flags.DEFINE_integer("samples", 20, "Translations of one input.", lower_bound=1)
_SIZE = flags.DEFINE_enum("size", "256", ["128", "256"], "Side of the images in pixels.")
_WIDTH = flags.DEFINE_integer("width", 64, "Channels of each network's first layer.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Timed runs of each.", lower_bound=1)
_IN_A_ROW = flags.DEFINE_integer("in_a_row", 1, "Training steps of a timed run, which waits for the last one only.", lower_bound=1)
_VARIANTS = flags.DEFINE_list("variants", None, "What to time beside PyTorch (default: ours, and on a GPU all): ours, and in bfloat16 "
                              "torch_bfloat16, torch_compiled and ours_bfloat16.")  # fmt: skip

EAGER = "PyTorch"
VARIANTS = {
    "ours": "ours",
    "torch_bfloat16": "PyTorch, bfloat16",
    "torch_compiled": "PyTorch, compiled, bfloat16",
    "ours_bfloat16": "ours, bfloat16",
}


def bicycle_gan(config: Config, options: dict[str, Any]) -> Any:
    """The public BicycleGAN model with its default options."""
    from models.bicycle_gan_model import BiCycleGANModel

    size, width = config.data.crop_size, config.model.width
    return BiCycleGANModel(
        SimpleNamespace(
            **options, batch_size=config.data.batch_size, nz=8, ngf=width, ndf=width, nef=width,
            netG=f"unet_{size}", netD=f"basic_{size}_multi", netD2=f"basic_{size}_multi", netE=f"resnet_{size}", norm="instance",
            nl="relu", use_dropout=False, init_type="xavier", upsample="basic", where_add="all", conditional_D=False, num_Ds=2,
            gan_mode="lsgan", lambda_L1=10.0, lambda_GAN=1.0, lambda_GAN2=1.0, lambda_z=0.5, lambda_kl=0.01, use_same_D=False,
            no_encode=False,
        )
    )  # fmt: skip


def pix2pix(config: Config, options: dict[str, Any]) -> Any:
    """The public pix2pix model with its default options."""
    from models.pix2pix_model import Pix2PixModel

    return Pix2PixModel(
        SimpleNamespace(
            **options, ngf=config.model.width, ndf=config.model.width, netG=f"unet_{config.data.crop_size}", netD="basic", n_layers_D=3,
            norm="batch", no_dropout=False, init_type="normal", gan_mode="vanilla", lambda_L1=100.0,
        )
    )  # fmt: skip


def config_of(is_bicycle: bool, *, dtype: str = "float32") -> Config:
    config = presets.bicycle_family("bicycle_gan", "facades") if is_bicycle else presets.pix2pix("facades")
    config.data.crop_size, config.data.batch_size = int(_SIZE.value), _BATCH.value or config.data.batch_size
    config.model.generator, config.model.encoder = f"unet_{_SIZE.value}", f"resnet_{_SIZE.value}"
    config.model.width, config.model.dtype = _WIDTH.value, dtype
    if is_bicycle and _SIZE.value == "128":
        config.model.discriminator_layers = 2
    return config


class Job(NamedTuple):
    """The work that both do: `task` is train or translate, `reference` the clone of the public code."""

    task: str
    config: Config
    samples: int
    reference: str
    in_a_row: int = 1  # training steps of a run

    def images(self) -> list[np.ndarray]:
        """Input and target, [b, h, w, 3]."""
        random, data = np.random.default_rng(0), self.config.data
        shape = (data.batch_size if self.task == "train" else 1, data.crop_size, data.crop_size, 3)
        return [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(2)]


def theirs(job: Job, *, bfloat16: bool = False, compiled: bool = False) -> timing.Run:
    """The PyTorch run. `bfloat16`: autocast, channels last; `compiled`: torch.compile."""
    sys.path.insert(0, job.reference)
    torch.set_num_threads(os.cpu_count() or 1)
    gpu = torch.cuda.is_available()
    options = {"isTrain": True, "gpu_ids": [0] if gpu else [], "name": "benchmark", "checkpoints_dir": tempfile.mkdtemp(), "lr": 2e-4,
               "preprocess": "resize_and_crop", "direction": "AtoB", "beta1": 0.5, "input_nc": 3, "output_nc": 3, "init_gain": 0.02,
               "verbose": False, "model": "", "lr_policy": "linear"}  # fmt: skip
    model = (bicycle_gan if job.config.objective == "bicycle_gan" else pix2pix)(job.config, options)
    for name in model.model_names if bfloat16 else ():
        network = getattr(model, f"net{name}").to(memory_format=torch.channels_last)
        # torch.compile leaves DataParallel, in which the public code wraps its networks, as it is.
        setattr(model, f"net{name}", torch.compile(getattr(network, "module", network)) if compiled else network)
    a, b = (torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in job.images())
    images = {"A": a, "B": b, "A_paths": "", "B_paths": ""}

    def run() -> None:
        with torch.autocast("cuda" if gpu else "cpu", torch.bfloat16) if bfloat16 else contextlib.nullcontext():
            if job.task == "train":
                for _ in range(job.in_a_row):
                    model.set_input(images)
                    model.optimize_parameters()
            else:
                model.set_input(images)
                for _ in range(job.samples):  # one at a time, as in its test script
                    model.test()
        if gpu:
            torch.cuda.synchronize()

    return run


def ours(job: Job) -> timing.Run:
    keep_freed_memory()  # as every command does
    game, key, mesh = build.game(job.config), jax.random.key(0), parallel.make_mesh(jax.devices()[:1])
    state = parallel.jit_replicated(game.init, key, build.example_batch(job.config), mesh=mesh)
    batch = Batch(*map(jnp.asarray, job.images()))
    step = parallel.data_parallel(game.on_axis(parallel.AXIS).train_step, mesh)
    translate = jax.jit(lambda state, z: sampling.translate(game.networks, state, batch.input, z, key, mode=build.mode(job.config)))
    z = sampling.latents(key, 1, job.samples, game.networks.latent_dim)

    def train() -> None:
        nonlocal state
        for _ in range(job.in_a_row):
            state, losses = step(state, batch, key)
        jax.block_until_ready((state, losses))

    return train if job.task == "train" else lambda: jax.block_until_ready(translate(state, z))


def main(argv: list[str]) -> None:
    is_bicycle = (Path(_REFERENCE.value) / "models" / "bicycle_gan_model.py").exists()
    job = Job(_TASK.value, config_of(is_bicycle), _SAMPLES.value, _REFERENCE.value, _IN_A_ROW.value)
    in_bfloat16 = job._replace(config=config_of(is_bicycle, dtype="bfloat16"))
    beside = {
        "ours": partial(ours, job),
        "torch_bfloat16": partial(theirs, job, bfloat16=True),
        "torch_compiled": partial(theirs, job, bfloat16=True, compiled=True),
        "ours_bfloat16": partial(ours, in_bfloat16),
    }
    chosen = lists.names(_VARIANTS, beside) if _VARIANTS.value or torch.cuda.is_available() else ["ours"]
    makers = {EAGER: partial(theirs, job)} | {VARIANTS[name]: beside[name] for name in chosen}
    measured = timing.in_turns(makers, rounds=_ROUNDS.value)
    ratios = {name: timing.ratios(found, measured[EAGER]) for name, found in measured.items()}
    images = f"{job.config.data.crop_size}² x {job.config.data.batch_size if job.task == 'train' else job.samples}"
    table = tables.lines(
        [f"{job.config.objective}, {job.task}, {images}", "milliseconds", f"fraction of {EAGER}'s time", "rounds"],
        [[name, timing.shown(timing.spread(x), unit=1e-3), timing.shown(ratios[name]), len(x)] for name, x in measured.items()],
    )
    timing.write(f"versus_torch_{job.config.objective}_{job.task}", {"seconds": measured, "ratios": ratios}, table, "torch")


if __name__ == "__main__":
    app.start(main)
