"""How folders of pairs are laid out: which files belong to which split and side, and which to none."""

import functools
from collections.abc import Sequence
from pathlib import Path

from i2i_jax.data import listing, pair_list
from i2i_jax.data.listing import FolderError, Side

SPLITS = tuple(listing.SPLITS)
TWO_FOLDERS = (("{}A", "{}B"), ("A/{}", "B/{}"))  # in the order in which they are looked for, with the split for {}
MORE_TWO_FOLDERS = (("{}_A", "{}_B"), ("{}/A", "{}/B"))
SUITABLE = (
    "trainA/ and trainB/, train_A/ and train_B/, A/train/ and B/train/, train/A/ and train/B/ or A/ and B/ (a pair: two files of the same "
    "name), side-by-side files in train/, NAME_A beside NAME_B, or a list pairs.csv (input,target)"
)

Layout = dict[str, tuple[Path, ...]]


class Listing:
    """The files of a folder of pairs, listed when they are first needed, and not again.

    Args:
        root: the folder, or a list of pairs (.csv).

    Attributes:
        layout: the folders of each split: those of A and B, or one folder, or the list that names the pairs.

    Raises:
        FolderError: if `root` does not exist, holds no layout or several, or only one of the folders A and B; or from `pair_list.read`.
    """

    def __init__(self, root: Path):
        self.root, self.list_file = root, pair_list.find(root)
        self._pairs = pair_list.read(self.list_file) if self.list_file else {}
        self.layout: Layout = dict.fromkeys(self._pairs, (self.list_file,)) if self.list_file else _layout(root)
        self.sides = functools.cache(self._sides)

    def _sides(self, split: str) -> list[Side]:
        """Lists the files of a split: those of all sides, inputs first, or one list of side-by-side files.

        Raises:
            FolderError: if a folder has no images, or two of the same name.
        """
        places = self.layout[split]
        if len(places) == 2:
            return [Side(folder, listing.by_name(folder)) for folder in places]
        if not self.list_file:
            return listing.one_folder(places[0])
        pairs = self._pairs[split]
        count = len(next(iter(pairs.values())))
        return [Side(self.list_file, {name: files[index] for name, files in pairs.items()}) for index in range(count)]

    def unused(self) -> str:
        """Returns what `root` holds beside its pairs, as one line: other files by extension, and folders; "" if there is nothing."""
        used = {file for split in self.layout for side in self.sides(split) for file in side.files.values()}
        base = self.list_file.parent if self.list_file else self.root
        parents = {folder for parent in {file.parent for file in used} for folder in (parent, *parent.parents)}
        folders = {base} | {folder for folder in parents if base in folder.parents}
        known = used | folders | {self.list_file}
        return listing.contents([entry for folder in folders for entry in folder.iterdir() if entry not in known], base)


def layout(root: Path) -> Layout:
    """Returns the folders of each split in `root`, as `Listing.layout`. Raises FolderError."""
    return Listing(root).layout


def _layout(root: Path) -> Layout:
    """The folders of each split in a folder without a list."""
    if not root.is_dir():
        raise FolderError(f"{root}: no such folder")
    for patterns in TWO_FOLDERS:
        if present := _present(root, patterns):
            return _complete(present)
    if any((root / side).is_dir() for side in "AB"):
        return _complete({"train": (root / "A", root / "B")})
    single = _present(root, ("{}",)) or {"train": (root,)}
    has_single_files = any(listing.image_files(folder) for (folder,) in single.values())
    others = [_without_test_inputs(present) for patterns in MORE_TWO_FOLDERS if (present := _present(root, patterns))]
    usable = [present for present in others if not _incomplete(present)]
    if len(usable) + has_single_files > 1:
        places = [" and ".join(map(str, next(iter(present.values())))) for present in usable]
        beside = f"image files in {next(iter(single.values()))[0]}" if has_single_files else places.pop()
        raise FolderError(f"{root}: has pairs in {places[0]}, but also {beside}: move one of them elsewhere")
    if others and not has_single_files:
        return (usable or [_complete(others[0])])[0]
    if single == {"train": (root,)} and not has_single_files:
        raise FolderError(listing.no_images(root) + (f"; would do: {SUITABLE}" if listing.contents(list(root.iterdir()), root) else ""))
    return single


def is_renamed(places: tuple[Path, ...], root: Path) -> bool:
    """Whether the folders of the val split are called validation, which earlier versions did not read."""
    return "validation" in str(places[0].relative_to(root))


def _present(root: Path, patterns: Sequence[str]) -> Layout:
    """The folders of each split by patterns of their names; validation is read only beside another split."""
    present = {}
    for split, names in listing.SPLITS.items():
        for name in names:
            folders = tuple(root / pattern.format(name) for pattern in patterns)
            if any(folder.is_dir() for folder in folders) and (name == split or _can_be_read(folders)):
                present[split] = folders
                break
    return present if any(not is_renamed(folders, root) for folders in present.values()) else {}


def _can_be_read(folders: Sequence[Path]) -> bool:
    return all(folder.is_dir() and (listing.image_files(folder) or listing.nested_image_files(folder)) for folder in folders)


def _incomplete(present: Layout) -> list[tuple[Path, ...]]:
    return [folders for folders in present.values() if not all(folder.is_dir() for folder in folders)]


def _complete(present: Layout) -> Layout:
    if incomplete := _incomplete(present):
        missing, partner = sorted(incomplete[0], key=Path.is_dir)
        raise FolderError(f"{missing}: no such folder, though {partner} exists")
    return present


def _without_test_inputs(present: Layout) -> Layout:
    """Leaves out a test split that has inputs only, as pix2pixHD's test_A."""
    if len(present) > 1 and "test" in present and not present["test"][1].is_dir():
        return {split: folders for split, folders in present.items() if split != "test"}
    return present
