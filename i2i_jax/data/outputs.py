"""Images that any model wrote, matched by name with the real images that they are compared with."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2i_jax.data import images
from i2i_jax.data.folder import FolderError, by_stem
from i2i_jax.data.values import BY_TYPE, Scale


class Output(NamedTuple):
    """A real image and its generated ones.

    Attributes:
        name: the stem of the real image's file.
        real: its file; if it is a side-by-side pair, it also holds the input.
        fakes: the files of its samples.
    """

    name: str
    real: Path
    fakes: tuple[Path, ...]


class Read(NamedTuple):
    """The images of an Output, uint8, uint16 or floats in [-1, 1]; None if there is no such image.

    Attributes:
        input: [h, w, c].
        target: [h, w, c].
        samples: [n, h, w, c].
    """

    input: np.ndarray | None
    target: np.ndarray | None
    samples: np.ndarray | None


def matched(real: str | Path, fake: str | Path) -> list[Output]:
    """Matches generated images with real ones by name: those of NAME are called NAME, or NAME_ followed by anything.

    For example, NAME_fake_B is an output for NAME, and NAME_001 and NAME_002 are two samples for it. Real images without outputs are
    left out.

    Args:
        real: the folder of real images.
        fake: the folder of generated images.

    Returns:
        An Output for each real image with outputs, sorted by name.

    Raises:
        FolderError: if an output matches no real image, or the real images have different numbers of outputs.
    """
    reals, fakes = _folder(real), _folder(fake)
    groups: dict[str, list[Path]] = {}
    for stem, file in fakes.items():
        candidates = [stem, *(stem[:i] for i in range(len(stem) - 1, 0, -1) if stem[i] == "_")]
        name = next((name for name in candidates if name in reals), None)
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
    """Returns the image files of a folder, sorted by name. Raises FolderError."""
    return list(_folder(folder).values())


def _folder(folder: str | Path) -> dict[str, Path]:
    if not Path(folder).is_dir():
        raise FolderError(f"{folder}: no such folder")
    return by_stem(Path(folder))


def read(output: Output, *, direction: str | None, max_pixels: int = images.MAX_PIXELS, scale: Scale = BY_TYPE) -> Read:
    """Decodes the images of an Output.

    Args:
        output: their files.
        direction: AtoB or BtoA if the real file is a side-by-side pair; None if it is the target alone.
        max_pixels: the most pixels an image may have.
        scale: how the samples of all images are scaled.

    Raises:
        FolderError: if target and samples differ in size or number of channels, or the samples in bit depth.
        ImageError: if an image cannot be read.
    """
    samples = [pixels(fake, max_pixels=max_pixels, scale=scale) for fake in output.fakes]
    real_input, target = real(output.real, direction=direction, like=samples[0].shape[:2], max_pixels=max_pixels, scale=scale)
    for fake, sample in zip(output.fakes, samples, strict=True):
        if sample.shape != target.shape:
            subject = output.real if real_input is None else f"half of {output.real}"
            raise FolderError(f"{subject} is {_shape(target)} but {fake} is {_shape(sample)}: must be the same")
        if sample.dtype != samples[0].dtype:
            raise FolderError(f"{output.fakes[0]} has {samples[0].dtype} samples but {fake} {sample.dtype}: must be the same")
    return Read(real_input, target, np.stack(samples))


def real(
    file: Path, *, direction: str | None, like: tuple[int, int], max_pixels: int = images.MAX_PIXELS, scale: Scale = BY_TYPE
) -> tuple[np.ndarray | None, np.ndarray]:
    """Reads the file of a real image.

    Args:
        file: the target, or a side-by-side pair.
        direction: AtoB or BtoA for a side-by-side pair, A being the left half; None for the target alone.
        like: height and width of the generated image.
        max_pixels: the most pixels the image may have.
        scale: how its samples are scaled.

    Returns:
        Input, None without a `direction`, and target.

    Raises:
        FolderError: if `direction` is None but the file has the size of two images side by side, or its width is odd.
        ImageError: if the file cannot be read.
    """
    whole = pixels(file, max_pixels=max_pixels, scale=scale)
    height, width = whole.shape[:2]
    if direction is None:
        if (height, width) == (like[0], 2 * like[1]):
            raise FolderError(f"{file} is {width}x{height}, its output {like[1]}x{like[0]}: say which half is real, "
                              "--direction=AtoB for the right one, BtoA for the left")  # fmt: skip
        return None, whole
    if width % 2:
        raise FolderError(f"{file}: {images.odd_width(width)}")
    left, right = whole[:, : width // 2], whole[:, width // 2 :]
    return (left, right) if direction == "AtoB" else (right, left)


def pixels(file: Path, *, max_pixels: int = images.MAX_PIXELS, scale: Scale | None = None) -> np.ndarray:
    """Reads an image with the channels of its file, [h, w, c], without alpha; scaled as by `images.read`. Raises ImageError."""
    return images.read(file, channels=images.colours(file, max_pixels=max_pixels), max_pixels=max_pixels, scale=scale)


def _shape(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}x{height}, {'grey' if channels == 1 else 'colour' if channels == 3 else f'{channels} channels'}"
