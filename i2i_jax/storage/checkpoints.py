"""A run's checkpoints on disk: saved asynchronously, restored whole or in part. The only file that touches Orbax."""

import contextlib
import json
import math
import shutil
import typing
import zlib
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from absl import logging
from flax.traverse_util import unflatten_dict
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from i2i_jax.config import current_name
from i2i_jax.devices import crashes, processes

ITEM, CHECKSUMS = "state", "checksums"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, of another model, or cannot be written: one line that names it."""


class Damaged(CheckpointError):
    """One step that cannot be read back."""


class Checkpoints:
    """The steps of one run under `directory`: the newest `keep` and, where `best_metric` is given, the best one by it."""

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
            processes.agreed(self._prepare)
            self._manager = ocp.CheckpointManager(self._directory, options=options, item_handlers=_handlers())

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            _discard_torn_metrics(self._directory)

    def save(self, step: int, state: Any, metrics: dict[str, float] | None = None):
        """Begins to write `state`, a pytree of arrays, which may be donated right after.

        Raises CheckpointError unless `step` is after the newest one, and where this or the save before it failed.
        """
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        score = metrics.get(self._best_metric or "", math.nan)
        arrays = named(state)
        sums = {"step": step, "crc32": _checksums(arrays)}
        args = ocp.args.Composite(**{ITEM: ocp.args.PyTreeSave(unflatten_dict(arrays, sep=".")), CHECKSUMS: ocp.args.JsonSave(sums)})
        with _one_line(f"{self._directory}: cannot save step {step}"):
            saved = self._manager.save(step, args=args, metrics={**metrics, "rank": self._sign * score if math.isfinite(score) else None})
        if not saved:
            raise CheckpointError(f"{self._directory}: cannot save step {step}: step {self._manager.latest_step()} is there already")

    def wait(self):
        """Returns when all that was saved is on disk; raises CheckpointError if it could not be written."""
        with _one_line(f"{self._directory}: cannot save"):
            self._manager.wait_until_finished()

    def restore(self, template: Any) -> Any:
        """The newest whole step, in the form, types and shardings of `template`, a pytree of ShapeDtypeStruct.

        Of several processes the first one chooses it. Steps after it that are damaged or of another model are set aside as
        STEP.damaged, so that training can save there again. Raises CheckpointError if there is no such step.
        """
        self.wait()
        chosen = processes.agreed(lambda: self._chosen(template))
        step, damaged = processes.from_first(chosen and [chosen[0], [step for step in _steps(self._directory) if step > chosen[0]]])
        state = processes.agreed(lambda: chosen[1] if chosen else _read(self._directory, step, template, partial=False))
        if damaged:
            processes.agreed(lambda: _set_aside(self._directory, damaged))
            self._manager.reload()
        return state

    def _chosen(self, template: Any) -> tuple[int, Any] | None:
        return _newest_whole(self._directory, template, partial=False) if jax.process_index() == 0 else None

    def latest(self) -> int | None:
        """As the first process sees it; all must ask."""
        return processes.from_first(self._manager.latest_step())

    def best(self) -> int | None:
        self.wait()
        return _best(self._directory)

    def close(self):
        with _one_line(f"{self._directory}: cannot save"):
            self._manager.close()


def restore_for_inference(directory: str | Path, template: Any, *, step: int | Literal["best"] | None = None) -> Any:
    """Only the arrays that `template` names, of one step: the newest whole one, the best one, or the one given."""
    directory = Path(directory).absolute()
    if step is None:
        return _newest_whole(directory, template, partial=True)[1]
    number = _best(directory) if step == "best" else step
    if number not in _steps(directory):
        raise CheckpointError(f"{directory}: no checkpoint {step!r}: there is {_listed(_steps(directory)) or 'none'}")
    return _read(directory, typing.cast(int, number), template, partial=True)


def networks(directory: str | Path) -> set[str]:
    """Those whose parameters are in the newest step that can be read. Raises CheckpointError."""
    directory = Path(directory).absolute()
    for step in reversed(_steps(directory)):
        with contextlib.suppress(Exception):  # torn, in any way
            names = [name.split(".") for name in _stored(directory / str(step) / ITEM)]
            return {name[1] for name in names if name[0] == "params"}
    raise CheckpointError(f"{directory}: no checkpoint that can be read")


def _newest_whole(directory: Path, template: Any, *, partial: bool) -> tuple[int, Any]:
    failures: list[CheckpointError] = []
    for step in reversed(_steps(directory)):
        try:
            found = _read(directory, step, template, partial=partial)
        except CheckpointError as error:
            failures.append(error)
        else:
            for failure in failures:
                logging.warning("%s: step %d is used", failure, step)
            return step, found
    if foreign := [failure for failure in failures if not isinstance(failure, Damaged)]:
        raise foreign[0]
    steps = _listed(_steps(directory))
    raise CheckpointError(f"{directory}: " + (f"none of the checkpoints is whole: {steps}" if steps else "no checkpoint"))


def _read(directory: Path, step: int, template: Any, *, partial: bool) -> Any:
    """One step in the form of `template`. Raises Damaged, or CheckpointError where the two do not fit."""
    where = f"{directory}: step {step}"
    path = directory / str(step) / ITEM
    if not path.parent.is_dir():
        raise CheckpointError(f"{where} is not there, though it was chosen: all processes must see the same folder")
    wanted = {name: _placed(leaf) for name, leaf in named(template).items()}
    try:
        stored = _stored(path)
        _check_fit(where, stored, wanted, partial=partial)
        reads = {name: stored[name].read() for name in wanted}
        arrays = {name: read.result() for name, read in reads.items()}
        _check_sums(directory, step, arrays)
    except CheckpointError:
        raise
    except Exception as error:  # TensorStore raises anything from KeyError to plain Exception on torn files
        if crashes.out_of_memory(error):
            raise
        raise Damaged(f"{where} is damaged ({_first_line(error)})") from error
    restored = [jax.make_array_from_callback(leaf.shape, leaf.sharding, arrays[name].__getitem__) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(template), restored)


def _checksums(arrays: dict[str, Any]) -> dict[str, int]:
    """Of the bytes of each array, some GB a second."""
    local = {name: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf for name, leaf in arrays.items()}
    return {name: zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data) for name, leaf in local.items()}


def _check_sums(directory: Path, step: int, arrays: dict[str, np.ndarray]) -> None:
    """Raises Damaged unless they are what was saved as this step. Older runs have no checksums."""
    file = directory / str(step) / CHECKSUMS / "metadata"
    if not file.exists():
        return
    saved = json.loads(file.read_bytes())
    if saved["step"] != step:
        raise Damaged(f"{directory}: step {step} is a copy of step {saved['step']}")
    sums = {current_name(name): checksum for name, checksum in saved["crc32"].items()}
    for name, found in _checksums(arrays).items():
        if found != sums[name]:
            raise Damaged(f"{directory}: step {step} is damaged ({name} is not as it was saved)")


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    return {ITEM: _handler(), CHECKSUMS: ocp.JsonCheckpointHandler()}


def _handler() -> ocp.PyTreeCheckpointHandler:
    return ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=False)  # the format that `_stored` reads


def _stored(path: Path) -> dict[str, ts.TensorStore]:
    """The arrays of one step by today's names, opened without Orbax.

    Orbax leaves pages of tracebacks behind when a file is torn, and reads no checksums. Reading these arrays finds a file that is
    missing or cut short, and bits that flipped in the index or in the structure of a compressed chunk, but not those within the
    numbers, for which TensorStore keeps no checksum.
    """
    for file in (path / "_METADATA", path / "_sharding", *path.glob("array_metadatas/*")):
        json.loads(file.read_bytes())
    context = ts.Context()
    store = {"driver": "ocdbt", "base": path.as_uri() + "/"}
    keys = ts.KvStore.open(store, context=context).result().list().result()
    names = sorted({key.decode().rpartition("/")[0] for key in keys})
    specs = {name: {"driver": "zarr", "kvstore": {**store, "path": name + "/"}} for name in names}
    return {current_name(name): ts.open(spec, context=context, open=True).result() for name, spec in specs.items()}


def _check_fit(where: str, stored: dict[str, ts.TensorStore], wanted: dict[str, jax.ShapeDtypeStruct], *, partial: bool):
    for name, leaf in wanted.items():
        if name not in stored:
            raise CheckpointError(f"{where} has no {name}: it is of another model")
        found, expected = form(stored[name].dtype.numpy_dtype, stored[name].shape), form(leaf.dtype, leaf.shape)
        if found != expected:
            raise CheckpointError(f"{where}: {name} is {found}, the model's is {expected}")
    if not partial and (unknown := sorted(set(stored) - set(wanted))):
        raise CheckpointError(f"{where} has {unknown[0]}, which the model has not")


def form(dtype: Any, shape: tuple[int, ...]) -> str:
    return f"{np.dtype(dtype).name}{list(shape)}"


def named(tree: Any) -> dict[str, Any]:
    """Leaves by path, as params.generator.conv.kernel: without the containers, a template may be any part of the state."""
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """`leaf` with a sharding, by default on this process's first device."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _set_aside(directory: Path, steps: list[int]):
    if jax.process_index() > 0:
        return
    for step in steps:
        aside = directory / f"{step}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        (directory / str(step)).rename(aside)


def _steps(directory: Path) -> list[int]:
    """The committed steps, damaged ones included; other files are passed over."""
    return sorted(found.step for found in ocp.path.step.standard_name_format().find_all(directory)) if directory.is_dir() else []


def _best(directory: Path) -> int | None:
    ranks = {step: _rank(_metrics(directory / str(step)) or {}) for step in _steps(directory)}
    best = max(ranks, key=lambda step: (ranks[step], step), default=None)
    return None if best is None or ranks[best] == -math.inf else best


def _rank(metrics: dict) -> float:
    """Higher is better, whatever the metric; -inf where it was not measured or not finite."""
    rank = metrics.get("rank")
    return -math.inf if rank is None else rank


def _metrics(step_path: Path) -> dict | None:
    try:
        metrics = json.loads((step_path / "metrics" / "metrics").read_bytes())
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) else None


def _discard_torn_metrics(directory: Path):
    """Orbax opens no directory in which one step's metrics are torn."""
    for step in _steps(directory):
        if _metrics(directory / str(step)) is None:
            shutil.rmtree(directory / str(step) / "metrics", ignore_errors=True)


@contextlib.contextmanager
def _one_line(failure: str):
    try:
        yield
    except Exception as error:  # what Orbax raises from its threads is of any type
        raise CheckpointError(f"{failure} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))
