"""Batches: every pair once in each epoch, resumable from any step, with the right sizes and bit depths."""

import io
import itertools
import os

import numpy as np
import pytest
from PIL import Image

from i2i_jax.data import loader
from i2i_jax.data.pairs import Pair, SideBySide


class Numbered:
    """Pairs of constant images: pair i has input i and target 100 + i. Counts how often a pair is read."""

    def __init__(self, count, size=4, dtypes=(np.uint8,), channels=3):
        self.count, self.size, self.dtypes, self.channels, self.reads = count, size, dtypes, channels, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        image = np.full((self.size, 2 * self.size, self.channels), index, self.dtypes[index % len(self.dtypes)])
        return Pair(image, image + 100)

    def name(self, index):
        return str(index)


def take(count, pairs, **options):
    options = {"load_size": 4, "batch_size": 3, "seed": 0} | options
    return list(itertools.islice(loader.batches(pairs, **options), count))


def numbers(batches):
    return [batch.input[:, 0, 0, 0].tolist() for batch in batches]


def test_every_pair_comes_once_an_epoch_though_the_batch_does_not_divide_the_set():
    order = list(itertools.chain(*numbers(take(14, Numbered(7)))))  # 6 epochs of 7
    epochs = [order[i : i + 7] for i in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_batches_of_any_size_are_full_and_endless(batch_size):
    batches = take(20, Numbered(5), batch_size=batch_size)
    assert all(len(batch.input) == batch_size for batch in batches)


def test_inputs_stay_with_their_targets():
    for batch in take(5, Numbered(7)):
        np.testing.assert_array_equal(batch.target, batch.input + 100)


def test_a_later_start_gives_the_same_batches():
    pairs = Numbered(7)
    assert numbers(take(4, pairs, start_step=5)) == numbers(take(9, pairs))[5:]


def test_the_seed_sets_the_order():
    pairs = Numbered(20)
    assert numbers(take(3, pairs)) == numbers(take(3, pairs))
    assert numbers(take(3, pairs)) != numbers(take(3, pairs, seed=1))


@pytest.mark.parametrize("threads", [1, 4])
def test_the_number_of_threads_changes_nothing(threads):
    assert numbers(take(6, Numbered(7), threads=threads)) == numbers(take(6, Numbered(7), threads=2))


@pytest.mark.parametrize(
    ("cpus", "batch_size", "threads", "prefetched"),
    [(1, 3, 1, 2), (3, 3, 3, 6), (64, 3, 16, 32), (64, 1000, 10, 10), (64, 10_000, 8, 8), (2, 10_000, 2, 4)],
)
def test_as_many_threads_as_cpus_while_memory_is_bounded(monkeypatch, cpus, batch_size, threads, prefetched):
    """16 threads at most; the batches that are read ahead take a GB, or are 8."""
    options, original = [], loader.grain.ReadOptions
    monkeypatch.setattr(loader, "available_cpus", lambda: cpus)
    monkeypatch.setattr(loader, "PREFETCHED", 10 * 1000 * (2 * 4 * 4 * 3))
    monkeypatch.setattr(loader.grain, "ReadOptions", lambda **given: options.append(given) or original(**given))
    loader.batches(Numbered(3), load_size=4, batch_size=batch_size, seed=0, rows=np.arange(batch_size))
    assert options == [{"num_threads": threads, "prefetch_buffer_size": prefetched}]


def test_available_cpus_are_those_of_the_process():
    expected = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    assert loader.available_cpus() == expected >= 1


def test_processes_read_their_rows_of_the_global_batch():
    pairs, options = Numbered(9), {"batch_size": 4}
    whole = take(3, pairs, **options)
    first, second = take(3, pairs, rows=[0, 1], **options), take(3, pairs, rows=np.array([2, 3]), **options)
    for all_rows, a, b in zip(whole, first, second, strict=True):
        for joined, parts in zip(all_rows, zip(a, b, strict=True), strict=True):
            np.testing.assert_array_equal(joined, np.concatenate(parts))
        np.testing.assert_array_equal(all_rows.row, [0, 1, 2, 3])
        assert all_rows.row.dtype == np.int32


def test_a_set_that_fits_is_read_once():
    small, large = Numbered(5), Numbered(5)
    take(20, small, threads=1)
    take(20, large, threads=1, cache_gb=0.0)
    assert small.reads == 5
    assert large.reads >= 60


def test_an_empty_set_is_an_error():
    with pytest.raises(ValueError, match="no pairs"):
        take(1, Numbered(0))


def test_an_unreadable_pair_ends_the_batches_with_its_own_error():
    class Broken(Numbered):
        def __getitem__(self, index):
            if index == 3:
                raise ValueError("3.png: truncated")
            return super().__getitem__(index)

    with pytest.raises(ValueError, match="3.png: truncated"):
        take(3, Broken(7))


def test_fixed_pairs_come_in_the_order_asked():
    batch = loader.fixed(Numbered(7), [4, 1], size=8)
    assert batch.input.shape == (2, 8, 8, 3)
    assert numbers([batch]) == [[4, 1]]
    np.testing.assert_array_equal(batch.row, [0, 1])


def test_8_bit_among_16_bit_keeps_its_brightness():
    batch = loader.fixed(Numbered(2, dtypes=(np.uint8, np.uint16)), [0, 1], size=4)
    assert batch.target.dtype == np.uint16
    assert batch.target[:, 0, 0, 0].tolist() == [100 * 257, 101]


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def test_resize_of_rgb_is_pillows(noise):
    expected = Image.fromarray(noise).resize((12, 12), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(loader.resize(noise, 12), np.asarray(expected))


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_resize_treats_any_number_of_channels_alike(noise, channels):
    image = np.concatenate([noise, noise], 2)[:, :, :channels]
    resized = loader.resize(image, 12)
    assert resized.shape == (12, 12, channels)
    assert resized.dtype == np.uint8
    difference = resized.astype(int) - np.tile(loader.resize(noise, 12), 2)[:, :, :channels]
    assert np.abs(difference).max() <= 1  # fixed point against float


def test_resize_of_16_bits_keeps_16_bits_and_does_not_wrap_around(noise):
    image = noise[:, :, :1].astype(np.uint16) * 257
    resized = loader.resize(image, 12)
    assert resized.dtype == np.uint16
    np.testing.assert_allclose(resized / 257, loader.resize(noise[:, :, :1], 12), atol=1)


def test_a_half_is_resized_without_the_other():
    """Pillow's resize with a box would blend in pixels of the other half."""
    file = io.BytesIO()
    Image.fromarray(np.repeat(np.uint8([[0] * 8 + [255] * 8]), 8, 0)).save(file, "PNG")
    batch = loader.fixed(SideBySide(1, lambda index: file.getvalue(), str), [0], size=12)
    assert not batch.input.any() and (batch.target == 255).all()


def test_resize_to_its_own_size_is_the_image(noise):
    square = noise[:20, :20]
    np.testing.assert_array_equal(loader.resize(square, 20), square)
