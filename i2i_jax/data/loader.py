"""Pairs to batches on the host: decode, resize, shuffle, batch. The device does the rest (augment.py)."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Array, Int32, Integer, Num
from PIL import Image

from i2i_jax.data.pairs import Pair, Pairs


class RawBatch(NamedTuple):
    """Pairs as uint8 or uint16, on the host or on devices: `input` [b, h, w, c_in] and `target` [b, h, w, c_out].

    `row` [b] is each pair's place in the step's global batch: augmentation is drawn by it, whatever the device layout.
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
    threads: int | None = None,
) -> Iterator[RawBatch]:
    """Endless batches of `load_size` square pairs, from step `start_step` on; batch k depends on `seed` and k only.

    Every epoch is a new order of all pairs; a batch may span two epochs. `batch_size` is that of the global batch, of which
    this process reads `rows` (None: all). A set that fits in `cache_gb` is decoded once and kept.
    """
    if not len(pairs):
        raise ValueError("no pairs to make batches of")
    mine = np.arange(batch_size) if rows is None else np.asarray(rows)
    threads = threads or min(4, os.cpu_count() or 1)
    resized = _cached(pairs, load_size, cache_gb)
    order = grain.MapDataset.range(len(pairs)).seed(seed).shuffle().repeat().batch(batch_size, drop_remainder=True)
    steps = order[start_step:].map(lambda indices: _stack([resized(int(indices[row])) for row in mine], mine))
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)))


def fixed(pairs: Pairs, indices: Sequence[int], *, size: int) -> RawBatch:
    """The pairs at `indices`, resized to `size` square without crop or flip."""
    return _stack([_resized(pairs[index], size) for index in indices], np.arange(len(indices)))


def resize(image: Num[np.ndarray, "h w c"], size: int) -> Num[np.ndarray, "size size c"]:
    """Pillow's bicubic resize to a square, of uint8, uint16 or floats in [-1, 1] with any number of channels."""
    if image.shape[:2] == (size, size):
        return image
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(image, 2, 0)]
    floats = np.stack([np.asarray(c.resize((size, size), Image.Resampling.BICUBIC)) for c in channels], 2)
    if np.issubdtype(image.dtype, np.floating):
        return np.clip(floats, -1, 1).astype(image.dtype)
    return np.clip(np.rint(floats), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def _cached(pairs: Pairs, size: int, cache_gb: float):
    """Index to resized pair; remembers all of them if they fit."""
    first = _resized(pairs[0], size)
    if len(pairs) * (first.input.nbytes + first.target.nbytes) > cache_gb * 1e9:
        return lambda index: _resized(pairs[index], size)
    kept = {0: first}

    def get(index: int) -> Pair:
        if index not in kept:
            kept[index] = _resized(pairs[index], size)
        return kept[index]

    return get


def _resized(pair: Pair, size: int) -> Pair:
    return Pair(resize(pair.input, size), resize(pair.target, size))


def _stack(pairs: Sequence[Pair], rows: np.ndarray) -> RawBatch:
    inputs, targets = zip(*pairs, strict=True)
    return RawBatch(_stack_widened(inputs), _stack_widened(targets), rows.astype(np.int32))


def _stack_widened(images: Sequence[np.ndarray]) -> np.ndarray:
    """Stacked; 8-bit images among 16-bit ones are stretched to 16 bits."""
    if len({image.dtype for image in images}) > 1:
        images = [image if image.dtype == np.uint16 else image.astype(np.uint16) * 257 for image in images]
    return np.stack(images)
