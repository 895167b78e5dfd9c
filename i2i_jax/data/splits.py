"""Which pairs of a folder a run trains on and which it holds out: decided once, and kept with the run."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from i2i_jax.data import folder
from i2i_jax.storage.files import atomic_write

FILE = "pairs.json"  # in a run's folder
SHOWN = 3  # names in a line


@dataclasses.dataclass(frozen=True)
class Splits:
    """Of each split the pairs by name, with the bytes of their files; `size` are height and width of an input, once one is read."""

    train: Mapping[str, int]
    val: Mapping[str, int]
    side_by_side: bool
    size: tuple[int, int] | None = None


def of_folder(root: Path, *, val_fraction: float, before: Splits | None) -> Splits:
    """What is there now; what a run held out `before` stays held out. Raises FolderError."""
    held_out = None if before is None else before.val.keys()
    train, val = (folder.files(root, split, val_fraction=val_fraction, held_out=held_out) for split in ("train", "val"))
    return Splits(_bytes(train), _bytes(val), side_by_side=len(train[0]) == 1)


def _bytes(pairs: list[tuple[Path, ...]]) -> dict[str, int]:
    return {files[0].stem: sum(file.stat().st_size for file in files) for files in pairs}


def read(run: str | Path) -> Splits | None:
    """Those kept with a run; None where there are none, as for a packed one."""
    try:
        kept = json.loads((Path(run) / FILE).read_bytes())
        return Splits(dict(kept["train"]), dict(kept["val"]), bool(kept["side_by_side"]), tuple(kept["size"]) if kept["size"] else None)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(run: Path, now: Splits, before: Splits | None) -> None:
    """Writes them; what the run once trained on, or held out, is not forgotten where it is missing now."""
    known = now if before is None else dataclasses.replace(now, train={**before.train, **now.train}, val={**before.val, **now.val})
    if known != before:
        atomic_write(run / FILE, (json.dumps(dataclasses.asdict(known), indent=0) + "\n").encode())


def changes(before: Splits, now: Splits) -> Iterator[str]:
    """What is different in the folder since the run began, in words."""
    old, new = {**before.train, **before.val}, {**now.train, **now.val}
    for verb, names in (
        ("added", new.keys() - old.keys()),
        ("removed", old.keys() - new.keys()),
        ("changed", {name for name in old.keys() & new.keys() if old[name] != new[name]}),
    ):
        if names:
            yield f"{len(names)} pairs were {verb} ({_some(names)})"
    if trained := now.val.keys() & before.train.keys() - now.train.keys():
        yield f"{len(trained)} of the {len(now.val)} held-out pairs were trained on before ({_some(trained)}): figures on them are too good"


def _some(names: set[str]) -> str:
    shown = (name if name.isprintable() else repr(name) for name in sorted(names)[:SHOWN])
    return ", ".join(shown) + (" ..." if len(names) > SHOWN else "")
