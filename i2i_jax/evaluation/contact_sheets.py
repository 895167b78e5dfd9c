"""EvalExamples to look at: a row an input, with what was made of it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from i2i_jax.data import augment
from i2i_jax.evaluation.evaluate import EvalBatch
from i2i_jax.pages import grids

COLUMNS = 8  # samples shown of an input


def save(path: Path, batches: Iterable[EvalBatch]) -> None:
    """A sheet of all cases: input, truth, encoded and samples, as far as there are such."""
    rows, labels = [], []
    for cases, count in batches:
        samples = np.asarray(cases.samples)[:, :COLUMNS]
        columns = {"input": cases.input, "truth": cases.target, "encoded": cases.encoded}
        shown = {label: np.asarray(images) for label, images in columns.items() if images is not None}
        many = samples.shape[1] > 1
        shown |= {f"random {i + 1}" if many else "output": samples[:, i] for i in range(samples.shape[1])}
        labels = list(shown)
        rows += [[augment.to_uint8(images[i]) for images in shown.values()] for i in range(count)]
    grids.save_grid(path, rows, labels=labels)
