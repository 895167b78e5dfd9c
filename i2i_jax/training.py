"""The training loop: steps, figures, pictures and checkpoints, so that a run that is stopped goes on as if it never was."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu.parameter_overview import count_parameters
from jax.sharding import Mesh

from i2i_jax import build, logs, parallel, processes
from i2i_jax import config as configs
from i2i_jax.checkpoints import Checkpoints
from i2i_jax.config import Config, ConfigError
from i2i_jax.data import augment, loader
from i2i_jax.objectives import Losses
from i2i_jax.report import Report, due, progress, terms, write_parameters
from i2i_jax.train_state import Game, TrainState


class Diverged(RuntimeError):
    """A loss or a parameter that is no number, named with its step."""


class Stopped(Exception):
    """Training was asked to stop before its last step; everything is saved."""


def train(config: Config, workdir: str | Path, *, command: str = "") -> TrainState:
    """Trains `config` to its last step in the folder `workdir`, from where the run there stopped, and returns the state.

    Several processes (see `processes`) all call it, with the same arguments, on a folder that all of them see.
    Raises ConfigError where `workdir` holds a run of another config, Diverged on a loss that is no number, and Stopped after
    SIGTERM or Ctrl-C. The newest good checkpoint is then there, and the same call goes on from it. `command` is what the run's
    page shows as the one that made it.
    """
    workdir, mesh = Path(workdir), parallel.make_mesh()
    processes.refuse_different({"--workdir": str(workdir.absolute()), **configs.flatten(config)})
    game, rows = build.game(config), _rows(config, mesh)
    _refuse_other_run(workdir, config)
    with processes.first_before_others():  # it may make a data set
        train_pairs, held_out = build.pairs(config, "train"), build.pairs(config, "val")
    _describe(workdir, config, command)
    saved = contextlib.closing(_checkpoints(config, workdir))
    with saved as checkpoints, _stop_signal(config) as asked_to_stop, processes.watched():
        state = _newest_state(checkpoints, config, game, mesh)
        start = int(state.step)
        if start >= config.train.steps:
            processes.say(f"nothing to do: this run is at step {start} of {config.train.steps}; it goes on with a higher train.steps")
            return state
        processes.say("parameters: " + ", ".join(f"{name} {count_parameters(of):,}" for name, of in state.params.items()))
        write_parameters(workdir, state.params)
        if start:
            processes.say(f"goes on after step {start} of {config.train.steps}")
        key = jax.random.key(config.train.seed)
        step_state = training_step(config, game, mesh)
        batches = loader.batches(
            train_pairs, load_size=config.data.load_size, batch_size=config.data.batch_size, seed=config.train.seed,
            start_step=start, rows=rows, cache_gb=config.data.cache_gb,
        )  # fmt: skip
        with Report(config, workdir, game, held_out, start) as report:
            for step in progress(start, config.train.steps):
                state, losses = step_state(state, parallel.global_batch(next(batches), mesh), key)
                stopping = asked_to_stop(step)
                saving = stopping or due(config, step, "checkpoint_every", "eval_every")
                if saving or due(config, step, "log_every", "sample_every"):
                    values = terms(losses)
                    _refuse_diverged(step, values, state, checkpoints, report)
                    metrics = report(step, state, values)
                    if saving:
                        checkpoints.save(step, state, metrics)
                if stopping and step < config.train.steps:
                    raise Stopped(f"stopped after step {step} of {config.train.steps}; the same command goes on from there")
    return state


def training_step(config: Config, game: Game, mesh: Mesh) -> Callable[..., tuple[TrainState, Losses]]:
    """(state, raw batch, key) -> (state, Losses) over the mesh: augment on the device, then one step of the game."""
    mapped = game.on_axis(parallel.AXIS)
    crop_and_flip = partial(augment.augment, crop_size=config.data.crop_size, flip=config.data.flip)

    def step(state: TrainState, raw: loader.RawBatch, key: jax.Array) -> tuple[TrainState, Losses]:
        augment_key, step_key = jax.random.split(key)
        return mapped.train_step(state, crop_and_flip(raw, jax.random.fold_in(augment_key, state.step)), step_key)

    return parallel.data_parallel(step, mesh, mode=config.train.parallel)


def _rows(config: Config, mesh: Mesh) -> np.ndarray:
    """The rows of the global batch that this process reads. Raises ConfigError where the devices cannot share the batch."""
    batch_size, devices = config.data.batch_size, mesh.size
    rows = parallel.local_rows(batch_size, mesh)
    if config.train.parallel == "pmap" and jax.process_count() > 1:
        raise ConfigError("train.parallel is 'pmap', which trains in one process: 'shard_map' does in several")
    if (batch_size // devices) % (least := configs.least_batch(config)):
        raise ConfigError(
            f"data.batch_size {batch_size} gives each of {devices} devices {batch_size // devices} pairs, and {config.objective} in "
            f"{config.train.microbatches} parts needs a multiple of {least}: make it a multiple of {least * devices}"
        )
    return rows


def _refuse_other_run(workdir: Path, config: Config) -> None:
    """Raises ConfigError where `workdir` cannot be the folder of this run."""
    for place in (workdir, *workdir.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"{place} is a file: name another --workdir")
    if (workdir / "config.json").exists():
        for name, (old, new) in configs.changed(build.read_config(workdir), config).items():
            raise ConfigError(f"{workdir} is a run with {name} {old!r}, not {new!r}: give it back its value, or name another --workdir")
    elif (workdir / "checkpoints").exists():
        raise ConfigError(f"{workdir} has checkpoints but no config.json: name another --workdir")


def _describe(workdir: Path, config: Config, command: str) -> None:
    if jax.process_index() == 0:
        logs.atomic_write(workdir / "config.json", configs.to_json(config).encode())
        if command:
            logs.atomic_write(workdir / "command.txt", f"{command}\n".encode())


def _checkpoints(config: Config, workdir: Path) -> Checkpoints:
    metric = config.eval.best_metric
    return Checkpoints(
        workdir / "checkpoints",
        keep=config.train.keep,
        best_metric=metric,
        higher_is_better=configs.HIGHER_IS_BETTER[metric],
    )


def _newest_state(checkpoints: Checkpoints, config: Config, game: Game, mesh: Mesh) -> TrainState:
    first = partial(game.init, batch=build.example_batch(config))
    key = jax.random.key(config.train.seed)
    if checkpoints.latest() is None:
        state = parallel.run_once(first, key, mesh=mesh)
        return build.start_from(config.train.start_from, state) if config.train.start_from else state
    replicated = parallel.replicated(mesh)
    template = jax.eval_shape(first, key)
    return checkpoints.restore(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), template))


def _refuse_diverged(step: int, values: dict[str, float], state: TrainState, checkpoints: Checkpoints, report: Report) -> None:
    """Raises Diverged, naming the first loss term, else the first network, that is not finite; the log keeps the losses."""
    bad = [name for name, value in values.items() if not np.isfinite(value)]
    bad += [f"a parameter of {name}" for name, finite in jax.device_get(_finite(state.params)).items() if not finite]
    if bad:
        report.log(step, values)
        good = checkpoints.latest()
        kept = f"the checkpoint of step {good} is the last good one" if good else "there is no checkpoint yet"
        raise Diverged(f"{bad[0]} is {values.get(bad[0], 'not finite')} at step {step}; {kept}; a lower optimizer.learning_rate may help")


@jax.jit
def _finite(params: dict) -> dict[str, jax.Array]:
    return {name: jnp.all(jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(p)])) for name, p in params.items()}


@contextlib.contextmanager
def _stop_signal(config: Config) -> Iterator[Callable[[int], bool]]:
    """Whether to stop after a step, because SIGTERM or Ctrl-C came; a second one acts as it always does.

    Several processes stop as one, wherever it came, at the next step at which they report or save: there they wait anyway.
    """
    came: list[int] = []

    def remember(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(number, before[number])

    def asked_to_stop(step: int) -> bool:
        if jax.process_count() == 1:
            return bool(came)
        return due(config, step, "log_every", "sample_every", "checkpoint_every", "eval_every") and processes.anywhere(bool(came))

    before: dict[int, Any] = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked_to_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
