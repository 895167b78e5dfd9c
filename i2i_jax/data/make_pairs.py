"""Makes folders of pairs, split into train, val and test, from photos or from two folders of images with the same names."""

import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from i2i_jax.data import duplicates, folder, images, outputs, photos, values
from i2i_jax.pages import grids
from i2i_jax.storage.files import new_folder

# Makes one pair of files in DIR/A and DIR/B; returns the pair's difference hashes.
Write = Callable[[tuple[Path, ...], Path], tuple[np.uint64, ...]]


def from_photos(source: Path, output: Path, *, task: str, size: int, val: float, test: float, max_pixels: int = images.MAX_PIXELS) -> None:
    """Writes pairs OUTPUT/A/SPLIT/NAME.png, made from photos, and OUTPUT/B/SPLIT/NAME.png, the photos cropped to squares.

    Args:
        source: the folder of photos.
        output: the folder to write, which must be new or empty; if this fails, nothing is left of it.
        task: a key of `photos.TASKS`.
        size: height and width of the pairs, in pixels.
        val: share of the pairs to hold out for val, in [0, 1]; near-duplicates stay in one split.
        test: likewise for test.
        max_pixels: the most pixels a photo may have.

    Raises:
        FolderError: if `source` has no images, or too few different ones, or `output` is there already.
        ImageError: if a photo cannot be read.
    """
    if not source.is_dir():
        raise folder.FolderError(f"{source}: no such folder")
    files_by_name = {stem: (file,) for stem, file in folder.by_stem(source).items()}
    _write(files_by_name, output, partial(_from_photo, task=task, size=size, max_pixels=max_pixels), val=val, test=test)


def from_folders(inputs: Path, targets: Path, output: Path, *, val: float, test: float, max_pixels: int = images.MAX_PIXELS) -> None:
    """Copies pairs of files into OUTPUT/A/SPLIT and OUTPUT/B/SPLIT.

    Args:
        inputs: the folder of input images.
        targets: the folder of target images, with the same names.
        output: the folder to write, which must be new or empty; if this fails, nothing is left of it.
        val: share of the pairs to hold out for val, in [0, 1]; near-duplicates stay in one split.
        test: likewise for test.
        max_pixels: the most pixels an image may have.

    Raises:
        FolderError: if the folders do not match, or have too few different images, or `output` is there already.
        ImageError: if an image cannot be read, or the two of a pair differ in size.
    """
    for each in (inputs, targets):
        if not each.is_dir():
            raise folder.FolderError(f"{each}: no such folder")
    files_by_name = {files[0].stem: files for files in folder.matched((inputs, targets))}
    _write(files_by_name, output, partial(_copy, max_pixels=max_pixels), val=val, test=test)


def _write(files_by_name: dict[str, tuple[Path, ...]], output: Path, write: Write, *, val: float, test: float) -> None:
    names = sorted(files_by_name)
    with new_folder(output, error=folder.FolderError) as root:
        for side in "AB":
            (root / side).mkdir()
        with ThreadPoolExecutor() as pool:
            results = pool.map(lambda name: write(files_by_name[name], root), names)
            hashes = list(tqdm(results, total=len(names), unit="pair", disable=None))
        group = duplicates.groups(np.array(hashes, np.uint64))
        splits = dict(zip(names, duplicates.split(names, group, val=val, test=test), strict=True))
        _move_to_splits(root, splits)


def _move_to_splits(root: Path, splits: dict[str, str]) -> None:
    """Moves each file of ROOT/A and ROOT/B into the folder of its split."""
    for side in "AB":
        for file in list((root / side).iterdir()):
            split_folder = root / side / splits[file.stem]
            split_folder.mkdir(exist_ok=True)
            file.rename(split_folder / file.name)


def _from_photo(files: tuple[Path, ...], root: Path, *, task: str, size: int, max_pixels: int) -> tuple[np.uint64, ...]:
    (file,) = files
    whole = Image.fromarray(grids.to_8_bits(images.read(file, channels=3, max_pixels=max_pixels, scale=values.BY_TYPE)))
    photo = np.asarray(ImageOps.fit(whole, (size, size), Image.Resampling.BICUBIC))
    task_input = photos.TASKS[task](photo, np.random.default_rng(zlib.crc32(file.stem.encode(errors="surrogateescape"))))
    for side, image in (("A", task_input), ("B", photo)):
        Image.fromarray(image).save(root / side / f"{file.stem}.png")
    return (duplicates.difference_hash(photo),)


def _copy(files: Sequence[Path], root: Path, *, max_pixels: int) -> tuple[np.uint64, ...]:
    pair = [outputs.pixels(file, max_pixels=max_pixels) for file in files]
    images.check_same_size(files, pair)
    for side, file in zip("AB", files, strict=True):
        shutil.copyfile(file, root / side / file.name)
    return tuple(duplicates.difference_hash(image) for image in pair)
