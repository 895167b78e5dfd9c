"""The six public pix2pix datasets (Isola 2017), downloaded and prepared at first use.

Each is one archive with train, val and in some cases test folders of side-by-side JPEGs, which are stored unchanged. The archives
are served over plain HTTP and have no published checksums: see `download.py`.
"""

import contextlib
import functools
import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import tensorflow_datasets as tfds

from i2i_jax.data import download, images, prepared
from i2i_jax.data.labels import Labels
from i2i_jax.data.pairs import Pairs

BASE_URL = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"
MAX_FILE = 2**26  # bytes of one JPEG in an archive


class PublicSet(NamedTuple):
    """One public dataset.

    Attributes:
        direction: the one that the papers use.
        train_pairs: number of pairs in the train split.
        splits: the splits in the archive.
    """

    direction: str
    train_pairs: int
    splits: tuple[str, ...] = ("train", "val")


SETS = {
    "facades": PublicSet("BtoA", 400, ("train", "val", "test")),
    "maps": PublicSet("BtoA", 1096),
    "cityscapes": PublicSet("BtoA", 2975),
    "edges2shoes": PublicSet("AtoB", 49_825),
    "edges2handbags": PublicSet("AtoB", 138_567),
    "night2day": PublicSet("AtoB", 17_823, ("train", "val", "test")),
}


class DownloadError(ValueError):
    """A dataset cannot be downloaded: one line with the URL, what was found and what to do."""


def pairs(
    name: str,
    split: str,
    data_dir: str | Path = "",
    *,
    direction: str = "AtoB",
    input_channels: int = 3,
    target_channels: int = 3,
    max_pairs: int | None = None,
    max_pixels: int = images.MAX_PIXELS,
    skip_bad: bool = False,
    prepare: bool = True,
    input_labels: Labels | None = None,
) -> Pairs:
    """Returns the pairs of one of SETS.

    Args:
        name: a key of SETS.
        split: train, val or test; a dataset without a test split gives its val split for test.
        data_dir: the folder of prepared datasets; "" for the user's cache directory.
        direction: AtoB or BtoA; A is the left half of an image.
        input_channels: 1 for grey, 3 for RGB.
        target_channels: 1 for grey, 3 for RGB.
        max_pairs: return only the first pairs, at most so many; None returns all.
        max_pixels: the most pixels an image may have.
        skip_bad: leave out images that cannot be read, with a warning.
        prepare: download and prepare the dataset if it is not in `data_dir`.
        input_labels: how the classes of the inputs are stored, if they are label maps.

    Raises:
        DownloadError: if the archive cannot be downloaded or is damaged; nothing of it is left then.
        SetError: if the dataset cannot be prepared or read.
        ImageError: if images cannot be read, unless `skip_bad`.
    """
    folder = prepared.data_dir(data_dir)
    with _naming(name):
        return prepared.pairs(
            functools.partial(Pix2Pix, config=name, data_dir=folder),
            split,
            prepare=prepare,
            max_pairs=max_pairs,
            skip_bad=skip_bad,
            direction=direction,
            input_channels=input_channels,
            target_channels=target_channels,
            max_pixels=max_pixels,
            **({"input_labels": input_labels} if input_labels else {}),
        )


class Pix2Pix(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder, with one config for each dataset; pairs are in the order of the archive."""

    name = "pix2pix"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=f"{public.train_pairs} training pairs, usually {public.direction}")
        for name, public in SETS.items()
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=prepared.features("jpeg"), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        assert self.builder_config is not None
        url = _url(self.builder_config.name)
        archive = Path(dl_manager.download_dir) / PurePosixPath(url).name
        if not archive.exists():
            download.fetch(url, archive)
        return {split: self._generate_examples(archive, split) for split in SETS[self.builder_config.name].splits}

    def _generate_examples(self, archive: Path, split: str):
        index = -1
        for index, (stem, jpeg) in enumerate(_jpegs(archive, split)):
            yield index, {"pair": jpeg, "name": stem}
        if index < 0:
            raise _discarded(archive, f"has no JPEG in a folder {split}")


def _jpegs(archive: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Stem and content of the JPEGs in the archive's folder `split`. Nothing is unpacked to disk."""
    stems = set()
    try:
        with gzip.open(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise _discarded(archive, f"has a member outside its folder: {member.name!r}")
                if not member.isreg() or path.parent.name != split or path.suffix.lower() not in (".jpg", ".jpeg"):
                    continue
                if member.size > MAX_FILE or path.stem in stems:
                    problem = f"of {member.size} bytes" if member.size > MAX_FILE else "twice"
                    raise _discarded(archive, f"has a member {member.name!r} {problem}")
                stems.add(path.stem)
                file = tar.extractfile(member)
                assert file is not None, "of a regular member"
                yield path.stem, file.read()
            while unpacked.read(2**20):  # to the end of the file, where gzip verifies its checksum
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _discarded(archive, f"is not a complete tar.gz archive ({error})") from error


def _discarded(archive: Path, reason: str) -> download.UnusableDownload:
    download.discard(archive)
    return download.UnusableDownload(reason)


def _url(name: str) -> str:
    return f"{BASE_URL}/{name}.tar.gz"


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turns UnusableDownload into a DownloadError with the URL and what to do."""
    try:
        yield
    except download.UnusableDownload as error:
        by_hand = "unpack the archive yourself and train with data.name=folder"
        raise DownloadError(f"{_url(name)}: {error}: try again, or {by_hand}") from error
