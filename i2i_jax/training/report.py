"""What a run shows of itself while it trains, at its intervals: figures, pictures, its page."""

import contextlib
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
from clu.parameter_overview import get_parameter_overview
from jax.sharding import Mesh
from tqdm import tqdm

from i2i_jax import build
from i2i_jax import config as configs
from i2i_jax.config import Config
from i2i_jax.data.pairs import Pairs
from i2i_jax.devices import parallel
from i2i_jax.evaluation import build_metrics, contact_sheets, evaluate
from i2i_jax.objectives import Losses
from i2i_jax.pages.run import write_run
from i2i_jax.storage import files
from i2i_jax.train_state import Game, TrainState
from i2i_jax.training import log, wandb

GRID_INPUTS = 6
PAGE_EVERY = 30.0  # seconds


def is_due(config: Config, step: int, *intervals: str) -> bool:
    """Whether one of the intervals of config.train ends with `step`, or the run."""
    return step == config.train.steps or any(step % getattr(config.train, every) == 0 for every in intervals)


def terms(losses: Losses) -> dict[str, float]:
    """PLAYER_OF_NETWORK/TERM to its value, on the host."""
    values = jax.device_get(losses)
    return {f"{player}/{name}": float(value) for player, terms in values._asdict().items() for name, value in terms.items()}


def progress(start: int, total: int) -> Iterator[int]:
    """The steps after `start`; a terminal shows how far they are."""
    yield from tqdm(range(start + 1, total + 1), initial=start, total=total, unit="step", leave=False, disable=_hidden())


def _hidden() -> bool | None:
    """Of a bar, in every process but the first; None: where there is no terminal."""
    return None if jax.process_index() == 0 else True


def write_parameters(workdir: Path, params: dict) -> None:
    """Writes RUN/parameters.txt: a table of every network's arrays."""
    if jax.process_index() == 0:
        tables = (f"{name}\n{get_parameter_overview(of, include_stats=False)}\n" for name, of in params.items())
        files.atomic_write(workdir / "parameters.txt", "\n".join(tables).encode())


class Report(contextlib.AbstractContextManager):
    """Every process evaluates, by itself, on its devices of the mesh; only process 0 writes."""

    def __init__(self, config: Config, workdir: Path, game: Game, held_out: Pairs, start: int, mesh: Mesh):
        self._config, self._workdir = config, workdir
        size, mode = config.data.crop_size, build.mode(config)
        shown, measured = min(GRID_INPUTS, len(held_out)), min(config.eval.inputs, len(held_out))
        self._shown, self._measured = range(shown), range(measured)
        own = parallel.make_mesh(mesh.local_devices)
        translations = partial(evaluate.translations, game.networks, mode, held_out, size=size, mesh=own)
        self._grid = translations(samples=config.train.samples, batch_size=shown, sync=True)
        self._cases = translations(samples=config.eval.samples, batch_size=min(config.eval.batch_size, measured))
        self._metrics = build_metrics.metrics(config.eval, configs.metrics(config))
        self._learning_rate = build.learning_rate(config)
        self._log = self._open_log(start) if jax.process_index() == 0 else None
        self._page_written = time.monotonic()

    def _open_log(self, start: int) -> log.RunLog:
        batch_size = self._config.data.batch_size
        project = self._config.train.wandb
        also = [wandb.WandB(self._workdir, project=project, config=configs.flatten(self._config))] if project else []
        return log.RunLog(self._workdir, total_steps=self._config.train.steps, start_step=start, batch_size=batch_size, also=also)

    def __call__(self, step: int, state: TrainState, values: dict[str, float]) -> dict[str, float]:
        """Logs, samples and evaluates where `step` is due for it; returns the evaluation's figures, if any.

        What it writes at a step is the same whether the run was stopped in between or not.
        """
        figures = {}
        if is_due(self._config, step, "eval_every"):
            batches = self._cases(state, self._measured)
            count = math.ceil(len(self._measured) / self._config.eval.batch_size)
            progress_bar = tqdm(batches, "evaluating", count, leave=False, disable=_hidden())
            found = evaluate.evaluate(iter(progress_bar), self._metrics).figures
            figures = {name: value for name, value in found.items() if isinstance(value, float)}
        if is_due(self._config, step, "log_every", "eval_every"):
            self.log(step, values, figures)
        sampled = is_due(self._config, step, "sample_every")
        if sampled and self._log:
            contact_sheets.save(self._workdir / "samples" / f"{step:08d}.png", self._grid(state, self._shown))
        if sampled or time.monotonic() - self._page_written > PAGE_EVERY:
            self._write_page()
        return figures

    def log(self, step: int, values: dict[str, float], figures: dict[str, float] | None = None) -> None:
        values = values | {"learning_rate": float(jax.device_get(self._learning_rate(step - 1)))}
        if self._log:
            self._log.write(step, values | {f"eval/{name}": value for name, value in (figures or {}).items()})

    def _write_page(self) -> None:
        if self._log:
            write_run(self._workdir)
        self._page_written = time.monotonic()

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            if error:  # it is the news, and not that more could not be written
                stack.enter_context(contextlib.suppress(OSError))
            if self._log:
                stack.callback(self._log.close)
            self._write_page()
