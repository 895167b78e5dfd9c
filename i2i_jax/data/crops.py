"""The scale that pairs are trained at, and random crops of pairs of different sizes."""

import dataclasses
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from i2i_jax.config import SIZE_MULTIPLES, Config, DataConfig, sides, size_text
from i2i_jax.data import checks
from i2i_jax.data.image_header import ImageError
from i2i_jax.data.pairs import Pair, Pairs, file_of, region_of, size_of
from i2i_jax.data.pixel_cache import PixelCache

MOST_EVALUATED = 2048  # pixels: evaluations show at most the central square of this side of an image that is not resized


class TrainingSize(NamedTuple):
    """How images are resized before training crops them; see `config.DataConfig`.

    Attributes:
        resize: square, width, none or pad.
        load: height and width of `data.load_size`, in pixels.
        crop: height and width of `data.crop_size`, in pixels.
    """

    resize: str
    load: tuple[int, int]
    crop: tuple[int, int]

    @classmethod
    def of_config(cls, data: DataConfig) -> "TrainingSize":
        return cls(data.resize, sides(data.load_size), sides(data.crop_size))

    @property
    def crops_on_host(self) -> bool:
        """Whether resized images differ in size, so that they are cropped before they become a batch."""
        return self.resize in ("width", "none")

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image of this size after the resize, without padding."""
        if self.resize == "none":
            return height, width
        if self.resize == "square":
            return self.load
        if self.resize == "width":
            return max(1, round(height * self.load[1] / width)), self.load[1]
        factor = min(self.load[0] / height, self.load[1] / width)
        return max(1, min(self.load[0], round(height * factor))), max(1, min(self.load[1], round(width * factor)))

    def misfit(self, height: int, width: int, *, multiple: int = 1) -> str:
        """Why no crop of an image of this size is possible, and what would do; "" if there is one.

        Args:
            height: of the image as it is stored, in pixels.
            width: of the image as it is stored, in pixels.
            multiple: height and width of crops must be multiples of this.
        """
        scaled = self.scaled(height, width)
        if all(side >= least for side, least in zip(scaled, self.crop, strict=True)):
            return ""
        after = "" if scaled == (height, width) else f", after data.resize={self.resize} {scaled[1]} wide and {scaled[0]} high"
        smaller = [min(side, most) // multiple * multiple for side, most in zip(scaled, self.crop, strict=True)]
        other = f", or data.crop_size={size_text(*smaller)}" if all(smaller) else ""
        small = f"is {width} pixels wide and {height} high{after}: too small for data.crop_size {size_text(*self.crop)}"
        return f"{small}: data.resize=pad would do{other}"


def usable(pairs: Pairs, config: Config) -> Pairs:
    """Returns the pairs that are large enough for a crop, in their order; sizes are read from the files' headers.

    Raises:
        ImageError: if a pair is too small; with `data.skip_bad`, only if there are no others.
    """
    training_size, multiple = TrainingSize.of_config(config.data), SIZE_MULTIPLES[config.model.generator]
    if not training_size.crops_on_host:
        return pairs
    return checks.without(pairs, lambda index: _problem(pairs, index, training_size, multiple), skip_bad=config.data.skip_bad)


def _problem(pairs: Pairs, index: int, training_size: TrainingSize, multiple: int) -> str | None:
    try:
        misfit = training_size.misfit(*size_of(pairs, index), multiple=multiple)
    except ImageError as error:
        return str(error)
    return f"{file_of(pairs, index)}: {misfit}" if misfit else None


def central(pairs: Pairs, index: int, training_size: TrainingSize) -> Pair:
    """Returns a pair; of one that is not resized at most the central MOST_EVALUATED pixels of its height and width."""
    if training_size.resize != "none":
        return pairs[index]
    size = size_of(pairs, index)
    if max(size) <= MOST_EVALUATED:
        return pairs[index]
    starts = [max(0, (side - MOST_EVALUATED) // 2) for side in size]
    cut = [slice(start, min(side, start + MOST_EVALUATED)) for start, side in zip(starts, size, strict=True)]
    return region_of(pairs, index, *cut) or Pair(*(image[cut[0], cut[1]] for image in pairs[index]))


def corner(size: tuple[int, int], crop: tuple[int, int], *, seed: int, step: int, row: int) -> tuple[int, int]:
    """Top and left of a random crop, uniform over all positions in an image of this height and width.

    It depends only on the arguments: NumPy guarantees the values of a SeedSequence in all versions.
    """
    words = np.random.SeedSequence([seed, step, row]).generate_state(2, np.uint64)
    top, left = (int(word) % (side - length + 1) for word, side, length in zip(words, size, crop, strict=True))
    return top, left


@dataclasses.dataclass(eq=False)
class Crops:
    """Random crops of pairs at the scale of training, as a function of the pair's index, the step and the row in the global batch.

    A pair is decoded and resized once and kept in memory, as far as `cache_gb` reaches; others are kept on disk, or decoded for every
    crop. TIFFs stored in tiles that are not resized are never read as a whole.

    Attributes:
        pairs: the dataset.
        training_size: the resize and the size of the crops.
        resized: resizes a pair.
        seed: seed of the crops.
        cache_gb: most GB of pairs in memory.
        disk: opens the cache on disk, for pairs of the shapes of an example.
    """

    pairs: Pairs
    training_size: TrainingSize
    resized: Callable[[Pair], Pair]
    seed: int
    cache_gb: float
    disk: Callable[[Pair], PixelCache | None]

    def __post_init__(self):
        self._memory: dict[int, Pair] = {}
        self._bytes_left = self.cache_gb * 1e9
        self._disk: PixelCache | None = None
        self._disk_opened = False
        self._lock = threading.Lock()

    def __call__(self, index: int, step: int, row: int) -> Pair:
        """Raises ImageError if the pair cannot be read or is too small."""
        pair = self._memory.get(index)
        if pair is None and self.training_size.resize == "none":
            cut = self._cut(size_of(self.pairs, index), index, step, row)
            if region := region_of(self.pairs, index, *cut):
                return region
        pair = pair or self._whole(index)
        cut = self._cut(pair.input.shape[:2], index, step, row)
        return Pair(*(image[cut] for image in pair))

    def _cut(self, size: tuple[int, int], index: int, step: int, row: int) -> tuple[slice, slice]:
        crop = self.training_size.crop
        if size[0] < crop[0] or size[1] < crop[1]:
            raise ImageError(f"{file_of(self.pairs, index)}: {self.training_size.misfit(*size_of(self.pairs, index))}")
        top, left = corner(size, crop, seed=self.seed, step=step, row=row)
        return slice(top, top + crop[0]), slice(left, left + crop[1])

    def _whole(self, index: int) -> Pair:
        """A resized pair, which is decoded if no cache has it, and kept."""
        disk = self._opened_disk() if self._bytes_left <= 0 else None
        pair = disk.read(index) if disk else None
        if pair is not None:
            return pair
        pair = self.resized(self.pairs[index])
        with self._lock:
            kept = index not in self._memory and self._bytes_left >= (size := sum(image.nbytes for image in pair))
            if kept:
                self._memory[index] = pair
                self._bytes_left -= size
            elif index not in self._memory:
                self._bytes_left = 0
        if not kept and (disk := self._opened_disk()):
            disk.write(index, pair)
        return pair

    def _opened_disk(self) -> PixelCache | None:
        with self._lock:
            if not self._disk_opened:
                self._disk, self._disk_opened = self.disk(self.resized(self.pairs[0])), True
            return self._disk
