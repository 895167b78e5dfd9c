"""Reports at the intervals of config.train: losses, evaluations, sample grids and the run's page."""

import contextlib
import math
import time
from collections.abc import Iterator
from functools import partial

import jax
from tqdm import tqdm

from i2i_jax import config as configs
from i2i_jax.config import Config
from i2i_jax.data import labels
from i2i_jax.data.crops import TrainingSize
from i2i_jax.devices import parallel
from i2i_jax.evaluation import build_metrics, contact_sheets, evaluate
from i2i_jax.objectives import Losses
from i2i_jax.pages.run import write_run
from i2i_jax.train_state import TrainState
from i2i_jax.training import log, wandb
from i2i_jax.training.pieces import Pieces
from i2i_jax.training.speed import Speed

GRID_INPUTS = 6
PAGE_EVERY = 30.0  # seconds


def is_due(config: Config, step: int, *intervals: str) -> bool:
    """Whether one of the intervals of config.train, given by their names, ends with `step`, or the run does."""
    return step == config.train.steps or any(step % getattr(config.train, interval) == 0 for interval in intervals)


def terms(losses: Losses) -> dict[str, float]:
    """The loss terms on the host, by name: PLAYER/TERM."""
    values = jax.device_get(losses)
    return {f"{player}/{name}": float(value) for player, terms in values._asdict().items() for name, value in terms.items()}


def progress(start: int, total: int) -> Iterator[int]:
    """The steps after `start` up to `total`, with a progress bar on a terminal."""
    yield from tqdm(range(start + 1, total + 1), initial=start, total=total, unit="step", leave=False, disable=_hidden())


def _hidden() -> bool | None:
    """tqdm's `disable`: True in every process but the first, None (hidden without a terminal) in that."""
    return None if jax.process_index() == 0 else True


class Report(contextlib.AbstractContextManager):
    """Reports a run. Every process evaluates on its own devices of the mesh; only process 0 writes."""

    def __init__(self, pieces: Pieces, start: int, speed: Speed):
        config, held_out, self._speed = pieces.config, pieces.held_out, speed
        self._config, self._workdir, self._learning_rate = config, pieces.workdir, pieces.learning_rate
        shown, measured = min(GRID_INPUTS, len(held_out)), min(config.eval.inputs, len(held_out))
        self._shown, self._measured = range(shown), range(measured)
        own_devices = parallel.make_mesh(pieces.mesh.local_devices)
        translations = partial(
            evaluate.translations, pieces.game.networks, pieces.mode, held_out, size=configs.sides(config.data.crop_size),
            mesh=own_devices, input_labels=labels.of_config(config.data), training_size=TrainingSize.of_config(config.data),
        )  # fmt: skip
        self._grid = translations(samples=config.train.samples, batch_size=shown, sync=True)
        self._examples = translations(samples=config.eval.samples, batch_size=min(config.eval.batch_size, measured))
        self._metrics = build_metrics.metrics(config.eval, configs.metrics(config))
        self._log = self._open_log(start) if jax.process_index() == 0 else None
        self._page_written = time.monotonic()

    def _open_log(self, start: int) -> log.RunLog:
        config = self._config
        project = config.train.wandb
        also = [wandb.WandB(self._workdir, project=project, config=configs.flatten(config))] if project else []
        return log.RunLog(self._workdir, total_steps=config.train.steps, start_step=start, batch_size=config.data.batch_size, also=also)

    def __call__(self, step: int, state: TrainState, values: dict[str, float]) -> dict[str, float]:
        """Logs, samples and evaluates if it is due at `step`; returns the evaluated figures, if any.

        What it writes at a step is the same whether the run was interrupted before it or not.
        """
        figures = self._evaluate(state) if is_due(self._config, step, "eval_every") else {}
        if is_due(self._config, step, "log_every", "eval_every"):
            self.log(step, values, figures)
        sampled = is_due(self._config, step, "sample_every")
        if sampled and self._log:
            contact_sheets.save(self._workdir / "samples" / f"{step:08d}.png", self._grid(state.averaged(), self._shown))
        if sampled or time.monotonic() - self._page_written > PAGE_EVERY:
            self._write_page()
        return figures

    def _evaluate(self, state: TrainState) -> dict[str, float]:
        batches = self._examples(state.averaged(), self._measured)
        count = math.ceil(len(self._measured) / self._config.eval.batch_size)
        progress_bar = tqdm(batches, "evaluating", count, leave=False, disable=_hidden())
        figures = evaluate.evaluate(iter(progress_bar), self._metrics).figures
        return {name: value for name, value in figures.items() if isinstance(value, float)}

    def log(self, step: int, values: dict[str, float], figures: dict[str, float] | None = None) -> None:
        """Writes loss terms, evaluated figures and the speed of the steps up to `step` to the console and every log."""
        values = values | {"learning_rate": float(jax.device_get(self._learning_rate(step - 1)))}
        if self._log:
            evaluated = {f"eval/{name}": value for name, value in (figures or {}).items()}
            self._log.write(step, values | evaluated | self._speed.figures())

    def _write_page(self) -> None:
        if self._log:
            write_run(self._workdir)
        self._page_written = time.monotonic()

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            if error:  # the original error is raised, not one from writing the page
                stack.enter_context(contextlib.suppress(OSError))
            if self._log:
                stack.callback(self._log.close)
            self._write_page()
