"""Images stored as NumPy arrays (.npy): [h, w] or [h, w, c]."""

import io
import os

import numpy as np

from i2i_jax.data import values
from i2i_jax.data.image_header import File, Header, Unusable

SIGNATURE = b"\x93NUMPY"
MOST_CHANNELS = 64  # of an array that might have its channels first


def npy_header(file: File) -> Header:
    """The header of an array; nothing of the file is executed. Raises Unusable for arrays that are not images."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.name not in (*values.TYPES, *values.FLOATS):
        raise Unusable(f"has {dtype} samples: {values.ALLOWED}")
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] > MOST_CHANNELS >= shape[0]):
        raise Unusable(f"is an array [{', '.join(map(str, shape))}]: must be [h, w] or [h, w, c]")
    height, width, channels = (*shape, 1)[:3]
    available, needed = _size(file) - file.tell(), height * width * channels * dtype.itemsize

    def decode() -> np.ndarray:
        if available < needed:  # before memory is allocated for it
            raise Unusable(f"is cut short: has {available} bytes of samples, not {needed}")
        file.seek(0)
        array = np.load(file, allow_pickle=False)
        return array.astype(dtype.newbyteorder("="), copy=False).reshape(height, width, channels)

    has_ids = channels == 1 and dtype.kind == "u"
    return Header(height, width, channels, False, decode, ids=decode if has_ids else None, npy=True)


def _size(file: File) -> int:
    return file.getbuffer().nbytes if isinstance(file, io.BytesIO) else os.fstat(file.fileno()).st_size
