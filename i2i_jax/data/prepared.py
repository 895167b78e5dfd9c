"""TFDS without TensorFlow: prepares a builder of side-by-side pairs, and reads it back as Pairs."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import tensorflow_datasets as tfds

from i2i_jax import cache
from i2i_jax.data.pairs import SideBySide


def data_dir(path: str | Path) -> Path:
    """Where prepared sets are kept: `path`, or if it is empty `i2i_jax` in the user's cache folder."""
    return Path(path).expanduser() if str(path) else cache.folder()


def features(encoding: str) -> tfds.features.FeaturesDict:
    """The features of such a builder: the `pair` as one encoded image, and its `name`."""
    image = tfds.features.Image(shape=(None, None, 3), encoding_format=encoding)
    return tfds.features.FeaturesDict({"pair": image, "name": tfds.features.Text()})


def pairs(
    make_builder: Callable[[], tfds.core.DatasetBuilder], split: str, *, prepare: bool, max_pairs: int | None, **reading
) -> SideBySide:
    """The pairs of one split of a builder, made first if need be and `prepare`; `reading` is SideBySide's options.

    A set without a test split is tested on its val split. Several processes may prepare at once: the quickest one's is kept.
    """
    if prepare:
        with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(FileExistsError):  # stdout is for results
            make_builder().download_and_prepare(file_format="array_record")
    builder = make_builder()
    if not builder.is_prepared():
        raise ValueError(f"{builder.data_path}: the set is not prepared")
    splits = builder.info.splits
    if split == "test" and "test" not in splits:
        split = "val"
    if split not in splits:
        raise ValueError(f"unknown split {split!r} of {builder.name}: one of {', '.join(splits)}")
    decoders = {"pair": tfds.decode.SkipDecoding()}
    records = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]: lost by a decorator
    return SideBySide(
        count=min(len(records), max_pairs or len(records)),
        load=lambda index: records[index]["pair"],
        name=lambda index: records[index]["name"].decode(),
        **reading,
    )
