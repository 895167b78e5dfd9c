"""The pairs of a folder that a run trains on and those it holds out: chosen once, and stored in the run's folder."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from i2i_jax.data import folder
from i2i_jax.storage.files import atomic_write
from i2i_jax.types import SampleType

FILE = "pairs.json"  # in a run's folder
SHOWN = 3  # names in a line


@dataclasses.dataclass(frozen=True)
class Splits:
    """The pairs of each split.

    Attributes:
        train: the size in bytes of each training pair's files, by name.
        val: the same for the held-out pairs.
        side_by_side: whether a pair is one side-by-side file, or two files.
        size: height and width of an input; None before one was read.
        target_type: how a target's samples were stored when the run began; as uint8 if that was not recorded.
    """

    train: Mapping[str, int]
    val: Mapping[str, int]
    side_by_side: bool
    size: tuple[int, int] | None = None
    target_type: SampleType = SampleType()


def of_folder(root: Path | folder.Listing, *, val_fraction: float, before: Splits | None) -> Splits:
    """Returns the current splits of a folder.

    Args:
        root: the folder, or its Listing.
        val_fraction: as in `folder.pairs`.
        before: the splits of the run so far, whose held-out pairs stay held out; None for a new run.

    Raises:
        FolderError: if the folder does not hold pairs.
    """
    held_out = None if before is None else before.val.keys()
    train, val = (folder.named(root, split, val_fraction=val_fraction, held_out=held_out) for split in ("train", "val"))
    return Splits(_bytes(train), _bytes(val), side_by_side=len(train[0][1]) == 1)


def _bytes(pairs: list[folder.Named]) -> dict[str, int]:
    return {name: sum(file.stat().st_size for file in files) for name, files in pairs}


def read(run: str | Path) -> Splits | None:
    """Reads the splits in a run's folder; None if there are none (a packed model has none), or the file is damaged."""
    try:
        record = json.loads((Path(run) / FILE).read_bytes())
        size = tuple(record["size"]) if record["size"] else None
        return Splits(dict(record["train"]), dict(record["val"]), bool(record["side_by_side"]), size, _target_type(record))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(run: Path, now: Splits, before: Splits | None) -> None:
    """Writes the splits into a run's folder, together with the pairs of `before` that are missing from the data now."""
    known = now if before is None else dataclasses.replace(now, train={**before.train, **now.train}, val={**before.val, **now.val})
    if known != before:
        record = dataclasses.asdict(known)
        dtype, npy = record.pop("target_type")
        record |= {} if dtype == "uint8" else {"target_bits": 16} if dtype == "uint16" else {"target_type": dtype}
        record |= {"target_npy": True} if npy else {}
        atomic_write(run / FILE, (json.dumps(record, indent=0) + "\n").encode())


def _target_type(record: Mapping[str, Any]) -> SampleType:
    """The type that `keep` recorded; uint16 is recorded as 16 bits, as earlier versions did."""
    dtype = record.get("target_type", "uint16" if record.get("target_bits") == 16 else "uint8")
    return SampleType(dtype if dtype in ("uint16", "int16", "float32") else "uint8", bool(record.get("target_npy")))


def changes(before: Splits, now: Splits) -> Iterator[str]:
    """Yields messages about what changed in the folder since the run began."""
    old, new = {**before.train, **before.val}, {**now.train, **now.val}
    for verb, names in (
        ("added", new.keys() - old.keys()),
        ("removed", old.keys() - new.keys()),
        ("changed", {name for name in old.keys() & new.keys() if old[name] != new[name]}),
    ):
        if names:
            yield f"{len(names)} pairs were {verb} ({_some(names)})"
    if trained := now.val.keys() & before.train.keys() - now.train.keys():
        yield f"{len(trained)} of the {len(now.val)} held-out pairs were trained on before ({_some(trained)}): their metrics are too good"


def _some(names: set[str]) -> str:
    shown = (name if name.isprintable() else repr(name) for name in sorted(names)[:SHOWN])
    return ", ".join(shown) + (" ..." if len(names) > SHOWN else "")
