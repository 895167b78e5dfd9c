"""The training loop: resume, step, report, save."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from clu.parameter_overview import count_parameters

from i2i_jax import build
from i2i_jax.config import Config
from i2i_jax.devices import parallel, processes
from i2i_jax.train_state import TrainState
from i2i_jax.training import nonfinite, profile, run_folder, stop
from i2i_jax.training.pieces import Pieces, newest_state, training_step
from i2i_jax.training.report import Report, is_due, progress, terms
from i2i_jax.training.speed import Speed
from i2i_jax.training.stop import Stopped


def train(config: Config, workdir: str | Path, *, command: str = "", devices: Sequence[Any] | None = None) -> TrainState:
    """Trains `config` to its last step in the folder `workdir`, resuming the run there at its newest checkpoint.

    Several processes (see `devices.processes`) all call it, with the same arguments, on a folder that all of them see.

    Args:
        config: what to train; only options marked resumable may differ from those that the run began with.
        workdir: the run's folder; it is made if it does not exist.
        command: the command line, recorded in RUN/command.txt and shown on the run's page.
        devices: the devices to use, default all; as many are used as the batch can be split over.

    Returns:
        The state after the last step, replicated over the devices.

    Raises:
        ConfigError: `workdir` holds a run of another config, or another process trains there.
        Diverged: a loss, a parameter or an optimizer's moment is NaN or Inf; the newest checkpoint is finite.
        Stopped: SIGTERM or Ctrl-C came; everything is saved, and the same call resumes the run.
    """
    workdir = Path(workdir)
    config = run_folder.agreed_config(workdir, config)
    pieces = Pieces.build(config, workdir, jax.devices() if devices is None else devices)
    with (
        run_folder.claim(workdir, config, command),
        run_folder.open_checkpoints(workdir, config) as checkpoints,
        stop.listening(config) as should_stop,
        processes.exiting_if_another_is_gone(),
    ):
        state = newest_state(checkpoints, config, pieces.game, pieces.mesh)
        start, total = int(state.step), config.train.steps
        if start >= total:
            processes.print_once(f"nothing to do: this run is at step {start} of {total}; a higher train.steps continues it")
            return state
        processes.on_all(lambda: _introduce(pieces, state))
        key = parallel.jit_replicated(lambda: jax.random.key(config.train.seed), mesh=pieces.mesh)
        batches = pieces.batches(start)
        steps = profile.traced(progress(start, total), config, workdir, wait=lambda: jax.block_until_ready(state))
        with (
            Speed(training_step(config, pieces.game, pieces.mesh), config, pieces.mesh) as step_fn,
            processes.on_all(lambda: Report(pieces, start, step_fn)) as report,
            contextlib.closing(steps),
        ):
            next_batch = next(batches)
            for step in steps:
                batch, previous = next_batch, jax.tree.map(jnp.copy, state) if config.train.debug_nans else None
                state, losses = step_fn(state, batch, key)
                if step < total:
                    next_batch = next(batches)  # moves to the devices while they compute
                stopping = should_stop(step)
                saving = stopping or is_due(config, step, "checkpoint_every", "eval_every")
                reporting = saving or is_due(config, step, "log_every", "sample_every")
                if reporting or config.train.debug_nans:
                    values = terms(losses)
                    if bad := nonfinite.names(values, state):
                        report.log(step, values)
                        bad += nonfinite.gradient_names(pieces, previous, batch, key)
                        raise processes.raised_by_all(nonfinite.diverged(bad, step, checkpoints.latest(), config))
                if reporting:
                    metrics = report(step, state, values)
                if saving:
                    checkpoints.save(step, state, metrics)
                if stopping and step < total:
                    raise Stopped(f"stopped after step {step} of {total}; the same command resumes it")
    return state


def _introduce(pieces: Pieces, state: TrainState) -> None:
    """Prints what is trained and from where, and records it in the run's folder."""
    config, start = pieces.config, int(state.step)
    run_folder.keep_splits(pieces.workdir, config, pieces.splits_before, pieces.splits, pieces.train_pairs)
    processes.print_once("parameters: " + ", ".join(f"{name} {count_parameters(params):,}" for name, params in state.params.items()))
    run_folder.write_parameters(pieces.workdir, state.params)
    if start:
        processes.print_once(f"resumes after step {start} of {config.train.steps}")
        _announce_learning_rate(pieces, start)
    else:
        run_folder.announce_pairs(config, pieces.train_pairs, pieces.listing)


def _announce_learning_rate(pieces: Pieces, start: int) -> None:
    """Prints the jump of the learning rate if train.steps was raised, which moves the run back in its schedule."""
    old, new, schedule = pieces.config_before, pieces.config, pieces.learning_rate
    last_old, old_end = build.learning_rate(old), min(start, old.train.steps - 1)
    was, would_be, now = (float(jax.device_get(rate)) for rate in (last_old(start - 1), last_old(old_end), schedule(start)))
    if abs(now - would_be) > 0.01 * new.optimizer.learning_rate:
        steps = f"train.steps is {new.train.steps} and no longer {old.train.steps}"
        options = f"--config=finetune:{pieces.workdir} --config.optimizer.learning_rate=RATE --workdir=NEW"
        change = f"the learning rate goes from {was:.1e} to {now:.1e}, since {steps}"
        processes.print_once(f"{change}; to choose it, {options} starts another run with its networks")
