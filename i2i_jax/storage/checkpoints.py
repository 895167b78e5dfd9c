"""A run's checkpoints on disk: saved asynchronously, restored whole or in part. The only file that touches Orbax."""

import contextlib
import json
import math
import shutil
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from absl import logging
from flax.traverse_util import unflatten_dict
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from i2i_jax.devices import crashes, processes
from i2i_jax.storage.errors import first_line
from i2i_jax.storage.stored_arrays import CheckpointError, Damaged, check_fit, check_sums, checksums, named, open_stored, placed

ITEM, CHECKSUMS = "state", "checksums"  # folders of a step


class Checkpoints:
    """The checkpoints of one run. With several processes, all must call each method.

    Args:
        directory: the folder of the checkpoints, made if it does not exist.
        keep: number of newest steps to keep.
        best_metric: the metric by which the best step is chosen, which is kept too; None keeps no best step.
        higher_is_better: whether the best step has the highest value of `best_metric`, or the lowest.

    Raises:
        CheckpointError: if `directory` cannot hold checkpoints.
    """

    def __init__(self, directory: str | Path, *, keep: int, best_metric: str | None = None, higher_is_better: bool = False):
        self._directory = Path(directory).absolute()
        self._best_metric = best_metric
        self._sign = 1.0 if higher_is_better else -1.0
        best = BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=_rank,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            cleanup_tmp_directories=True,
        )
        with _one_line(f"{self._directory}: cannot hold checkpoints"):
            processes.on_all(self._prepare)
            self._manager = ocp.CheckpointManager(self._directory, options=options, item_handlers=_handlers())

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            _discard_torn_metrics(self._directory)

    def save(self, step: int, state: Any, metrics: dict[str, float] | None = None):
        """Starts to save a step in the background.

        Args:
            step: the step, which must be after the newest one.
            state: a pytree of arrays; they may be donated as soon as this returns.
            metrics: the step's metrics, among them the one by which the best step is chosen.

        Raises:
            CheckpointError: if `step` is not after the newest one, or this save or the one before it failed.
        """
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        score = metrics.get(self._best_metric or "", math.nan)
        arrays = named(state)
        sums = {"step": step, "crc32": checksums(arrays)}
        args = ocp.args.Composite(**{ITEM: ocp.args.PyTreeSave(unflatten_dict(arrays, sep=".")), CHECKSUMS: ocp.args.JsonSave(sums)})
        with _one_line(f"{self._directory}: cannot save step {step}"):
            saved = self._manager.save(step, args=args, metrics={**metrics, "rank": self._sign * score if math.isfinite(score) else None})
        if not saved:
            raise CheckpointError(f"{self._directory}: cannot save step {step}: step {self._manager.latest_step()} is there already")

    def wait(self):
        """Blocks until all saves are on disk. Raises CheckpointError if one failed."""
        with _one_line(f"{self._directory}: cannot save"):
            self._manager.wait_until_finished()

    def restore(self, template: Any) -> Any:
        """Restores the newest intact step.

        With several processes, process 0 chooses the step. Newer steps that are damaged or of another model are renamed to
        STEP.damaged, so that training can save there again.

        Args:
            template: a pytree of ShapeDtypeStruct, which gives the structure, dtypes and shardings.

        Returns:
            A pytree of arrays with the structure of `template`.

        Raises:
            CheckpointError: if there is no intact step of this model.
        """
        self.wait()
        chosen = processes.on_all(lambda: self._chosen(template))
        step, damaged = processes.from_first(chosen and [chosen[0], [step for step in _steps(self._directory) if step > chosen[0]]])
        state = processes.on_all(lambda: chosen[1] if chosen else _read(self._directory, step, template, partial=False))
        if damaged:
            processes.on_all(lambda: _set_aside(self._directory, damaged))
            self._manager.reload()
        return state

    def _chosen(self, template: Any) -> tuple[int, Any] | None:
        return _newest_intact(self._directory, template, partial=False) if jax.process_index() == 0 else None

    def latest(self) -> int | None:
        """Returns the newest step that process 0 sees; None if there is none."""
        return processes.from_first(self._manager.latest_step())

    def best(self) -> int | None:
        """Returns the best step by `best_metric`; None if none was measured."""
        self.wait()
        return _best(self._directory)

    def close(self):
        """Waits for all saves and releases Orbax's threads. Raises CheckpointError if a save failed."""
        with _one_line(f"{self._directory}: cannot save"):
            self._manager.close()


def restore_for_inference(directory: str | Path, template: Any, *, step: int | Literal["best"] | None = None) -> Any:
    """Restores a part of one step; the other arrays are not read.

    Args:
        directory: the folder of the checkpoints.
        template: a pytree of ShapeDtypeStruct: the arrays to read, with their dtypes and shardings.
        step: a step, or "best" for the best one; None restores the newest intact step.

    Returns:
        A pytree of arrays with the structure of `template`.

    Raises:
        CheckpointError: if there is no such step, or it is damaged or of another model.
    """
    directory = Path(directory).absolute()
    if step is None:
        return _newest_intact(directory, template, partial=True)[1]
    number = _best(directory) if step == "best" else step
    if number not in _steps(directory):
        raise CheckpointError(f"{directory}: no checkpoint {step!r}: there is {_listed(_steps(directory)) or 'none'}")
    return _read(directory, typing.cast(int, number), template, partial=True)


def networks(directory: str | Path) -> set[str]:
    """Returns the networks whose parameters are in the newest readable step. Raises CheckpointError if no step can be read."""
    directory = Path(directory).absolute()
    for step in reversed(_steps(directory)):
        with contextlib.suppress(Exception):  # damaged files raise exceptions of any type
            names = [name.split(".") for name in open_stored(directory / str(step) / ITEM)]
            return {name[1] for name in names if name[0] == "params"}
    raise CheckpointError(f"{directory}: no checkpoint that can be read")


def _newest_intact(directory: Path, template: Any, *, partial: bool) -> tuple[int, Any]:
    failures: list[CheckpointError] = []
    for step in reversed(_steps(directory)):
        try:
            state = _read(directory, step, template, partial=partial)
        except CheckpointError as error:
            failures.append(error)
        else:
            for failure in failures:
                logging.warning("%s: step %d is used", failure, step)
            return step, state
    if foreign := [failure for failure in failures if not isinstance(failure, Damaged)]:
        raise foreign[0]
    steps = _listed(_steps(directory))
    raise CheckpointError(f"{directory}: " + (f"all checkpoints are damaged: {steps}" if steps else "no checkpoint"))


def _read(directory: Path, step: int, template: Any, *, partial: bool) -> Any:
    """One step in the structure of `template`. Raises Damaged, or CheckpointError if it is of another model."""
    step_name = f"{directory}: step {step}"
    path = directory / str(step) / ITEM
    if not path.parent.is_dir():
        raise CheckpointError(f"{step_name} is not there, though it was chosen: all processes must see the same folder")
    wanted = {name: placed(leaf) for name, leaf in named(template).items()}
    try:
        stored = open_stored(path)
        check_fit(step_name, stored, wanted, partial=partial)
        reads = {name: stored[name].read() for name in wanted}
        arrays = {name: read.result() for name, read in reads.items()}
        check_sums(directory, step, arrays, file=directory / str(step) / CHECKSUMS / "metadata")
    except CheckpointError:
        raise
    except Exception as error:  # on damaged files TensorStore raises anything from KeyError to plain Exception
        if crashes.out_of_memory(error):
            raise
        raise Damaged(f"{step_name} is damaged ({first_line(error)})") from error
    restored = [jax.make_array_from_callback(leaf.shape, leaf.sharding, arrays[name].__getitem__) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(template), restored)


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    return {ITEM: _handler(), CHECKSUMS: ocp.JsonCheckpointHandler()}


def _handler() -> ocp.PyTreeCheckpointHandler:
    return ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=False)  # the format that `open_stored` reads


def _set_aside(directory: Path, steps: list[int]):
    """Renames steps to STEP.damaged, in process 0."""
    if jax.process_index() > 0:
        return
    for step in steps:
        aside = directory / f"{step}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        (directory / str(step)).rename(aside)


def _steps(directory: Path) -> list[int]:
    """The committed steps, damaged ones included; other files and folders are ignored."""
    return sorted(entry.step for entry in ocp.path.step.standard_name_format().find_all(directory)) if directory.is_dir() else []


def _best(directory: Path) -> int | None:
    ranks = {step: _rank(_metrics(directory / str(step)) or {}) for step in _steps(directory)}
    best = max(ranks, key=lambda step: (ranks[step], step), default=None)
    return None if best is None or ranks[best] == -math.inf else best


def _rank(metrics: dict) -> float:
    """Higher is better, whatever the metric; -inf if it was not measured or not finite."""
    rank = metrics.get("rank")
    return -math.inf if rank is None else rank


def _metrics(step_path: Path) -> dict | None:
    """The metrics of a step; None if their file is missing or damaged."""
    try:
        metrics = json.loads((step_path / "metrics" / "metrics").read_bytes())
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) else None


def _discard_torn_metrics(directory: Path):
    """Removes damaged metrics: Orbax cannot open a directory in which those of one step are damaged."""
    for step in _steps(directory):
        if _metrics(directory / str(step)) is None:
            shutil.rmtree(directory / str(step) / "metrics", ignore_errors=True)


@contextlib.contextmanager
def _one_line(failure: str) -> Iterator[None]:
    """Turns what Orbax raises from its threads, of any type, into a CheckpointError of one line."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(f"{failure} ({first_line(error)})") from error


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))
