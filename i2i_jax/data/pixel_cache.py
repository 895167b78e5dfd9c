"""Resized pairs on disk: one memory-mapped file for each dataset, which all processes that train on it share."""

import contextlib
import importlib.metadata
import math
import mmap
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.features
from absl import logging

from i2i_jax.data.pairs import Fingerprinted, Pair, Pairs, fingerprint_of
from i2i_jax.storage import cache, files

FORMAT = 1  # change it when a change of the code gives other pixels or another file
FOLDER = "resized"  # in the user's cache directory
FREE = 5 * 10**9  # bytes of the disk that are left free
PAGE = 4096  # bytes; the rows begin on a multiple of it
LIBRARIES = ("i2i-jax", "pillow", "imagecodecs", "tifffile", "numpy")  # which decode and resize
ADVICE = "pairs that it does not hold are decoded in every epoch (data.disk_cache_gb=0 turns the cache off)"


class Layout(NamedTuple):
    """The form of the file: `count` checksums of 8 bytes, padding to a page, then the rows.

    Attributes:
        count: number of pairs of the dataset.
        shapes: [h, w, c] of the resized input and target.
        dtypes: their dtypes, by name; pairs of other dtypes are not kept.
    """

    count: int
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @property
    def sizes(self) -> list[int]:
        """Bytes of the input and of the target."""
        return [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in zip(self.shapes, self.dtypes, strict=True)]

    @property
    def words(self) -> int:
        """Number of 8-byte words of a row: the input and the target, padded."""
        return -(-sum(self.sizes) // 8)

    @property
    def start(self) -> int:
        """Bytes before the first row."""
        return -(-self.count * 8 // PAGE) * PAGE

    def size(self, rows: int) -> int:
        """Bytes of a file of so many rows."""
        return self.start + rows * self.words * 8

    def rows(self, size: int) -> int:
        """The number of rows that fit in a file of so many bytes."""
        return min(self.count, max(0, size - self.start) // (self.words * 8))


class PixelCache:
    """Resized pairs by index, as far as they have been written.

    A row is valid if its checksum is in the file's index: one that was written in part, or lost by a failing disk, counts as absent.
    Any number of processes and threads may read and write at once, since all of them write the same bytes. The file is never shortened,
    and written without its memory map, since a full disk would end a process that writes through one.
    """

    def __init__(self, path: Path, descriptor: int, layout: Layout):
        self._path, self._layout = path, layout
        self._lock = threading.Lock()
        self._rows_file: _RowsFile | None = _RowsFile(descriptor, layout)
        self._writable = True

    def read(self, index: int) -> Pair | None:
        """Returns the pair at `index`, read-only, or None if it is absent."""
        rows_file = self._rows_file
        row = rows_file.valid_row(index) if rows_file else None
        if row is None:
            return None
        bytes_of_row, (input_size, target_size) = row.view(np.uint8), self._layout.sizes
        parts = bytes_of_row[:input_size], bytes_of_row[input_size : input_size + target_size]
        views = (x.view(dtype).reshape(shape) for x, dtype, shape in zip(parts, self._layout.dtypes, self._layout.shapes, strict=True))
        return Pair(*views)

    def write(self, index: int, pair: Pair) -> None:
        """Keeps a pair, if there is room for it. A disk that is full or fails ends the cache, with one warning."""
        rows_file = self._rows_file
        if not self._writable or rows_file is None or index >= rows_file.capacity:
            return
        if tuple(x.shape for x in pair) != self._layout.shapes or tuple(x.dtype.name for x in pair) != self._layout.dtypes:
            return
        try:
            status = os.fstatvfs(rows_file.descriptor)
            if status.f_bavail * status.f_frsize < FREE + self._layout.words * 8:
                return self._stop(f"{self._path}: is not written any more, since less than {FREE / 1e9:.3g} GB of its disk are free", False)
            rows_file.write(index, pair)
        except OSError as error:
            self._stop(f"{self._path}: cannot be written ({error.strerror or error})", True)

    def _stop(self, reason: str, remove: bool) -> None:
        """Writes no more; `remove`: removes the file, so that others can use its space."""
        with self._lock:
            if not self._writable:
                return
            self._writable = False
        if remove:
            self._rows_file = None
            with contextlib.suppress(OSError):
                self._path.unlink()
        logging.warning("%s: %s", reason, ADVICE)


class _RowsFile:
    """An open file of rows; closed when nothing refers to it or to one of its rows."""

    def __init__(self, descriptor: int, layout: Layout):
        self.descriptor, self._layout = descriptor, layout
        weakref.finalize(self, os.close, descriptor)
        self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        words = np.frombuffer(self._map, np.uint64, len(self._map) // 8)
        self.capacity = layout.rows(len(self._map))
        self._checksums = words[: layout.count]
        self._rows = words[layout.start // 8 :][: self.capacity * layout.words].reshape(self.capacity, layout.words)

    def valid_row(self, index: int) -> np.ndarray | None:
        """The words of a row; None if it is absent or damaged."""
        if index >= self.capacity or not (checksum := int(self._checksums[index])):
            return None
        begin = self._layout.size(index)
        end, begin = begin + self._layout.words * 8, begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._map.madvise(mmap.MADV_WILLNEED, begin, end - begin)  # the whole row at once: twice as fast from a cold disk
        row = self._rows[index]
        return row if _checksum(row) == checksum else None

    def write(self, index: int, pair: Pair) -> None:
        row = np.zeros(self._layout.words, np.uint64)
        row.view(np.uint8)[: sum(self._layout.sizes)] = np.concatenate([np.ascontiguousarray(x).view(np.uint8).ravel() for x in pair])
        _write_all(self.descriptor, row, self._layout.size(index))
        _write_all(self.descriptor, np.array([_checksum(row)], np.uint64), index * 8)


def _checksum(row: np.ndarray) -> int:
    """The sum of the words, never 0. It finds lost and torn sectors in a tenth of the time of a CRC."""
    return (int(np.add.reduce(row)) + 1) % 2**64 or 1


def _write_all(descriptor: int, words: np.ndarray, offset: int) -> None:
    """Writes all bytes at an offset. Raises OSError."""
    content = memoryview(words.tobytes())
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def opened(pairs: Pairs, size: object, *, example: Pair, most_gb: float) -> PixelCache | None:
    """Opens the cache of a dataset, which is created if needed, in the user's cache directory.

    Caches of other datasets that no process uses are removed, the least recently opened first, if all would exceed `most_gb` or leave
    less than `FREE` bytes of the disk. If there is still too little room, the cache holds the first pairs only. Whatever fails, one line
    says so.

    Args:
        pairs: the dataset; without a fingerprint it has no cache.
        size: how the pairs were resized: the height and width, in pixels, or any other value that tells it.
        example: a resized pair, which has the shapes and dtypes of the others.
        most_gb: the most GB that the caches of all datasets may take together; 0 for no cache.

    Returns:
        The cache, or None if there is none.
    """
    fingerprint = pairs.fingerprint if isinstance(pairs, Fingerprinted) else ""
    if not fingerprint or not most_gb:
        return None
    layout = Layout(len(pairs), tuple(x.shape for x in example), tuple(x.dtype.name for x in example))
    path = cache.folder(FOLDER) / f"{fingerprint_of((FORMAT, fingerprint, size, layout, _versions()))[:32]}.pixels"
    try:
        with files.lock(cache.folder(f"{FOLDER}.lock"), wait=True):  # the sum of the files' sizes must not change meanwhile
            path.parent.mkdir(parents=True, exist_ok=True)
            return _opened(path, layout, most=int(most_gb * 1e9))
    except OSError as error:
        reason = str(error) if error.errno is None else f"{path}: cannot be written ({error.strerror})"
        logging.warning("%s: %s", reason, ADVICE)
        return None


def _versions() -> tuple[object, ...]:
    """What else the pixels depend on."""
    installed = {distribution: _version(distribution) for distribution in LIBRARIES}
    return installed, PIL.features.version("libjpeg_turbo"), PIL.features.version("webp"), sys.byteorder


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _opened(path: Path, layout: Layout, *, most: int) -> PixelCache | None:
    """See `opened`. Raises OSError."""
    size = path.stat().st_size if path.exists() else 0
    if size and not files.is_in_use(path) and (size > most or size != layout.size(layout.rows(size))):
        path.unlink()
        size = 0
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        if not size:
            stack.callback(path.unlink)
        files.mark_in_use(descriptor)
        os.utime(path)
        rows = max(layout.rows(size), layout.rows(_room(path, layout, size=size, most=most)))
        if rows < layout.count:
            logging.warning("%s: has room for %d of %d resized pairs: %s", path, rows, layout.count, ADVICE)
        if not rows:
            return None
        if layout.size(rows) > size:
            os.truncate(descriptor, layout.size(rows))
        stack.pop_all()
    return PixelCache(path, descriptor, layout)


def _room(path: Path, layout: Layout, *, size: int, most: int) -> int:
    """How many bytes the file may have, after removing others that no process uses."""
    disk = os.statvfs(path.parent)
    allocated = sum(file.stat().st_blocks * 512 for file in path.parent.iterdir())
    most = min(most, allocated + disk.f_bavail * disk.f_frsize - FREE)
    growth = layout.size(layout.count) - size
    cache.bounded(FOLDER, most=most - growth, is_in_use=lambda file: file == path or files.is_in_use(file))
    return most - sum(file.stat().st_size for file in path.parent.iterdir() if file != path)
