"""Lists of pairs in CSV files: a line input,target or input,target,split for each pair, with or without a header line.

An input of several files, which are concatenated, is written a.png|b.png.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from i2i_jax.data import listing
from i2i_jax.data.listing import FolderError

NAME = "pairs.csv"  # in a folder of pairs
COLUMNS = ("input", "target", "split")
SPLITS = {"": "train"} | {name: split for split, names in listing.SPLITS.items() for name in names}
SEPARATOR = "|"  # of the files of an input


def find(root: Path) -> Path | None:
    """Returns the list of pairs that `root` is or holds; None if there is none."""
    if is_list(root):
        return root
    return root / NAME if (root / NAME).is_file() else None


def is_list(path: Path) -> bool:
    """Whether a path names a CSV file."""
    return path.suffix.lower() == ".csv" and not path.is_dir()


def read(file: Path) -> dict[str, dict[str, tuple[Path, ...]]]:
    """Reads a list of pairs. Paths in it are relative to its folder.

    Args:
        file: the list, in UTF-8.

    Returns:
        The files of each pair by its name, for each split in the list: those of the input, then the target. All pairs have the same number
        of files. The name is the path of the input's first file in the list's folder, without extension; the other files' are appended if
        an earlier line has that name.

    Raises:
        FolderError: if the file cannot be read, or names the first line that is wrong.
    """
    pairs: dict[str, dict[str, tuple[Path, ...]]] = {split: {} for split in SPLITS.values()}
    lines, seen = _lines(file), set()
    order = _header(lines[0][1]) if lines else None
    for number, cells in (body := lines[order is not None :]):
        where = f"{file}, line {number}"
        task_input, target, split = _cells(where, cells, order)
        files_of_pair = *_files(where, file.parent, task_input), _file(where, file.parent, target)
        if files_of_pair in seen:
            raise FolderError(f"{where}: {task_input} and {target} are listed before: each pair must be listed once")
        if seen and len(files_of_pair) != (others := len(next(iter(seen)))):
            raise FolderError(f"{where}: has {_inputs(len(files_of_pair) - 1)}, but line {body[0][0]} has {others - 1}: must be as many")
        seen.add(files_of_pair)
        names = _names(*task_input.split(SEPARATOR), target)
        name = next(name for name in names if not any(name in others for others in pairs.values()))
        pairs[split][name] = files_of_pair
    listed = {split: pairs_of_split for split, pairs_of_split in pairs.items() if pairs_of_split}
    if not listed:
        raise FolderError(f"{file}: lists no pairs: must have lines input,target or input,target,split")
    return listed


def read_inputs(file: Path, *, direction: str = "AtoB") -> list[tuple[Path, ...]]:
    """Reads a list of inputs: a column of them, alone or beside others, as in a list of pairs.

    Args:
        file: the list, in UTF-8.
        direction: with BtoA, the inputs are the targets of a list of pairs.

    Returns:
        The files of each input, once each.

    Raises:
        FolderError: if the file cannot be read, lists no inputs, or names the first line that is wrong.
    """
    lines = _lines(file)
    has_header = bool(lines) and _header(lines[0][1]) is not None
    column = _input_column(lines[0][1], has_header, direction) if lines else 0
    inputs: dict[tuple[Path, ...], None] = {}
    for number, cells in lines[has_header:]:
        where = f"{file}, line {number}"
        files = _files(where, file.parent, cells[column] if column < len(cells) else "")
        if inputs and len(files) != (others := len(next(iter(inputs)))):
            raise FolderError(f"{where}: has {_inputs(len(files))}, but the lines before have {others}: must be as many")
        inputs[files] = None
    if not inputs:
        raise FolderError(f"{file}: lists no inputs: must have a line for each, a file or several, a.png{SEPARATOR}b.png")
    return list(inputs)


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


def _input_column(cells: Sequence[str], is_header: bool, direction: str) -> int:
    """The index of the column that holds the inputs of a run of this direction, by the first line of a list."""
    names = [cell.lower() for cell in cells] if is_header else []
    if "input" in names:
        return names.index("target" if direction == "BtoA" and "target" in names else "input")
    return int(direction == "BtoA" and len(cells) > 1)


def _cells(where: str, cells: Sequence[str], order: dict[str, int] | None) -> tuple[str, str, str]:
    """Input, target and split of a line."""
    if order is None:
        order = dict(zip(COLUMNS, range(max(2, len(cells))), strict=False))
    if len(cells) <= max(order["input"], order["target"]):
        raise FolderError(f"{where}: has {len(cells)} columns: must be input,target or input,target,split")
    task_input, target, split = (cells[order[name]] if order.get(name, len(cells)) < len(cells) else "" for name in COLUMNS)
    if split.lower() not in SPLITS:
        raise FolderError(f"{where}: unknown split {split!r}: one of train, val, test")
    return task_input, target, SPLITS[split.lower()]


def _files(where: str, folder: Path, cell: str) -> tuple[Path, ...]:
    """The files of an input."""
    return tuple(_file(where, folder, part.strip()) for part in cell.split(SEPARATOR))


def _inputs(count: int) -> str:
    return f"{count} input file{'s' * (count > 1)}"


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
