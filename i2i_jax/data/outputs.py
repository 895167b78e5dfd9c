"""The images that some model wrote, matched by name with the real ones they stand for."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2i_jax.data import images
from i2i_jax.data.folder import FolderError, by_stem


class Output(NamedTuple):
    """A real image, all that was made in its place, and its input where the real file shows it side by side."""

    name: str
    real: Path
    fakes: tuple[Path, ...]


class Read(NamedTuple):
    """Of an Output, uint8 or uint16: `input` [h, w, c], `target` [h, w, c], `samples` [n, h, w, c]; None is what there is not."""

    input: np.ndarray | None
    target: np.ndarray | None
    samples: np.ndarray | None


def matched(real: str | Path, fake: str | Path) -> list[Output]:
    """The images of the folder `fake` by the real image they are named after: NAME, or NAME_ and anything else.

    So NAME_fake_B is one of NAME, and NAME_001, NAME_002 are its samples; every real image that has any must have as many. Real
    images without are left out. Raises FolderError.
    """
    reals, fakes = _folder(real), _folder(fake)
    groups: dict[str, list[Path]] = {}
    for stem, file in fakes.items():
        named = [stem, *(stem[:i] for i in range(len(stem) - 1, 0, -1) if stem[i] == "_")]
        name = next((name for name in named if name in reals), None)
        if name is None:
            raise FolderError(f"{file}: no image in {real} has its name, or its name up to a '_'")
        groups.setdefault(name, []).append(file)
    counts = {name: len(files) for name, files in groups.items()}
    first = next(iter(counts))
    for name, count in counts.items():
        if count != counts[first]:
            raise FolderError(f"{fake}: {counts[first]} images of {first!r} but {count} of {name!r}: must be as many of each")
    return [Output(name, reals[name], tuple(groups[name])) for name in reals if name in groups]


def files(folder: str | Path) -> list[Path]:
    """All images of a folder, by name. Raises FolderError."""
    return list(_folder(folder).values())


def _folder(folder: str | Path) -> dict[str, Path]:
    if not Path(folder).is_dir():
        raise FolderError(f"{folder}: no such folder")
    return by_stem(Path(folder))


def read(output: Output, *, direction: str | None, max_pixels: int = images.MAX_PIXELS) -> Read:
    """Decoded, with the real file as `real` has it.

    Raises FolderError where sizes differ, grey and colour meet, or samples of 8 and of 16 bits; ImageError.
    """
    samples = [pixels(fake, max_pixels=max_pixels) for fake in output.fakes]
    given, target = real(output.real, direction=direction, like=samples[0].shape[:2], max_pixels=max_pixels)
    for fake, sample in zip(output.fakes, samples, strict=True):
        if sample.shape != target.shape:
            found = output.real if given is None else f"half of {output.real}"
            raise FolderError(f"{found} is {_shape(target)} but {fake} is {_shape(sample)}: must be the same")
        if sample.dtype != samples[0].dtype:
            raise FolderError(f"{output.fakes[0]} has {samples[0].dtype} samples but {fake} {sample.dtype}: must be the same")
    return Read(given, target, np.stack(samples))


def real(
    file: Path, *, direction: str | None, like: tuple[int, int], max_pixels: int = images.MAX_PIXELS
) -> tuple[np.ndarray | None, np.ndarray]:
    """Input, if there is one, and target. With a `direction` the file has both side by side: AtoB has the target on the right.

    Raises FolderError where it is None though the file is as wide as two images of the height and width `like`; ImageError.
    """
    whole = pixels(file, max_pixels=max_pixels)
    height, width = whole.shape[:2]
    if direction is None:
        if (height, width) == (like[0], 2 * like[1]):
            raise FolderError(f"{file} is {width}x{height}, what stands for it {like[1]}x{like[0]}: name the half that is real, "
                              "--direction=AtoB for the right one, BtoA for the left")  # fmt: skip
        return None, whole
    if width % 2:
        raise FolderError(f"{file}: {images.odd_width(width)}")
    left, right = whole[:, : width // 2], whole[:, width // 2 :]
    return (left, right) if direction == "AtoB" else (right, left)


def pixels(file: Path, *, max_pixels: int = images.MAX_PIXELS) -> np.ndarray:
    """An image as it is stored, 8 or 16 bits, [h, w, c], without alpha."""
    return images.read(file, channels=images.colours(file, max_pixels=max_pixels), max_pixels=max_pixels)


def _shape(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}x{height}, {'grey' if channels == 1 else 'colour' if channels == 3 else f'{channels} channels'}"
