"""Images of several files, such as an edge map and a depth map: their channels are concatenated."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from i2i_jax.data import images, values
from i2i_jax.data.image_header import Pixels
from i2i_jax.data.images import MAX_PIXELS, ImageError
from i2i_jax.data.values import BY_TYPE, Scale
from i2i_jax.types import SampleType


class ChannelsError(ImageError):
    """Files that do not have the number of channels that is needed, all together."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tiled:
    """An image of several TIFFs stored in tiles, of which regions can be read, as of `images.Tiled`."""

    parts: Sequence[images.Tiled]

    @property
    def shape(self) -> tuple[int, int, int]:
        return *self.parts[0].shape[:2], sum(part.channels for part in self.parts)

    def __getitem__(self, region: tuple[slice, slice]) -> Pixels:
        """Reads a region. Raises ImageError."""
        return joined([part[region] for part in self.parts])

    @property
    def thinned(self) -> Pixels:
        """As `images.Tiled.thinned`."""
        return joined([part.thinned for part in self.parts])


def read(
    files: Sequence[Path],
    *,
    channels: int,
    max_pixels: int = MAX_PIXELS,
    option: str = "data.input_channels",
    scale: Scale = BY_TYPE,
) -> Pixels:
    """Reads the files of one image.

    Each file has its own number of channels: 1 for grey, 3 for colour and palette images, transparency composited over white, and all
    bands of a TIFF. Grey is not converted to colour, nor colour to grey, since a number of channels in total would not say which file to
    convert.

    Args:
        files: the files, in the order of their channels.
        channels: number of channels of all files together.
        max_pixels: the most pixels each file may have.
        option: the option that is `channels`, for messages.
        scale: scales the samples of each file, as in `images.read`.

    Returns:
        Pixels [h, w, channels]: floats if a file becomes floats, else uint16 if a file becomes uint16, else uint8.

    Raises:
        ImageError: if a file cannot be read, or the files do not have one size and `channels` together.
    """
    counts = file_channels(files, channels=channels, max_pixels=max_pixels, option=option)
    parts = [images.read(file, channels=count, max_pixels=max_pixels, scale=scale) for file, count in zip(files, counts, strict=True)]
    for file, part in zip(files[1:], parts[1:], strict=True):
        images.check_same_size((files[0], file), (parts[0], part))
    return joined(parts)


def tiled(
    files: Sequence[Path],
    *,
    channels: int,
    max_pixels: int = MAX_PIXELS,
    option: str = "data.input_channels",
    scale: Scale = BY_TYPE,
) -> Tiled | None:
    """Opens the files of one image for reading by regions, with the arguments of `read`; None if a file has to be read whole.

    Raises ImageError if `read` would reject the headers.
    """
    counts = file_channels(files, channels=channels, max_pixels=max_pixels, option=option)
    parts = images.all_tiled(files, channels=counts, scales=[scale] * len(files), max_pixels=max_pixels)
    if parts is None:
        return None
    for file, part in zip(files[1:], parts[1:], strict=True):
        images.check_same_size((files[0], file), (parts[0], part))
    return Tiled(parts)


def joined(parts: Sequence[Pixels]) -> Pixels:
    """Concatenates the channels of scaled images of one size, converted to one type by `values.widened`."""
    return np.concatenate(values.widened(parts), 2)


def size(files: Sequence[Path], *, channels: int, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns height and width of the upright image, from the headers alone. Raises ImageError if `read` would reject the headers."""
    counts = file_channels(files, channels=channels, max_pixels=max_pixels)
    sizes = [images.size(file, channels=count, max_pixels=max_pixels) for file, count in zip(files, counts, strict=True)]
    for file, other in zip(files[1:], sizes[1:], strict=True):
        images.check_sizes((files[0], file), (sizes[0], other))
    return sizes[0]


def sample_type(files: Sequence[Path], *, scale: Scale = BY_TYPE, max_pixels: int = MAX_PIXELS) -> SampleType:
    """Returns a type for samples in the units of all files: that of the files if they agree, else one that holds the values of all.

    Without a range (`scale`), different types are scaled to 16 bits, see `read`. Raises ImageError.
    """
    types = [images.sample_type(file, max_pixels=max_pixels) for file in files]
    dtypes, npy = {each.dtype for each in types}, all(each.npy for each in types)
    if len(dtypes) == 1:
        return SampleType(types[0].dtype, npy)
    if scale.low is None:
        return SampleType("uint16", npy)
    common = np.result_type(*dtypes).name
    return SampleType(common if common in values.TYPES else "float32", npy)


def file_channels(files: Sequence[Path], *, channels: int, max_pixels: int = MAX_PIXELS, option: str = "data.input_channels") -> list[int]:
    """Returns the number of channels of each file, from the headers alone. Raises ChannelsError if they are not `channels` together."""
    counts = [images.bands(file, max_pixels=max_pixels) for file in files]
    if (total := sum(counts)) != channels:
        listed = " and ".join(f"{file} has {count} channel{'s' * (count > 1)}" for file, count in zip(files, counts, strict=True))
        raise ChannelsError(f"{listed}: {total} together, but {option} is {channels}: {option}={total} would do")
    return counts
