"""The objects that a training run needs, built once from its config: the game, the mesh, the data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from i2i_jax import build, optional
from i2i_jax import config as configs
from i2i_jax.config import Config, ConfigError
from i2i_jax.data import augment, crops, loader
from i2i_jax.data.folder import Listing
from i2i_jax.data.pairs import Pairs
from i2i_jax.data.splits import Splits
from i2i_jax.devices import parallel, processes
from i2i_jax.sampling import Mode
from i2i_jax.storage.checkpoints import Checkpoints
from i2i_jax.train_state import Game, TrainState
from i2i_jax.training import run_folder


@dataclass(frozen=True)
class Pieces:
    """The objects that training in the folder `workdir` needs."""

    config: Config
    workdir: Path
    game: Game
    mesh: Mesh
    learning_rate: optax.Schedule
    mode: Mode  # of the networks at test time
    train_pairs: Pairs
    held_out: Pairs
    splits_before: Splits | None  # saved by earlier starts of the run; None for a new run, and unless data.name is folder
    splits: Splits | None  # those of this start; None unless data.name is folder
    listing: Listing | None  # the files of data.path; None unless data.name is folder
    config_before: Config  # the one stored in the run's folder, or `config` for a new run

    @classmethod
    def build(cls, config: Config, workdir: Path, devices: Sequence[Any]) -> "Pieces":
        """Raises ConfigError, MissingExtra, or the error of a pair that cannot be read, in all processes."""

        def checked() -> tuple[Game, Mesh]:
            game, mesh = build.game(config), mesh_of(config, devices)
            run_folder.refuse_other_run(workdir, config)
            if config.train.wandb:
                optional.library("wandb", "wandb")
            return game, mesh

        def data() -> dict[str, Any]:
            listing = run_folder.listing_of(config)
            before, now = run_folder.splits_of(workdir, config, listing)
            held_out_names = None if now is None else now.val.keys()
            train, val = (build.pairs(config, split, held_out=held_out_names, listing=listing) for split in ("train", "val"))
            pairs = {"train_pairs": crops.usable(train, config), "held_out": val}
            return pairs | {"splits_before": before, "splits": now, "listing": listing}

        game, mesh = processes.on_all(checked)
        pairs = processes.first_then_others(data)
        config_before = processes.on_all(lambda: build.read_config(workdir) if (workdir / "config.json").exists() else config)
        return cls(config, workdir, game, mesh, build.learning_rate(config), build.mode(config), **pairs, config_before=config_before)

    def batches(self, start: int) -> Iterator[loader.RawBatch]:
        """The batches of the steps after `start`, on the mesh: a function of the seed and the step alone."""
        data, train = self.config.data, self.config.train
        rows = parallel.local_rows(data.batch_size, self.mesh)
        for batch in loader.batches(
            self.train_pairs, load_size=data.load_size, batch_size=data.batch_size, seed=train.seed, start_step=start, rows=rows,
            cache_gb=data.cache_gb, disk_cache_gb=data.disk_cache_gb, input_is_labels=bool(data.input_labels),
            resize=data.resize, crop_size=data.crop_size,
        ):  # fmt: skip
            yield parallel.global_batch(batch, self.mesh)


def mesh_of(config: Config, devices: Sequence[Any]) -> Mesh:
    """The devices that the batch is split over: one process uses as many as it can, several need all of theirs. Raises ConfigError."""
    if jax.process_count() > 1 and config.train.parallel == "pmap":
        raise ConfigError("train.parallel is 'pmap', which trains in one process: 'shard_map' does in several")
    batch_size, least, count = config.data.batch_size, configs.batch_multiple(config), len(devices)
    used = max(number for number in range(1, count + 1) if batch_size % (least * number) == 0)
    if used < count:
        for_all = configs.batch_for(config, count)
        if jax.process_count() > 1:
            raise ConfigError(f"data.batch_size {batch_size} does not divide over the {count} devices of all processes: {for_all} does")
        why = f"since data.batch_size is {batch_size}: data.batch_size={for_all} would use all"
        processes.print_once(f"trains on {used} of {count} devices, {why}")
    return parallel.make_mesh(devices[:used])


def newest_state(checkpoints: Checkpoints, config: Config, game: Game, mesh: Mesh) -> TrainState:
    """The state of the newest checkpoint; without one that of step 0, or of the run `train.start_from`.

    Raises:
        CheckpointError: no checkpoint can be read, or the newest is of another model.
        ConfigError: the networks of `train.start_from` do not fit.
    """
    init, key = partial(game.init, batch=build.example_batch(config)), jax.random.key(config.train.seed)
    if checkpoints.latest() is None:
        state = parallel.jit_replicated(init, key, mesh=mesh)
        return processes.on_all(lambda: build.start_from(config, state)) if config.train.start_from else state
    replicated = parallel.replicated(mesh)
    shapes = jax.eval_shape(init, key)
    return checkpoints.restore(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), shapes))


def training_step(config: Config, game: Game, mesh: Mesh, step_fn: Callable = Game.train_step) -> Callable[..., tuple[TrainState, Any]]:
    """(state, raw batch, key) -> (state, Losses) over the mesh: augments on the device, then takes one step of the game by `step_fn`."""
    mapped = game.on_axis(parallel.AXIS)
    data = config.data
    options = {"crop_size": configs.sides(data.crop_size), "flip": data.flip, "flip_vertical": data.flip_vertical, "rotate": data.rotate}

    def step(state: TrainState, raw: loader.RawBatch, key: jax.Array) -> tuple[TrainState, Any]:
        augment_key, step_key = jax.random.split(key)
        return step_fn(mapped, state, augment.augment(raw, jax.random.fold_in(augment_key, state.step), **options), step_key)

    return parallel.data_parallel(step, mesh, mode=config.train.parallel)
