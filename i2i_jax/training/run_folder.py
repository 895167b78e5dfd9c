"""The folder of a run: checks that it belongs to this run, locks it, and stores config, splits and checkpoints."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from clu.parameter_overview import get_parameter_overview

from i2i_jax import build
from i2i_jax import config as configs
from i2i_jax.config import Config, ConfigError
from i2i_jax.data import crops, folder, images, labels, splits
from i2i_jax.data.crops import TrainingSize
from i2i_jax.data.pairs import Pairs, size_of, target_type
from i2i_jax.data.splits import Splits
from i2i_jax.devices import processes
from i2i_jax.storage import files
from i2i_jax.storage.checkpoints import Checkpoints

GREY_PAIRS = 20  # read to find out whether all are grey


def agreed_config(workdir: Path, config: Config) -> Config:
    """The config, the same in all processes, with the content of the palette file that `data.input_labels` names.

    Raises:
        ConfigError: if processes have different code, options or palettes, or the palette cannot be read.
    """
    processes.refuse_different({"the code": processes.code_hash(), "--workdir": str(workdir.absolute()), **configs.flatten(config)})
    if not config.data.input_labels:
        return config

    def with_palette() -> Config:
        kept = build.read_config(workdir).data.input_labels if (workdir / "config.json").is_file() else ""
        return labels.resolved(config, kept=kept)

    config = processes.on_all(with_palette)
    processes.refuse_different(configs.flatten(config))
    return config


def refuse_other_run(workdir: Path, config: Config) -> None:
    """Raises ConfigError if `workdir` cannot be the folder of this run."""
    for place in (workdir, *workdir.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"{place} is a file: name another --workdir")
    if (workdir / "config.json").exists():
        for name, (old, new) in configs.changed(build.read_config(workdir), config).items():
            fresh = f"--config=finetune:{workdir} --config.{name}={new} --workdir=NEW starts another run with its networks"
            raise ConfigError(
                f"{workdir} is a run with {name} {old!r}, not {new!r}: restore the original value, or name another --workdir; {fresh}"
            )
    elif (workdir / "checkpoints").exists():
        raise ConfigError(f"{workdir} has checkpoints but no config.json: name another --workdir")


@contextlib.contextmanager
def claim(workdir: Path, config: Config, command: str) -> Iterator[None]:
    """Inside, no other process can train in `workdir`, and its config.json and command.txt are those of this run.

    Raises ConfigError if another process trains there.
    """
    with contextlib.ExitStack() as stack:

        def lock_and_write() -> None:
            try:
                stack.enter_context(files.lock(workdir / ".lock"))
            except files.Taken as taken:
                raise ConfigError(f"{workdir} is being trained by {taken}: wait for it, or name another --workdir") from None
            refuse_other_run(workdir, config)  # another process may have begun one since the first check
            files.sweep(workdir)
            files.sweep(workdir / "samples")
            files.atomic_write(workdir / "config.json", configs.to_json(config).encode())
            if command:
                files.atomic_write(workdir / "command.txt", f"{command}\n".encode())

        processes.on_all(lambda: lock_and_write() if jax.process_index() == 0 else None)
        yield


def open_checkpoints(workdir: Path, config: Config) -> contextlib.closing[Checkpoints]:
    metric = config.eval.best_metric
    higher = configs.HIGHER_IS_BETTER[metric]
    return contextlib.closing(Checkpoints(workdir / "checkpoints", keep=config.train.keep, best_metric=metric, higher_is_better=higher))


def listing_of(config: Config) -> folder.Listing | None:
    """The files of the user's folder of pairs; None for datasets other than folders. Raises FolderError."""
    is_folder = config.data.name == "folder" and config.data.path
    return folder.Listing(Path(config.data.path).expanduser()) if is_folder else None


def splits_of(workdir: Path, config: Config, listing: folder.Listing | None) -> tuple[Splits | None, Splits | None]:
    """Which pairs the run in `workdir` has trained on and held out so far, and which it does now; None without a listing."""
    if listing is None:
        return None, None
    before = splits.read(workdir)
    return before, splits.of_folder(listing, val_fraction=config.data.val_fraction, before=before)


def keep_splits(workdir: Path, config: Config, before: Splits | None, now: Splits | None, pairs: Pairs) -> None:
    """Records the splits, so that the run always holds out the same pairs, and prints what has changed in the folder.

    The size of inputs and the type of targets are those of the first of the training pairs; once recorded, the type stays.
    """
    if now is None or jax.process_index() != 0:
        return
    now = dataclasses.replace(now, size=size_of(pairs, 0), target_type=before.target_type if before else target_type(pairs))
    if before is not None and (changes := list(splits.changes(before, now))):
        counts = f"{len(now.val)} pairs are held out, {len(now.train)} trained on"
        processes.print_once(f"{config.data.path} has changed since this run began: {'; '.join(changes)}; {counts}")
    splits.keep(workdir, now, before)


def announce_pairs(config: Config, pairs: Pairs, listing: folder.Listing | None) -> None:
    """Prints what the user's folder holds beside the pairs, and which images are grey but read as colour."""
    if listing is None or jax.process_index() != 0:
        return
    if unused := listing.unused():
        processes.print_once(f"{config.data.path}: not used: {unused}")
    indices = np.unique(np.linspace(0, len(pairs) - 1, GREY_PAIRS).astype(int)).tolist()
    channels, training_size = (
        {"input": config.data.input_channels, "target": config.data.target_channels},
        TrainingSize.of_config(config.data),
    )

    def is_grey(index: int, side: str) -> bool:
        return images.is_grey(getattr(crops.central(pairs, index, training_size), side))

    grey = [side for side in channels if channels[side] == 3 and all(is_grey(index, side) for index in indices)]
    if grey:
        options = " and ".join(f"data.{side}_channels=1" for side in grey)
        processes.print_once(
            f"{' and '.join(f'{side}s' for side in grey)} are grey in the {len(indices)} pairs looked at: {options} would do"
        )


def write_parameters(workdir: Path, params: dict) -> None:
    """Writes RUN/parameters.txt: a table of every network's arrays."""
    if jax.process_index() == 0:
        tables = (f"{name}\n{get_parameter_overview(of, include_stats=False)}\n" for name, of in params.items())
        files.atomic_write(workdir / "parameters.txt", "\n".join(tables).encode())
