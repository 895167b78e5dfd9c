"""Folders of pairs made of what people have: photos alone, or two folders of images with the same names."""

import contextlib
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from i2i_jax.data import duplicates, folder, images, outputs, photos
from i2i_jax.pages import grids

Write = Callable[[tuple[Path, ...], Path], tuple[np.uint64, ...]]  # (files, DIR) -> the hashes of what it made of them in DIR/A and DIR/B


def from_photos(source: Path, output: Path, *, task: str, size: int, val: float, test: float, max_pixels: int = images.MAX_PIXELS) -> None:
    """Writes OUTPUT/A/SPLIT/NAME.png, made of the photos by a task of `photos.TASKS`, and B, the photos as squares of `size` pixels.

    Raises FolderError or ImageError, and then leaves nothing.
    """
    if not source.is_dir():
        raise folder.FolderError(f"{source}: no such folder")
    found = {stem: (file,) for stem, file in folder.by_stem(source).items()}
    _write(found, output, partial(_from_photo, task=task, size=size, max_pixels=max_pixels), val=val, test=test)


def from_folders(inputs: Path, targets: Path, output: Path, *, val: float, test: float, max_pixels: int = images.MAX_PIXELS) -> None:
    """Copies the files into OUTPUT/A/SPLIT and OUTPUT/B/SPLIT. Raises FolderError or ImageError, and then leaves nothing."""
    for each in (inputs, targets):
        if not each.is_dir():
            raise folder.FolderError(f"{each}: no such folder")
    found = {files[0].stem: files for files in folder.matched((inputs, targets))}
    _write(found, output, partial(_copy, max_pixels=max_pixels), val=val, test=test)


def _write(found: dict[str, tuple[Path, ...]], output: Path, write: Write, *, val: float, test: float) -> None:
    names = sorted(found)
    with _new_folder(output) as made:
        for side in "AB":
            (made / side).mkdir()
        with ThreadPoolExecutor() as pool:
            hashes = list(tqdm(pool.map(lambda name: write(found[name], made), names), total=len(names), unit="pair", disable=None))
        group = duplicates.groups(np.array(hashes, np.uint64))
        split = dict(zip(names, duplicates.split(names, group, val=val, test=test), strict=True))
        _deal(made, split)


def _deal(made: Path, split: dict[str, str]) -> None:
    """Moves each file into the folder of its split."""
    for side in "AB":
        for file in list((made / side).iterdir()):
            place = made / side / split[file.stem]
            place.mkdir(exist_ok=True)
            file.rename(place / file.name)


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder that takes its name once it is complete. Raises FolderError where there is something of that name."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise folder.FolderError(f"{path} is there already: name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        made = Path(temporary) / "pairs"
        made.mkdir()
        yield made
        made.rename(path)


def _from_photo(files: tuple[Path, ...], made_in: Path, *, task: str, size: int, max_pixels: int) -> tuple[np.uint64, ...]:
    (file,) = files
    read = Image.fromarray(grids.to_8_bits(images.read(file, channels=3, max_pixels=max_pixels)))
    photo = np.asarray(ImageOps.fit(read, (size, size), Image.Resampling.BICUBIC))
    made = photos.TASKS[task](photo, np.random.default_rng(zlib.crc32(file.stem.encode(errors="surrogateescape"))))
    for side, image in (("A", made), ("B", photo)):
        Image.fromarray(image).save(made_in / side / f"{file.stem}.png")
    return (duplicates.difference_hash(photo),)


def _copy(files: Sequence[Path], made: Path, *, max_pixels: int) -> tuple[np.uint64, ...]:
    read = [outputs.pixels(file, max_pixels=max_pixels) for file in files]
    if read[0].shape[:2] != read[1].shape[:2]:
        found = " but ".join(f"{file} is {x.shape[1]}x{x.shape[0]}" for file, x in zip(files, read, strict=True))
        raise images.ImageError(f"{found}: must be of one size")
    for side, file in zip("AB", files, strict=True):
        shutil.copyfile(file, made / side / file.name)
    return tuple(duplicates.difference_hash(x) for x in read)
