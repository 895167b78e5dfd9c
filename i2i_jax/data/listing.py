"""Image files by name: of a folder, of two folders paired by name, or of NAME_A beside NAME_B in one folder."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from i2i_jax.data import images

SHOWN = 3  # names in an error message
NAMED = 10  # folders and kinds of files in a message
SPLITS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}  # and what each may be called


class FolderError(ValueError):
    """A folder that does not hold pairs: one line that names it, what was found and what is needed."""


class Side(NamedTuple):
    """The files of one side of the pairs, or of both if they are stored side by side.

    Attributes:
        place: the folder or list of the files, for messages.
        files: the file of each pair, by the pair's name.
    """

    place: Path
    files: Mapping[str, Path]


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """Returns the image files of a folder, without its subfolders; hidden and other files are ignored, and .npy beside images."""
    return _without_arrays(file for file in folder.iterdir() if file.suffix.lower() in images.EXTENSIONS and not is_hidden(file.name))


def nested_image_files(folder: Path) -> list[Path]:
    """Returns the image files in the subfolders of a folder, at any depth."""
    files = []
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        if Path(parent) != folder:
            files += [Path(parent, name) for name in names if Path(name).suffix.lower() in images.EXTENSIONS and not is_hidden(name)]
    return _without_arrays(files)


def _without_arrays(files: Iterable[Path]) -> list[Path]:
    """The files without .npy, unless all are: arrays beside images were never read, and are often features or masks of them."""
    files = list(files)
    return [file for file in files if file.suffix.lower() != ".npy"] or files


def by_stem(folder: Path) -> dict[str, Path]:
    """Returns the image files of a folder by stem; hidden and other files are ignored.

    Raises:
        FolderError: if there are none, or two with the same stem.
    """
    return _by_name(folder, image_files(folder))


def by_name(folder: Path) -> dict[str, Path]:
    """Like `by_stem`; but if all image files are in subfolders, the names are their paths in `folder` without extension."""
    return _by_name(folder, image_files(folder) or nested_image_files(folder))


def _by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    if not files:
        raise FolderError(no_images(folder))
    names = {file: _name(file, folder) for file in sorted(files)}
    file_by_name = {name: file for file, name in names.items()}
    if len(file_by_name) < len(files):
        repeated = sorted({name for file, name in names.items() if file_by_name[name] != file})
        raise FolderError(f"{folder}: {some(repeated)} found more than once, with different extensions ({len(repeated)} names)")
    return file_by_name


def _name(file: Path, folder: Path) -> str:
    return file.stem if file.parent == folder else "/".join((*file.parent.relative_to(folder).parts, file.stem))


def one_folder(folder: Path) -> list[Side]:
    """Returns the two sides of a folder of NAME_A and NAME_B, if more than half of its images are such pairs; else one side.

    Raises:
        FolderError: as `by_stem`; also if the images are in subfolders that hold the same names, since these are probably A and B.
    """
    files = by_name(folder)
    sides = [Side(folder / f"*{end}", {name[:-2]: file for name, file in files.items() if name.endswith(end)}) for end in ("_A", "_B")]
    if 4 * len(sides[0].files.keys() & sides[1].files.keys()) > len(files):
        return sides
    names_by_subfolder: dict[str, set[str]] = {}
    for subfolder, _, rest in (name.partition("/") for name in files if "/" in name):
        names_by_subfolder.setdefault(subfolder, set()).add(rest)
    subfolders = sorted(names_by_subfolder)
    if len(subfolders) > 1 and all(names == names_by_subfolder[subfolders[0]] for names in names_by_subfolder.values()):
        alike = f"{subfolders[0]}/ and {subfolders[1]}/ hold files of the same names"
        names = f"{folder.name}/A/ and {folder.name}/B/"
        raise FolderError(f"{folder}: {alike}: name them {names} if these are the two images of each pair, else put all into one folder")
    return [Side(folder, files)]


def paired(sides: Sequence[Side]) -> dict[str, tuple[Path, ...]]:
    """Returns the files of each pair, one from each side, sorted by name. Raises FolderError if a name is missing on a side."""
    names = set.union(*(set(side.files) for side in sides))
    unpaired = sorted(name for name in names if not all(name in side.files for side in sides))
    if unpaired:
        where = " and ".join(str(side.place) for side in sides)
        alike = len({unicodedata.normalize("NFC", name).casefold() for name in unpaired}) < len(unpaired)
        hint = ": some names differ only in case or in Unicode normalization" if alike else ""
        alone = "in one folder only" if sides[0].place.name[0] != "*" else "without a partner"
        raise FolderError(f"{where}: {some(unpaired)} {alone} ({len(unpaired)} of {len(names)} names){hint}")
    return {name: tuple(side.files[name] for side in sides) for name in sorted(names)}


def matched(folders: tuple[Path, ...]) -> list[tuple[Path, ...]]:
    """Returns the files of each stem, one from each folder, sorted by stem. Raises FolderError if a stem is not in all folders."""
    return list(paired([Side(folder, by_stem(folder)) for folder in folders]).values())


def some(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more


def no_images(folder: Path) -> str:
    """The error message for a folder without images: says what it holds."""
    held = contents(list(folder.iterdir()), folder)
    return f"{folder}: has no image files ({', '.join(images.EXTENSIONS)})" + (f", only {held}" if held else "")


def contents(entries: Sequence[Path], base: Path) -> str:
    """Describes folders, by their paths in `base` and the number of images in each, and other files, by extension, without hidden ones."""
    visible = sorted(entry for entry in entries if not is_hidden(entry.name))
    parts = [_folder(entry, base) for entry in visible if entry.is_dir()]
    extensions = Counter(entry.suffix.lower() or "other" for entry in visible if not entry.is_dir())
    parts += [f"{count} {extension} file{'s' * (count > 1)}" for extension, count in sorted(extensions.items())]
    return ", ".join(parts[:NAMED]) + (f" and {len(parts) - NAMED} more" if len(parts) > NAMED else "")


def _folder(folder: Path, base: Path) -> str:
    try:
        count = len(image_files(folder))
    except OSError:  # may not be read
        count = 0
    return f"{folder.relative_to(base).as_posix()}/" + (f" ({count} image{'s' * (count > 1)})" if count else "")
