"""The training loop: steps, figures, pictures and checkpoints, so that a run that is stopped goes on as if it never was."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from i2i_jax import build, config as configs, evaluation, logs, page, parallel
from i2i_jax.checkpoints import Checkpoints
from i2i_jax.config import Config, ConfigError
from i2i_jax.data import augment, loader
from i2i_jax.objectives import Losses
from i2i_jax.train_state import Game, TrainState

GRID_INPUTS = 6
PAGE_EVERY = 30.0  # seconds


class Diverged(RuntimeError):
    """A loss or a parameter that is no number, named with its step."""


class Stopped(Exception):
    """Training was asked to stop before its last step; everything is saved."""


def train(config: Config, workdir: str | Path, *, command: str = "") -> TrainState:
    """Trains `config` to its last step in the folder `workdir`, from where the run there stopped, and returns the state.

    Raises ConfigError where `workdir` holds a run of another config, Diverged on a loss that is no number, and Stopped after
    SIGTERM or Ctrl-C. The newest good checkpoint is then there, and the same call goes on from it. `command` is what the run's
    page shows as the one that made it.
    """
    workdir, mesh = Path(workdir), parallel.make_mesh()
    game, train_pairs, held_out = build.game(config), build.pairs(config, "train"), build.pairs(config, "val")
    rows = parallel.local_rows(config.data.batch_size, mesh)
    _claim(workdir, config, command)
    with contextlib.closing(_checkpoints(config, workdir)) as checkpoints, _stop_signal() as asked_to_stop:
        state = _newest_state(checkpoints, config, game, mesh)
        start = int(state.step)
        key = jax.random.key(config.train.seed)
        step_state = training_step(config, game, mesh)
        batches = loader.batches(
            train_pairs, load_size=config.data.load_size, batch_size=config.data.batch_size, seed=config.train.seed,
            start_step=start, rows=rows, cache_gb=config.data.cache_gb,
        )  # fmt: skip
        with _Report(config, workdir, game, held_out, start) as report:
            for step in range(start + 1, config.train.steps + 1):
                state, losses = step_state(state, parallel.global_batch(next(batches), mesh), key)
                metrics = report(step, state, losses)
                if metrics or asked_to_stop() or step % config.train.checkpoint_every == 0:
                    _refuse_diverged(step, losses, state, checkpoints)
                    checkpoints.save(step, state, metrics)
                if asked_to_stop() and step < config.train.steps:
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


def _claim(workdir: Path, config: Config, command: str) -> None:
    """Makes `workdir` the folder of this run. Raises ConfigError, and changes nothing, where it is another run's."""
    path = workdir / "config.json"
    if path.exists():
        for name, (old, new) in configs.changed(build.read_config(workdir), config).items():
            raise ConfigError(f"{workdir} is a run with {name} {old!r}, not {new!r}: give it back its value, or name another --workdir")
    elif (workdir / "checkpoints").exists():
        raise ConfigError(f"{workdir} has checkpoints but no config.json: name another --workdir")
    if jax.process_index() == 0:
        logs.atomic_write(path, configs.to_json(config).encode())
        if command:
            logs.atomic_write(workdir / "command.txt", f"{command}\n".encode())


def _checkpoints(config: Config, workdir: Path) -> Checkpoints:
    metric = config.eval.best_metric
    return Checkpoints(
        workdir / "checkpoints",
        keep=config.train.keep,
        best_metric=metric,
        higher_is_better=evaluation.HIGHER_IS_BETTER[metric],
    )


def _newest_state(checkpoints: Checkpoints, config: Config, game: Game, mesh: Mesh) -> TrainState:
    first = partial(game.init, batch=build.example_batch(config))
    key = jax.random.key(config.train.seed)
    replicated = parallel.replicated(mesh)
    if checkpoints.latest() is None:
        return jax.jit(first, out_shardings=replicated)(key)
    template = jax.eval_shape(first, key)
    return checkpoints.restore(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), template))


def _refuse_diverged(step: int, losses: Losses, state: TrainState, checkpoints: Checkpoints) -> None:
    """Raises Diverged, naming the first loss term, else the first network, that is not finite."""
    terms = _terms(losses)
    bad = [name for name, value in terms.items() if not np.isfinite(value)]
    bad += [f"a parameter of {name}" for name, finite in jax.device_get(_finite(state.params)).items() if not finite]
    if bad:
        good = checkpoints.latest()
        kept = f"the checkpoint of step {good} is the last good one" if good else "there is no checkpoint yet"
        raise Diverged(f"{bad[0]} is {terms.get(bad[0], 'not finite')} at step {step}; {kept}; a lower optimizer.learning_rate may help")


@jax.jit
def _finite(params: dict) -> dict[str, jax.Array]:
    return {name: jnp.all(jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(p)])) for name, p in params.items()}


def _terms(losses: Losses) -> dict[str, float]:
    values = jax.device_get(losses)
    return {f"{player}/{name}": float(value) for player, terms in values._asdict().items() for name, value in terms.items()}


@contextlib.contextmanager
def _stop_signal() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or Ctrl-C came; a second one acts as it always does."""
    came = []

    def remember(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Report(contextlib.AbstractContextManager):
    """What a run shows of itself at its intervals; only process 0 writes."""

    def __init__(self, config: Config, workdir: Path, game: Game, held_out: loader.Pairs, start: int):
        self._config, self._workdir, self._chief = config, workdir, jax.process_index() == 0
        cases = partial(evaluation.cases, game.networks, build.mode(config), held_out, size=config.data.crop_size)
        # Without z and without dropout all translations of an input are the same.
        several = bool(game.networks.latent_dim or config.sampling.dropout)
        self._grid_cases = cases(inputs=GRID_INPUTS, samples=config.train.samples if several else 1)
        self._eval_cases = cases(inputs=config.eval.inputs, samples=config.eval.samples if several else 1)
        self._learning_rate = build.learning_rate(config)
        self._log = logs.RunLog(workdir, total_steps=config.train.steps, start_step=start, batch_size=config.data.batch_size)
        self._page_written = time.monotonic()

    def __call__(self, step: int, state: TrainState, losses: Losses) -> dict[str, float]:
        """Logs, samples and evaluates where `step` is due for it or the last; returns the evaluation's figures, if any.

        What it writes at a step is the same whether the run was stopped in between or not.
        """
        every, last = self._config.train, step == self._config.train.steps
        metrics, shown = {}, False
        if step % every.eval_every == 0 or last:
            metrics = evaluation.evaluate(self._eval_cases(state), known_modes=build.knows_modes(self._config))
        if step % every.log_every == 0 or last or metrics:
            values = _terms(losses) | {"learning_rate": float(self._learning_rate(step - 1))}
            self._log.write(step, values | {f"eval/{name}": value for name, value in metrics.items()})
            shown = time.monotonic() - self._page_written > PAGE_EVERY
        if step % every.sample_every == 0 or last:
            _save_grid(self._workdir / "samples" / f"{step:08d}.png", self._grid_cases(state))
            shown = True
        if shown:
            page.write_run(self._workdir)
            self._page_written = time.monotonic()
        return metrics

    def __exit__(self, *_: object) -> None:
        self._log.close()


def _save_grid(path: Path, cases: list[evaluation.Case]) -> None:
    labels = ["input", "truth"] + ["encoded"] * (cases[0].encoded is not None)
    labels += [f"random {i + 1}" for i in range(len(cases[0].samples))] if len(cases[0].samples) > 1 else ["output"]
    rows = []
    for case in cases:
        images = [case.input, case.target, *([] if case.encoded is None else [case.encoded]), *case.samples]
        rows.append([augment.to_uint8(image) for image in images])
    logs.save_grid(path, rows, labels=labels)
