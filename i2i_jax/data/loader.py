"""Batches on the host: decode, resize, shuffle, batch. The rest is done on the device (augment.py)."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Array, Int32, Integer, Num
from PIL import Image

from i2i_jax.data import pixel_cache
from i2i_jax.data.pairs import Pair, Pairs

MAX_THREADS = 16  # that decode
PREFETCHED = 10**9  # bytes of batches that are read ahead; more if 8 batches take more


class RawBatch(NamedTuple):
    """Pairs before augmentation, on the host or on devices.

    Attributes:
        input: uint8 or uint16 [b, h, w, c_in].
        target: uint8 or uint16 [b, h, w, c_out].
        row: [b], the index of each pair in the step's global batch, which seeds its augmentation whatever the device layout.
    """

    input: Integer[np.ndarray | Array, "b h w c_in"]
    target: Integer[np.ndarray | Array, "b h w c_out"]
    row: Int32[np.ndarray | Array, " b"]


def batches(
    pairs: Pairs,
    *,
    load_size: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    rows: Sequence[int] | np.ndarray | None = None,
    cache_gb: float = 4.0,
    disk_cache_gb: float = 0.0,
    threads: int | None = None,
    input_is_labels: bool = False,
) -> Iterator[RawBatch]:
    """Yields batches endlessly; the batch of step k depends on `seed` and k only.

    Every epoch has all pairs in a new order; a batch may span two epochs.

    Args:
        pairs: the dataset.
        load_size: pairs are resized to this height and width, in pixels.
        batch_size: of the global batch.
        seed: of the order of the pairs.
        start_step: the step of the first batch.
        rows: the rows of the global batch that this process reads; None for all.
        cache_gb: a dataset that fits in so many GB, resized, is decoded once and kept in memory.
        disk_cache_gb: a larger dataset is kept on disk, in at most so many GB; see `pixel_cache.opened`. It changes no batch.
        threads: number of threads that decode; None for one for each CPU that this process may use, at most 16.
        input_is_labels: whether the inputs are label maps, which are resized by nearest neighbour.

    Raises:
        ValueError: if there are no pairs.
    """
    if not len(pairs):
        raise ValueError("no pairs to make batches of")
    own_rows = np.arange(batch_size) if rows is None else np.asarray(rows)
    threads = threads or min(MAX_THREADS, available_cpus())
    resized = functools.partial(_resized, size=load_size, input_is_labels=input_is_labels)
    example = resized(pairs[0])
    get = _cached(pairs, resized, example, cache_gb, lambda: pixel_cache.opened(pairs, load_size, example=example, most_gb=disk_cache_gb))
    prefetched = min(2 * threads, max(8, PREFETCHED // (len(own_rows) * _bytes(example) or 1)))
    order = grain.MapDataset.range(len(pairs)).seed(seed).shuffle().repeat().batch(batch_size, drop_remainder=True)
    steps = order[start_step:].map(lambda indices: _stack([get(int(indices[row])) for row in own_rows], own_rows))
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=min(threads, prefetched), prefetch_buffer_size=prefetched)))


def fixed(pairs: Pairs, indices: Sequence[int], *, size: int, input_is_labels: bool = False) -> RawBatch:
    """Returns the pairs at `indices` as one batch, resized to `size` x `size` pixels; label maps by nearest neighbour."""
    return _stack([_resized(pairs[index], size, input_is_labels) for index in indices], np.arange(len(indices)))


def resize(image: Num[np.ndarray, "h w c"], size: int) -> Num[np.ndarray, "size size c"]:
    """Resizes to a square with Pillow's bicubic filter: uint8, uint16 or floats in [-1, 1], with any number of channels."""
    if image.shape[:2] == (size, size):
        return image
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(image, 2, 0)]
    floats = np.stack([np.asarray(c.resize((size, size), Image.Resampling.BICUBIC)) for c in channels], 2)
    if np.issubdtype(image.dtype, np.floating):
        return np.clip(floats, -1, 1).astype(image.dtype)
    return np.clip(np.rint(floats), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def resize_labels(label_map: Num[np.ndarray, "h w c"], size: int) -> Num[np.ndarray, "size size c"]:
    """Resizes to a square by nearest neighbour, as Pillow does."""
    rows, columns = (((np.arange(size) + 0.5) * length / size).astype(int) for length in label_map.shape[:2])
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


def _resized(pair: Pair, size: int, input_is_labels: bool = False) -> Pair:
    return Pair((resize_labels if input_is_labels else resize)(pair.input, size), resize(pair.target, size))


def _bytes(pair: Pair) -> int:
    return pair.input.nbytes + pair.target.nbytes


def _stack(pairs: Sequence[Pair], rows: np.ndarray) -> RawBatch:
    inputs, targets = zip(*pairs, strict=True)
    return RawBatch(_stack_widened(inputs), _stack_widened(targets), rows.astype(np.int32))


def _stack_widened(images: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks images; if some have 16 bits, those of 8 bits are scaled to 16."""
    if len({image.dtype for image in images}) > 1:
        images = [image if image.dtype == np.uint16 else image.astype(np.uint16) * 257 for image in images]
    return np.stack(images)
