"""Writes images that are too large for memory: PNG row by row, TIFF tile by tile, while they are computed."""

import contextlib
import queue
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from jaxtyping import Num, UInt8

from i2i_jax.data import geotiff
from i2i_jax.pages import grids
from i2i_jax.storage import files

TILE = 256  # pixels: height and width of a TIFF's tiles
LARGEST_TIFF = 2**32 - 2**25  # bytes: larger ones are BigTIFF

Band = Num[np.ndarray, "_h w c"]


class Form(NamedTuple):
    """Size, number of channels and dtype of an image."""

    height: int
    width: int
    channels: int
    dtype: np.dtype


def write(
    paths: Sequence[Path],
    previews: Sequence[Path],
    bands: Iterable[Num[np.ndarray, "n _h w c"]],
    *,
    size: tuple[int, int],
    to_preview: Callable[[Band], UInt8[np.ndarray, "_h w 3"]] = grids.to_rgb8,
    geo_tags: Sequence[geotiff.Tag] = (),
) -> None:
    """Writes n images of one size, each atomically, in the formats that `image_files.encode` gives them.

    Args:
        paths: the files of the images; their suffixes name the formats.
        previews: files of 8-bit RGB copies, as PNG; empty for none.
        bands: horizontal bands of the images, from top to bottom.
        size: height and width of the images.
        to_preview: converts a band to 8-bit RGB.
        geo_tags: georeferencing tags for TIFFs.

    Raises:
        OSError: one line that names the file.
    """
    bands = iter(bands)
    first = next(bands)
    form, preview_form = Form(*size, first.shape[3], first.dtype), Form(*size, 3, np.dtype(np.uint8))
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_writer(path, form, geo_tags)) for path in paths]
        preview_writers = [stack.enter_context(_writer(path, preview_form, ())) for path in previews]
        while first is not None:
            for writer, band in zip(writers, first, strict=True):
                writer.write(band)
            for writer, band in zip(preview_writers, first, strict=False):
                writer.write(to_preview(band))
            first = next(bands, None)


@contextlib.contextmanager
def _writer(path: Path, form: Form, geo_tags: Sequence[geotiff.Tag]) -> Iterator[Any]:
    with files.replacing(path) as temporary:
        if path.suffix == ".png":
            with files.writing(path), temporary.open("wb") as file:
                png = _Png(file, form)
                yield png
                png.close()
        else:
            with files.writing(path), _Tiff(temporary, form, geo_tags) as tiff:
                yield tiff


class _Png:
    """A PNG whose rows are written in order, each as the difference from the row above (filter type 2 of the PNG specification)."""

    def __init__(self, file: BinaryIO, form: Form):
        self._file, self._compressor = file, zlib.compressobj(1)
        self._above = np.zeros(form.width * form.channels * form.dtype.itemsize, np.uint8)
        colour_type = {1: 0, 3: 2, 4: 6}[form.channels]
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", form.width, form.height, 8 * form.dtype.itemsize, colour_type, 0, 0, 0))

    def write(self, band: Band) -> None:
        rows = np.ascontiguousarray(band.astype(band.dtype.newbyteorder(">"))).view(np.uint8).reshape(len(band), -1)
        filtered = np.full((len(rows), rows.shape[1] + 1), 2, np.uint8)
        np.subtract(rows[0], self._above, out=filtered[0, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        self._above = rows[-1].copy()
        self._chunk(b"IDAT", self._compressor.compress(filtered.tobytes()))

    def close(self) -> None:
        self._chunk(b"IDAT", self._compressor.flush())
        self._chunk(b"IEND", b"")

    def _chunk(self, kind: bytes, content: bytes) -> None:
        if content or kind == b"IEND":
            checksum = zlib.crc32(content, zlib.crc32(kind))
            self._file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum))


class _Tiff:
    """A TIFF of tiles. tifffile takes them from an iterator, in a thread of its own."""

    def __init__(self, path: Path, form: Form, geo_tags: Sequence[geotiff.Tag]):
        self._path, self._form, self._geo_tags = path, form, geo_tags
        self._bands: queue.Queue[Band | None] = queue.Queue(1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> "_Tiff":
        self._thread.start()
        return self

    def write(self, band: Band) -> None:
        self._put(band)
        if self._error:
            raise self._error

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._put(None)
        self._thread.join()
        if self._error and not error:
            raise self._error

    def _put(self, band: Band | None) -> None:
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                return self._bands.put(band, timeout=0.2)

    def _write(self) -> None:
        form = self._form
        shape = (form.height, form.width) if form.channels == 1 else (form.height, form.width, form.channels)
        options = {
            "photometric": "rgb" if form.channels == 3 else "minisblack",
            "planarconfig": None if form.channels == 1 else "contig",
            "bigtiff": form.height * form.width * form.channels * form.dtype.itemsize > LARGEST_TIFF,
        }
        if self._geo_tags:
            options |= {"compression": "zlib", "metadata": None, "extratags": self._geo_tags}
        try:
            tifffile.imwrite(self._path, self._tiles(), shape=shape, dtype=form.dtype, tile=(TILE, TILE), **options)
        except BaseException as error:  # raised again in the thread that writes
            self._error = error

    def _tiles(self) -> Iterator[np.ndarray]:
        """The tiles, row by row; those at the right and the bottom end in zeros."""
        for rows in self._strips():
            for left in range(0, self._form.width, TILE):
                tile = np.zeros((TILE, TILE, self._form.channels), self._form.dtype)
                part = rows[:, left : left + TILE]
                tile[: len(part), : part.shape[1]] = part
                yield tile.squeeze(2) if self._form.channels == 1 else tile

    def _strips(self) -> Iterator[Band]:
        """The rows of the image, TILE at a time."""
        waiting: list[np.ndarray] = []
        while (band := self._bands.get()) is not None:
            waiting.append(band)
            while sum(map(len, waiting)) >= TILE:
                rows = np.concatenate(waiting)
                yield rows[:TILE]
                waiting = [rows[TILE:]]
        if sum(map(len, waiting)):
            yield np.concatenate(waiting)
