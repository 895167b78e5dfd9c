"""Contact sheets: one row for each input, with its target and its translations."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from i2i_jax.data import augment
from i2i_jax.evaluation.evaluate import EvalBatch
from i2i_jax.pages import grids

COLUMNS = 8  # samples shown of each input


def save(path: Path, batches: Iterable[EvalBatch]) -> None:
    """Writes one sheet of all examples, as PNG.

    Columns are the input, the target ("truth"), the encoded target and the samples; columns without images are left out.

    Args:
        path: the file to write.
        batches: the examples; images in [-1, 1], all with the same columns.
    """
    rows, labels = [], []
    for examples, count in batches:
        samples = np.asarray(examples.samples)[:, :COLUMNS]
        images_of = {"input": examples.input, "truth": examples.target, "encoded": examples.encoded}
        columns = {label: np.asarray(images) for label, images in images_of.items() if images is not None}
        several = samples.shape[1] > 1
        columns |= {f"random {i + 1}" if several else "output": samples[:, i] for i in range(samples.shape[1])}
        labels = list(columns)
        rows += [[augment.to_uint8(images[i]) for images in columns.values()] for i in range(count)]
    grids.save_grid(path, rows, labels=labels)
