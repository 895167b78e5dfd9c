"""The six public pix2pix sets, downloaded and prepared at first use.

Each is one archive of train, val and perhaps test folders of side-by-side JPEGs, which are kept as they are. TFDS compares
a download with the size and SHA-256 in `checksums.tsv` beside this file if it is listed there, and keeps what it found in the
download's .INFO file. To list a set: `Pix2Pix(config=NAME).download_and_prepare(file_format="array_record",
download_config=tfds.download.DownloadConfig(register_checksums=True))`.
"""

import contextlib
import functools
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from i2i_jax.data import images, prepared
from i2i_jax.data.pairs import SideBySide

BASE_URL = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"


class PublicSet(NamedTuple):
    """`direction` is the one of the papers."""

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
    """A set that cannot be downloaded: one line with the address, what was found and what would do."""


class _Unusable(Exception):
    """Why a download cannot be used."""


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
    prepare: bool = True,
) -> SideBySide:
    """The pairs of one of SETS, made in `data_dir` ("": the user's cache folder) if they are not there and `prepare`.

    A set without a test split is tested on its val split. Raises DownloadError, and then leaves nothing half-made.
    """
    folder = prepared.data_dir(data_dir)
    with _cleaned_up(name, folder):
        return prepared.pairs(
            functools.partial(Pix2Pix, config=name, data_dir=folder),
            split,
            prepare=prepare,
            max_pairs=max_pairs,
            direction=direction,
            input_channels=input_channels,
            target_channels=target_channels,
            max_pixels=max_pixels,
        )


class Pix2Pix(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder: one config a set, pairs in the order of the archive."""

    name = "pix2pix"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=f"{one.train_pairs} training pairs, usually {one.direction}")
        for name, one in SETS.items()
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=prepared.features("jpeg"), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        assert self.builder_config is not None
        url = _url(self.builder_config.name)
        _check_reachable(url)
        archive = Path(dl_manager.download(url))
        return {split: self._generate_examples(archive, split) for split in SETS[self.builder_config.name].splits}

    def _generate_examples(self, archive: Path, split: str):
        index = -1
        for index, (stem, jpeg) in enumerate(_jpegs(archive, split)):
            yield index, {"pair": jpeg, "name": stem}
        if index < 0:
            raise _refused(archive, f"has no JPEG in a folder {split}")


def _jpegs(archive: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Stem and content of the files in the archive's folder `split`. Nothing is unpacked to disk."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise _refused(archive, f"has a member outside its folder: {member.name!r}")
                file = tar.extractfile(member) if member.isreg() else None
                if file and path.parent.name == split and path.suffix.lower() in (".jpg", ".jpeg"):
                    yield path.stem, file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _refused(archive, f"is no whole tar.gz archive ({error})") from error


def _refused(archive: Path, reason: str) -> _Unusable:
    """Removes a download, which TFDS would take again at the next try."""
    for file in (archive, archive.with_name(archive.name + ".INFO")):
        file.unlink(missing_ok=True)
    return _Unusable(reason)


def _check_reachable(url: str) -> None:
    """Without a network TFDS would try for minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=30).close()
    except urllib.error.HTTPError as error:
        with error:
            raise _Unusable(f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _Unusable(f"cannot be reached ({error.reason})") from None


def _url(name: str) -> str:
    return f"{BASE_URL}/{name}.tar.gz"


@contextlib.contextmanager
def _cleaned_up(name: str, data_dir: Path) -> Iterator[None]:
    """What goes wrong with a download, as one line; what TFDS leaves of it is removed."""
    try:
        yield
    except BaseException as error:
        for part in (data_dir / "downloads" / Pix2Pix.name).glob("*.tmp.*"):
            shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, NonMatchingChecksumError):
            reason = "is not the file of checksums.tsv, its size or SHA-256 differs"
        elif isinstance(error, _Unusable | tfds.download.DownloadError | OSError):
            reason = str(error).splitlines()[0]
        else:
            raise
        by_hand = "unpack the archive yourself and train with data.name=folder"
        raise DownloadError(f"{_url(name)}: {reason}: try again, or {by_hand}") from error
