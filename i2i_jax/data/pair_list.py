"""Lists of pairs in CSV files: a line input,target or input,target,split for each pair, with or without a header line."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from i2i_jax.data.listing import FolderError

NAME = "pairs.csv"  # in a folder of pairs
COLUMNS = ("input", "target", "split")
SPLITS = {"": "train", "train": "train", "val": "val", "validation": "val", "test": "test"}


def find(root: Path) -> Path | None:
    """Returns the list of pairs that `root` is or holds; None if there is none."""
    if root.suffix.lower() == ".csv" and not root.is_dir():
        return root
    return root / NAME if (root / NAME).is_file() else None


def read(file: Path) -> dict[str, dict[str, tuple[Path, Path]]]:
    """Reads a list of pairs. Paths in it are relative to its folder.

    Args:
        file: the list, in UTF-8.

    Returns:
        The input and target of each pair by its name, for each split in the list. The name is the input's path in the list's folder,
        without extension; the target's is appended if an earlier line has that name.

    Raises:
        FolderError: if the file cannot be read, or names the first line that is wrong.
    """
    pairs: dict[str, dict[str, tuple[Path, Path]]] = {split: {} for split in SPLITS.values()}
    lines, seen = _lines(file), set()
    order = _header(lines[0][1]) if lines else None
    for number, cells in lines[order is not None :]:
        where = f"{file}, line {number}"
        task_input, target, split = _cells(where, cells, order)
        images_of_pair = _file(where, file.parent, task_input), _file(where, file.parent, target)
        if images_of_pair in seen:
            raise FolderError(f"{where}: {task_input} and {target} are listed before: each pair must be listed once")
        seen.add(images_of_pair)
        name = next(name for name in _names(task_input, target) if not any(name in others for others in pairs.values()))
        pairs[split][name] = images_of_pair
    listed = {split: pairs_of_split for split, pairs_of_split in pairs.items() if pairs_of_split}
    if not listed:
        raise FolderError(f"{file}: lists no pairs: must have lines input,target or input,target,split")
    return listed


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """The cells of each line that is not empty, and its number."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, strict=True)
            return [(lines.line_num, stripped) for cells in lines if any(stripped := [cell.strip() for cell in cells])]
    except FileNotFoundError:
        raise FolderError(f"{file}: no such file") from None
    except OSError as error:
        raise FolderError(f"{file}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise FolderError(f"{file}: is not a CSV file in UTF-8 ({error})") from None


def _header(cells: Sequence[str]) -> dict[str, int] | None:
    """The index of each column, if the first line is a header: one without file extensions."""
    if any(Path(cell).suffix for cell in cells):
        return None
    names = [cell.lower() for cell in cells]
    if set(COLUMNS[:2]) <= set(names):
        return {name: names.index(name) for name in COLUMNS if name in names}
    return {"input": 0, "target": 1} | ({"split": names.index("split")} if "split" in names else {})


def _cells(where: str, cells: Sequence[str], order: dict[str, int] | None) -> tuple[str, str, str]:
    """Input, target and split of a line."""
    if order is None:
        order = dict(zip(COLUMNS, range(max(2, len(cells))), strict=False))
    if len(cells) <= max(order["input"], order["target"]):
        raise FolderError(f"{where}: has {len(cells)} columns: must be input,target or input,target,split")
    task_input, target, split = (cells[order[name]] if order.get(name, len(cells)) < len(cells) else "" for name in COLUMNS)
    if "|" in task_input:
        raise FolderError(f"{where}: has several inputs, {task_input!r}: must be one file; a TIFF can hold all their channels")
    if split.lower() not in SPLITS:
        raise FolderError(f"{where}: unknown split {split!r}: one of train, val, test")
    return task_input, target, SPLITS[split.lower()]


def _file(where: str, folder: Path, cell: str) -> Path:
    file = os.path.normpath(os.path.join(folder, cell))
    if not cell or not os.path.isfile(file):
        raise FolderError(f"{where}: {file if cell else 'an empty path'}: no such file")
    return Path(file)


def _names(*cells: str) -> Iterator[str]:
    """Names for a pair, of which the first that is not taken yet is used."""
    paths = [os.path.normpath(cell) for cell in cells]
    short = [os.path.splitext(path)[0] for path in paths]
    yield from (short[0], " ".join(short), " ".join(paths))
