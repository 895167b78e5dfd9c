"""Batches on the host: decode, resize, shuffle, batch. The rest is done on the device (augment.py)."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Array, Int32, Num
from PIL import Image

from i2i_jax.config import sides
from i2i_jax.data import crops, pixel_cache, values
from i2i_jax.data.crops import TrainingSize
from i2i_jax.data.pairs import Pair, Pairs

MAX_THREADS = 16  # that decode
PREFETCHED = 10**9  # bytes of batches that are read ahead; more if 8 batches take more


class RawBatch(NamedTuple):
    """Pairs before augmentation, on the host or on devices.

    Attributes:
        input: uint8, uint16 or floats in [-1, 1], [b, h, w, c_in].
        target: likewise, [b, h, w, c_out].
        row: [b], the index of each pair in the step's global batch, which seeds its augmentation whatever the device layout.
    """

    input: Num[np.ndarray | Array, "b h w c_in"]
    target: Num[np.ndarray | Array, "b h w c_out"]
    row: Int32[np.ndarray | Array, " b"]


def batches(
    pairs: Pairs,
    *,
    load_size: int | str,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    rows: Sequence[int] | np.ndarray | None = None,
    cache_gb: float = 4.0,
    disk_cache_gb: float = 0.0,
    threads: int | None = None,
    input_is_labels: bool = False,
    resize: str = "square",
    crop_size: int | str = 0,
) -> Iterator[RawBatch]:
    """Yields batches endlessly; the batch of step k depends on `seed` and k only.

    Every epoch has all pairs in a new order; a batch may span two epochs.

    Resized to squares or padded, whole pairs are in a batch, and `augment` crops them on the device. Otherwise their sizes differ, and
    the crops are drawn here, by `seed`, the step and the row of the pair in the global batch.

    Args:
        pairs: the dataset.
        load_size: pairs are resized to this size, in pixels or as HEIGHTxWIDTH.
        batch_size: of the global batch.
        seed: of the order of the pairs.
        start_step: the step of the first batch.
        rows: the rows of the global batch that this process reads; None for all.
        cache_gb: a dataset that fits in so many GB, resized, is decoded once and kept in memory.
        disk_cache_gb: a larger dataset is kept on disk, in at most so many GB; see `pixel_cache.opened`. It changes no batch.
        threads: number of threads that decode; None for one for each CPU that this process may use, at most 16.
        input_is_labels: whether the inputs are label maps, which are resized by nearest neighbour.
        resize: how pairs are resized, as `data.resize`.
        crop_size: the size of the crops, as `data.crop_size`; used with `resize` width and none.

    Raises:
        ValueError: if there are no pairs.
    """
    if not len(pairs):
        raise ValueError("no pairs to make batches of")
    own_rows = np.arange(batch_size) if rows is None else np.asarray(rows)
    threads = threads or min(MAX_THREADS, available_cpus())
    training_size = TrainingSize(resize, sides(load_size), sides(crop_size))
    resized = functools.partial(at_training_size, training_size=training_size, input_is_labels=input_is_labels)
    order = grain.MapDataset.range(len(pairs)).seed(seed).shuffle().repeat().batch(batch_size, drop_remainder=True)[start_step:]
    key = load_size if resize == "square" else (resize, load_size)
    if training_size.crops_on_host:
        crop = crops.Crops(pairs, training_size, resized, seed=seed, cache_gb=cache_gb, disk=lambda example: pixel_cache.opened(
            pairs, key, example=example, most_gb=disk_cache_gb))  # fmt: skip
        example = crop(0, 0, 0)
        steps = order.map_with_index(
            lambda step, indices: _stack([crop(int(indices[row]), start_step + step, int(row)) for row in own_rows], own_rows)
        )
    else:
        example = resized(pairs[0])
        get = _cached(pairs, resized, example, cache_gb, lambda: pixel_cache.opened(pairs, key, example=example, most_gb=disk_cache_gb))
        steps = order.map(lambda indices: _stack([get(int(indices[row])) for row in own_rows], own_rows))
    prefetched = min(2 * threads, max(8, PREFETCHED // (len(own_rows) * _bytes(example) or 1)))
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=min(threads, prefetched), prefetch_buffer_size=prefetched)))


def fixed(pairs: Pairs, indices: Sequence[int], *, size: int | tuple[int, int], input_is_labels: bool = False) -> RawBatch:
    """Returns the pairs at `indices` as one batch, resized to `size`, a side or (height, width); label maps by nearest neighbour."""
    return stacked([_resized(pairs[index], size, input_is_labels) for index in indices])


def stacked(pairs: Sequence[Pair]) -> RawBatch:
    """Returns pairs of one size as a batch."""
    return _stack(pairs, np.arange(len(pairs)))


def at_training_size(pair: Pair, training_size: TrainingSize, *, input_is_labels: bool = False) -> Pair:
    """Resizes a pair as training does before the crop."""
    size = training_size.scaled(pair.input.shape[0], pair.input.shape[1])
    resized = _resized(pair, size, input_is_labels)
    return Pair(*(mirrored(image, training_size.load) for image in resized)) if training_size.resize == "pad" else resized


def mirrored(image: Num[np.ndarray, "h w c"], size: tuple[int, int]) -> Num[np.ndarray, "_h _w c"]:
    """Pads an image by reflection on the right and at the bottom to at least this height and width."""
    missing = [(0, max(0, side - length)) for side, length in zip(size, image.shape, strict=False)]
    return np.pad(image, (*missing, (0, 0)), mode="symmetric") if np.any(missing) else image


def resize(image: Num[np.ndarray, "h w c"], size: int | tuple[int, int]) -> Num[np.ndarray, "_h _w c"]:
    """Resizes to a square of `size`, or to (height, width), with Pillow's bicubic filter.

    The image is uint8, uint16 or floats in [-1, 1], with any number of channels.
    """
    height, width = size if isinstance(size, tuple) else (size, size)
    if image.shape[:2] == (height, width):
        return image
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(image, 2, 0)]
    floats = np.stack([np.asarray(c.resize((width, height), Image.Resampling.BICUBIC)) for c in channels], 2)
    if np.issubdtype(image.dtype, np.floating):
        return np.clip(floats, -1, 1).astype(image.dtype)
    return np.clip(np.rint(floats), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def resize_labels(label_map: Num[np.ndarray, "h w c"], size: int | tuple[int, int]) -> Num[np.ndarray, "_h _w c"]:
    """Resizes to a square of `size`, or to (height, width), by nearest neighbour, as Pillow does."""
    new_sides = size if isinstance(size, tuple) else (size, size)
    rows, columns = (
        ((np.arange(side) + 0.5) * length / side).astype(int) for side, length in zip(new_sides, label_map.shape, strict=False)
    )
    return label_map[rows[:, None], columns]


def available_cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    if count := getattr(os, "process_cpu_count", None):  # since Python 3.13
        return count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cached(
    pairs: Pairs,
    resized: Callable[[Pair], Pair],
    first: Pair,
    cache_gb: float,
    open_disk_cache: Callable[[], pixel_cache.PixelCache | None],
) -> Callable[[int], Pair]:
    """A function from index to resized pair, which keeps all pairs in memory if they fit, otherwise on disk."""
    if len(pairs) * _bytes(first) > cache_gb * 1e9:
        return _kept_on_disk(pairs, resized, open_disk_cache())
    memory = {0: first}

    def get(index: int) -> Pair:
        if index not in memory:
            memory[index] = resized(pairs[index])
        return memory[index]

    return get


def _kept_on_disk(pairs: Pairs, resized: Callable[[Pair], Pair], disk: pixel_cache.PixelCache | None) -> Callable[[int], Pair]:
    """A function from index to resized pair, which decodes the pairs that `disk` does not hold, and adds them to it."""
    if disk is None:
        return lambda index: resized(pairs[index])

    def get(index: int) -> Pair:
        pair = disk.read(index)
        if pair is None:
            pair = resized(pairs[index])
            disk.write(index, pair)
        return pair

    return get


def _resized(pair: Pair, size: int | tuple[int, int], input_is_labels: bool = False) -> Pair:
    return Pair((resize_labels if input_is_labels else resize)(pair.input, size), resize(pair.target, size))


def _bytes(pair: Pair) -> int:
    return pair.input.nbytes + pair.target.nbytes


def _stack(pairs: Sequence[Pair], rows: np.ndarray) -> RawBatch:
    inputs, targets = zip(*pairs, strict=True)
    return RawBatch(np.stack(values.widened(inputs)), np.stack(values.widened(targets)), rows.astype(np.int32))
