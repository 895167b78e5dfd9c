"""TFDS without TensorFlow: prepares a builder's dataset of side-by-side pairs, and reads it as Pairs."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from i2i_jax.data import checks
from i2i_jax.data.images import ImageError
from i2i_jax.data.pairs import Pairs, SideBySide, fingerprint_of
from i2i_jax.storage import cache
from i2i_jax.storage.errors import first_line


class SetError(ValueError):
    """A dataset that cannot be prepared or read: one line that says why and what to do."""


def data_dir(path: str | Path) -> Path:
    """Returns the folder of prepared datasets: `path`, or if that is empty `i2i_jax` in the user's cache directory."""
    return Path(path).expanduser() if str(path) else cache.folder()


def features(encoding: str) -> tfds.features.FeaturesDict:
    """Returns the features that a builder must have: `pair`, one image encoded as png or jpeg, and `name`."""
    image = tfds.features.Image(shape=(None, None, 3), encoding_format=encoding)
    return tfds.features.FeaturesDict({"pair": image, "name": tfds.features.Text()})


def pairs(
    make_builder: Callable[[], tfds.core.DatasetBuilder],
    split: str,
    *,
    prepare: bool,
    max_pairs: int | None,
    skip_bad: bool = False,
    **reading,
) -> Pairs:
    """Returns the pairs of one split of a builder's dataset. Several processes may prepare it at once: the first to finish wins.

    Args:
        make_builder: makes the builder, whose features are those of `features`.
        split: the split; test becomes val if the dataset has no test split.
        prepare: prepare the dataset if it is not there.
        max_pairs: return only the first pairs, at most so many; None returns all.
        skip_bad: leave out pairs that cannot be read, with a warning.
        **reading: options of SideBySide.

    Raises:
        SetError: if the dataset cannot be prepared or read, or is not prepared.
        ValueError: if there is no such split.
        ImageError: as `checks.usable`.
    """
    with _in_one_line("the dataset cannot be prepared"):
        if prepare:
            with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(FileExistsError):  # stdout is for results
                make_builder().download_and_prepare(file_format="array_record")
        builder = make_builder()
    if not builder.is_prepared():
        raise SetError(f"{builder.data_path}: the dataset is not prepared")
    splits = builder.info.splits
    if split == "test" and "test" not in splits:
        split = "val"
    if split not in splits:
        raise ValueError(f"unknown split {split!r} of {builder.name}: one of {', '.join(splits)}")
    source = _read(builder, split, max_pairs, **reading)
    prepared_ns = (Path(builder.data_path) / "dataset_info.json").stat().st_mtime_ns
    identity = str(builder.data_path), prepared_ns, split, len(source), reading
    source = dataclasses.replace(source, fingerprint=fingerprint_of(identity))
    return checks.usable(source, fingerprint=source.fingerprint, skip_bad=skip_bad)


def _read(builder: tfds.core.DatasetBuilder, split: str, max_pairs: int | None, **reading) -> SideBySide:
    unreadable = f"{builder.data_path}: cannot be read: delete this folder, and the dataset is prepared again"
    with _in_one_line(unreadable):
        decoders = {"pair": tfds.decode.SkipDecoding()}
        records = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]: a decorator hides the signature
        count = min(len(records), max_pairs or len(records))

    def field(index: int, name: str) -> Any:
        try:
            value = records[index][name]
        except Exception as error:  # C++ raises many types
            raise ImageError(f"{unreadable} ({split} {index})") from error
        if value is None:
            raise ImageError(f"{unreadable} ({split} {index})")
        return value

    return SideBySide(count, lambda index: field(index, "pair"), lambda index: field(index, "name").decode(), **reading)


@contextlib.contextmanager
def _in_one_line(failure: str) -> Iterator[None]:
    """Turns what TFDS and its C++ code raise on full or damaged disks into a SetError of one line."""
    try:
        yield
    except SetError:
        raise
    except (RuntimeError, ValueError) as error:
        raise SetError(f"{failure} ({first_line(error, max_length=None)})") from error
