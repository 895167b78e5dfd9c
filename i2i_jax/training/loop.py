"""The training loop: steps, figures, pictures and checkpoints, so that a run that is stopped goes on as if it never was."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from clu.parameter_overview import count_parameters
from jax.sharding import Mesh

from i2i_jax import build, optional
from i2i_jax import config as configs
from i2i_jax.config import Config, ConfigError
from i2i_jax.data import augment, loader, splits
from i2i_jax.data.pairs import Pairs
from i2i_jax.data.splits import Splits
from i2i_jax.devices import parallel, processes
from i2i_jax.storage import files
from i2i_jax.storage.checkpoints import Checkpoints
from i2i_jax.train_state import Game, TrainState
from i2i_jax.training import nonfinite
from i2i_jax.training.nonfinite import Diverged
from i2i_jax.training.report import Report, is_due, progress, terms, write_parameters

AT_ONCE = b"\nstops after this step, or its evaluation, and saves; Ctrl-C again ends at once and saves nothing\n"


class Stopped(Exception):
    """Training was asked to stop before its last step; everything is saved."""


def train(config: Config, workdir: str | Path, *, command: str = "", devices: Sequence[Any] | None = None) -> TrainState:
    """Trains `config` to its last step in the folder `workdir`, from where the run there stopped, and returns the state.

    Of `devices` (default: all) as many are used as the batch can be dealt to. Several processes (see `processes`) all call it, with
    the same arguments, on a folder that all of them see.
    Raises ConfigError where `workdir` holds a run of another config or is in use, Diverged on what is no number, and Stopped after
    SIGTERM or Ctrl-C. The newest good checkpoint is then there, and the same call goes on from it. `command` is what the run's
    page shows as the one that made it.
    """
    workdir = Path(workdir)
    processes.refuse_different({"the code": processes.code(), "--workdir": str(workdir.absolute()), **configs.flatten(config)})
    game, mesh = processes.agreed(lambda: _checked(config, workdir, jax.devices() if devices is None else devices))
    before, now, train_pairs, held_out = processes.first_then_others(lambda: _pairs(workdir, config))
    old = processes.agreed(lambda: build.read_config(workdir) if (workdir / "config.json").exists() else config)
    taken = _taken(workdir, config, command)
    with taken, _checkpoints(config, workdir) as checkpoints, _stop_signal(config) as asked_to_stop, processes.watched():
        state = _newest_state(checkpoints, config, game, mesh)
        start = int(state.step)
        if start >= config.train.steps:
            processes.say(f"nothing to do: this run is at step {start} of {config.train.steps}; it goes on with a higher train.steps")
            return state
        processes.agreed(lambda: _keep_splits(workdir, config, before, now, train_pairs))
        processes.say("parameters: " + ", ".join(f"{name} {count_parameters(of):,}" for name, of in state.params.items()))
        processes.agreed(lambda: write_parameters(workdir, state.params))
        if start:
            processes.say(f"goes on after step {start} of {config.train.steps}")
            _say_of_the_rate(workdir, old, config, start)
        key = jax.random.key(config.train.seed)
        step_state = training_step(config, mesh)
        batches = loader.batches(
            train_pairs, load_size=config.data.load_size, batch_size=config.data.batch_size, seed=config.train.seed,
            start_step=start, rows=parallel.local_rows(config.data.batch_size, mesh), cache_gb=config.data.cache_gb,
        )  # fmt: skip
        with processes.agreed(lambda: Report(config, workdir, game, held_out, start, mesh)) as report:
            for step in progress(start, config.train.steps):
                batch = parallel.global_batch(next(batches), mesh)
                before = jax.tree.map(jnp.copy, state) if config.train.debug_nans else None
                state, losses = step_state(state, batch, key)
                stopping = asked_to_stop(step)
                saving = stopping or is_due(config, step, "checkpoint_every", "eval_every")
                reporting = saving or is_due(config, step, "log_every", "sample_every")
                if reporting or config.train.debug_nans:
                    values = terms(losses)
                    if bad := nonfinite.not_finite(values, state):
                        report.log(step, values)
                        bad += _nonfinite_gradients(config, mesh, before, batch, key) if before is not None else []
                        raise processes.everywhere(Diverged(_diverged(bad, step, checkpoints, config)))
                if reporting:
                    metrics = report(step, state, values)
                    if saving:
                        checkpoints.save(step, state, metrics)
                if stopping and step < config.train.steps:
                    raise Stopped(f"stopped after step {step} of {config.train.steps}; the same command goes on from there")
    return state


def _checked(config: Config, workdir: Path, devices: Sequence[Any]) -> tuple[Game, Mesh]:
    """Before anything is computed. Raises ConfigError or MissingExtra."""
    game, mesh = build.game(config), _mesh(config, devices)
    _refuse_other_run(workdir, config)
    if config.train.wandb:
        optional.library("wandb", "wandb")
    return game, mesh


def _pairs(workdir: Path, config: Config) -> tuple[Splits | None, Splits | None, Pairs, Pairs]:
    """Which pairs of a folder the run in `workdir` trained on and held out, and which it does now (None of other sets); both of these."""
    before = now = None
    if config.data.name == "folder" and config.data.path:
        before = splits.read(workdir)
        now = splits.of_folder(Path(config.data.path).expanduser(), val_fraction=config.data.val_fraction, before=before)
    train, val = (build.pairs(config, split, held_out=None if now is None else now.val.keys()) for split in ("train", "val"))
    return before, now, train, val


def _keep_splits(workdir: Path, config: Config, before: Splits | None, now: Splits | None, pairs: Pairs) -> None:
    """So that the run holds out the same pairs for ever. What has changed in the folder is said."""
    if now is None or jax.process_index() != 0:
        return
    now = dataclasses.replace(now, size=pairs[0].input.shape[:2])
    if before is not None and (changes := list(splits.changes(before, now))):
        stay = f"held out are {len(now.val)}, trained on {len(now.train)}"
        processes.say(f"{config.data.path} is not as it was when this run began: {'; '.join(changes)}; {stay}")
    splits.keep(workdir, now, before)


def _say_of_the_rate(workdir: Path, old: Config, new: Config, start: int) -> None:
    """A run that is given more steps falls back to an earlier point of its schedule."""
    times = (old, start - 1), (old, min(start, old.train.steps - 1)), (new, start)
    was, would_be, is_now = (float(jax.device_get(build.learning_rate(config)(step))) for config, step in times)
    if abs(is_now - would_be) > 0.01 * new.optimizer.learning_rate:
        steps = f"train.steps is {new.train.steps} and no longer {old.train.steps}"
        way = f"--config=finetune:{workdir} --config.optimizer.learning_rate=RATE --workdir=NEW starts another run with its networks"
        processes.say(f"the learning rate goes from {was:.1e} to {is_now:.1e}, since {steps}; to choose it, {way}")


def training_step(config: Config, mesh: Mesh, step_fn: Callable = Game.train_step) -> Callable[..., tuple[TrainState, Any]]:
    """(state, raw batch, key) -> (state, Losses) over the mesh: augment on the device, then one step of the game, by `step_fn`."""
    mapped = build.game(config).on_axis(parallel.AXIS)
    crop_and_flip = partial(augment.augment, crop_size=config.data.crop_size, flip=config.data.flip)

    def step(state: TrainState, raw: loader.RawBatch, key: jax.Array) -> tuple[TrainState, Any]:
        augment_key, step_key = jax.random.split(key)
        return step_fn(mapped, state, crop_and_flip(raw, jax.random.fold_in(augment_key, state.step)), step_key)

    return parallel.data_parallel(step, mesh, mode=config.train.parallel)


def _mesh(config: Config, devices: Sequence[Any]) -> Mesh:
    """The devices that share the batch: one process uses the most that can, several need all of theirs. Raises ConfigError."""
    if jax.process_count() > 1 and config.train.parallel == "pmap":
        raise ConfigError("train.parallel is 'pmap', which trains in one process: 'shard_map' does in several")
    batch_size, least, there = config.data.batch_size, configs.least_batch(config), len(devices)
    used = max(number for number in range(1, there + 1) if batch_size % (least * number) == 0)
    if used < there:
        for_all = configs.batch_for(config, there)
        if jax.process_count() > 1:
            raise ConfigError(f"data.batch_size {batch_size} cannot be dealt to the {there} devices of all processes: {for_all} can")
        why = f"since data.batch_size is {batch_size}"
        processes.say(f"trains on {used} of {there} devices, {why}: data.batch_size={for_all} would use all")
    return parallel.make_mesh(devices[:used])


def _refuse_other_run(workdir: Path, config: Config) -> None:
    """Raises ConfigError where `workdir` cannot be the folder of this run."""
    for place in (workdir, *workdir.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"{place} is a file: name another --workdir")
    if (workdir / "config.json").exists():
        for name, (old, new) in configs.changed(build.read_config(workdir), config).items():
            anew = f"--config=finetune:{workdir} --config.{name}={new} --workdir=NEW starts another with its networks"
            raise ConfigError(
                f"{workdir} is a run with {name} {old!r}, not {new!r}: give it back its value, or name another --workdir; {anew}"
            )
    elif (workdir / "checkpoints").exists():
        raise ConfigError(f"{workdir} has checkpoints but no config.json: name another --workdir")


@contextlib.contextmanager
def _taken(workdir: Path, config: Config, command: str) -> Iterator[None]:
    """Inside, `workdir` is this run's alone and says what it is. Raises ConfigError where another process trains there."""
    with contextlib.ExitStack() as stack:

        def take() -> None:
            try:
                stack.enter_context(files.lock(workdir / ".lock"))
            except files.Taken as taken:
                raise ConfigError(f"{workdir} is being trained by {taken}: wait for it, or name another --workdir") from None
            _refuse_other_run(workdir, config)  # by now it may be one
            files.sweep(workdir)
            files.sweep(workdir / "samples")
            files.atomic_write(workdir / "config.json", configs.to_json(config).encode())
            if command:
                files.atomic_write(workdir / "command.txt", f"{command}\n".encode())

        processes.agreed(lambda: take() if jax.process_index() == 0 else None)
        yield


def _checkpoints(config: Config, workdir: Path) -> contextlib.closing[Checkpoints]:
    metric = config.eval.best_metric
    higher = configs.HIGHER_IS_BETTER[metric]
    return contextlib.closing(Checkpoints(workdir / "checkpoints", keep=config.train.keep, best_metric=metric, higher_is_better=higher))


def _newest_state(checkpoints: Checkpoints, config: Config, game: Game, mesh: Mesh) -> TrainState:
    first = partial(game.init, batch=build.example_batch(config))
    key = jax.random.key(config.train.seed)
    if checkpoints.latest() is None:
        state = parallel.jit_replicated(first, key, mesh=mesh)
        return processes.agreed(lambda: build.start_from(config, state)) if config.train.start_from else state
    replicated = parallel.replicated(mesh)
    template = jax.eval_shape(first, key)
    return checkpoints.restore(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), template))


def _nonfinite_gradients(config: Config, mesh: Mesh, before: TrainState, batch: loader.RawBatch, key: jax.Array) -> list[str]:
    """The gradients of a step that are not finite."""
    _, finite = training_step(config, mesh, nonfinite.gradients)(before, batch, key)
    return [f"the gradient of {name} is not finite" for name, flag in jax.device_get(finite).items() if flag < 1]


def _diverged(bad: list[str], step: int, checkpoints: Checkpoints, config: Config) -> str:
    good = checkpoints.latest()
    kept = f"the checkpoint of step {good} is the last good one" if good else "there is no checkpoint yet"
    closer = "" if config.train.debug_nans else "train.debug_nans=True goes on from there and names the first step and the gradient; "
    return f"{', '.join(bad)} at step {step}; {kept}; {closer}a lower optimizer.learning_rate may help"


@contextlib.contextmanager
def _stop_signal(config: Config) -> Iterator[Callable[[int], bool]]:
    """Whether to stop after a step, because SIGTERM or Ctrl-C came; a second one acts as it always does.

    Several processes stop as one, wherever it came, at the next step at which they report or save: there they wait anyway.
    """
    came: list[int] = []

    def remember(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(number, before[number])
        if number == signal.SIGINT:
            os.write(2, AT_ONCE)  # a print may be under way

    def asked_to_stop(step: int) -> bool:
        if jax.process_count() == 1:
            return bool(came)
        return is_due(config, step, "log_every", "sample_every", "checkpoint_every", "eval_every") and processes.anywhere(bool(came))

    before: dict[int, Any] = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked_to_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
