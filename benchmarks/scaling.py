"""What grows with the devices and what does not, read from compiled training steps; and how long it takes to start and to translate.

    python benchmarks/scaling.py [--parts=program,clock,start,translate] [--systems=bicycle,pix2pix] [--dataset=shapes]

`program`: collectives and FLOPs of the step on 1 to 8 virtual CPU devices, the same number of pairs on each; `--dataset=facades`
compiles the full size. `clock`: seconds of such steps, in one process and in two. The virtual devices share this machine's cores, so
that the clock says how little they wait, and nothing of accelerators. `start`: until the first step, of a new run and of one that
goes on. `translate`: images per second of the command. Prints tables and writes benchmarks/results/scaling.json.
"""

import json
import os
import re
import runpy
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tables
from absl import app, flags

from i2i_jax import config as configs
from i2i_jax import logs

_PARTS = flags.DEFINE_list("parts", ["program", "clock", "start", "translate"], "What to measure.")
_SYSTEMS = flags.DEFINE_list("systems", ["bicycle", "pix2pix"], "Files of configs/.")
_DATASET = flags.DEFINE_string("dataset", "shapes", "Whose sizes: shapes is the quickstart's, facades the originals'.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Timed steps.", lower_bound=1)
_IMAGES = flags.DEFINE_list("images", ["10", "100", "1000"], "How many to translate.")
_WORKER = flags.DEFINE_list("worker", None, "For this file's own use: SYSTEM,DEVICES,PROCESSES,PROCESS,PORT.")

ROOT = Path(__file__).parents[1]
PAIRS = 2  # on each device
COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


def collectives(program: str) -> dict[str, dict[str, int]]:
    """By kind, how many operations a compiled program has and the bytes that they result in on one device."""
    found: dict[str, dict[str, int]] = {}
    for shapes, kind in COLLECTIVE.findall(program):
        of_kind = found.setdefault(kind, {"count": 0, "bytes": 0})
        of_kind["count"] += 1
        for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            count = 1
            for size in filter(None, sizes.split(",")):
                count *= int(size)
            of_kind["bytes"] += BYTES[dtype] * count
    return found


def compiled_step(config: configs.Config, devices: int) -> Any:
    """The compiled training step on the first of all devices, from shapes alone."""
    import jax
    import numpy as np

    from i2i_jax import build, parallel, training
    from i2i_jax.data.loader import RawBatch

    mesh, game, data = parallel.make_mesh(jax.devices()[:devices]), build.game(config), config.data
    state = jax.eval_shape(game.init, jax.random.key(0), build.example_batch(config))
    pixels = (data.batch_size, data.load_size, data.load_size)
    images = (jax.ShapeDtypeStruct((*pixels, channels), np.uint8) for channels in (data.input_channels, data.target_channels))
    raw = RawBatch(*images, jax.ShapeDtypeStruct((data.batch_size,), np.int32))
    return training.training_step(config, game, mesh).lower(state, raw, jax.random.key(0)).compile()


def config_of(system: str, devices: int) -> configs.Config:
    config = runpy.run_path(str(ROOT / "configs" / f"{system}.py"))["get_config"](_DATASET.value)
    config.data.batch_size = PAIRS * devices
    return config


def measure_program(system: str) -> list[dict[str, Any]]:
    rows = []
    for devices in (1, 2, 4, 8):
        compiled = compiled_step(config_of(system, devices), devices)
        found = {"system": system, "devices": devices, "gflops_per_device": compiled.cost_analysis()["flops"] / 1e9}
        rows.append(found | {"collectives": collectives(compiled.as_text())})
    return rows
