"""TFDS without TensorFlow: prepares a builder of side-by-side pairs, and reads it back as Pairs."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from i2i_jax.data import checks
from i2i_jax.data.images import ImageError
from i2i_jax.data.pairs import Pairs, SideBySide
from i2i_jax.storage import cache


class SetError(ValueError):
    """A set that cannot be made, or not be read any more: one line that names its folder and says what would do."""


def data_dir(path: str | Path) -> Path:
    """Where prepared sets are kept: `path`, or if it is empty `i2i_jax` in the user's cache folder."""
    return Path(path).expanduser() if str(path) else cache.folder()


def features(encoding: str) -> tfds.features.FeaturesDict:
    """The features of such a builder: the `pair` as one encoded image, and its `name`."""
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
    """The pairs of one split of a builder, made first if need be and `prepare`; `reading` is SideBySide's options.

    A set without a test split is tested on its val split. Several processes may prepare at once: the quickest one's is kept.
    Raises SetError, and ImageError as `checks.usable` does.
    """
    with _in_one_line("the set cannot be made"):
        if prepare:
            with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(FileExistsError):  # stdout is for results
                make_builder().download_and_prepare(file_format="array_record")
        builder = make_builder()
    if not builder.is_prepared():
        raise SetError(f"{builder.data_path}: the set is not prepared")
    splits = builder.info.splits
    if split == "test" and "test" not in splits:
        split = "val"
    if split not in splits:
        raise ValueError(f"unknown split {split!r} of {builder.name}: one of {', '.join(splits)}")
    found = _read(builder, split, max_pairs, **reading)
    made = (Path(builder.data_path) / "dataset_info.json").stat().st_mtime_ns
    return checks.usable(found, fingerprint=(str(builder.data_path), made, split, len(found), reading), skip_bad=skip_bad)


def _read(builder: tfds.core.DatasetBuilder, split: str, max_pairs: int | None, **reading) -> SideBySide:
    again = f"{builder.data_path}: cannot be read: delete this folder, and the set is made again"
    with _in_one_line(again):
        decoders = {"pair": tfds.decode.SkipDecoding()}
        records = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]: lost by a decorator
        count = min(len(records), max_pairs or len(records))

    def field(index: int, name: str) -> Any:
        try:
            found = records[index][name]
        except Exception as error:  # from C++
            raise ImageError(f"{again} ({split} {index})") from error
        if found is None:
            raise ImageError(f"{again} ({split} {index})")
        return found

    return SideBySide(count, lambda index: field(index, "pair"), lambda index: field(index, "name").decode(), **reading)


@contextlib.contextmanager
def _in_one_line(failure: str) -> Iterator[None]:
    """What TFDS and its C++ raise on disks that are full or were damaged."""
    try:
        yield
    except SetError:
        raise
    except (RuntimeError, ValueError) as error:
        raise SetError(f"{failure} ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})") from error
