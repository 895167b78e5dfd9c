"""The six public pix2pix sets, downloaded and prepared at first use.

Each is one archive of train, val and perhaps test folders of side-by-side JPEGs, which are kept as they are. The archives come over
plain HTTP, and nobody publishes their checksums: the first download's SHA-256 is kept, and a later one must be the same file.
"""

import contextlib
import functools
import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import tensorflow_datasets as tfds
from absl import logging
from tqdm import tqdm

from i2i_jax.data import images, prepared
from i2i_jax.data.pairs import Pairs
from i2i_jax.storage.files import atomic_write, writing

BASE_URL = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"
SILENCE = 30  # seconds after which a server counts as gone
CHECKSUMS = "checksums.sha256"  # as sha256sum writes and reads them
MAX_FILE = 2**26  # bytes of one JPEG in an archive


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


class _Unusable(prepared.SetError):
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
    skip_bad: bool = False,
    prepare: bool = True,
) -> Pairs:
    """The pairs of one of SETS, made in `data_dir` ("": the user's cache folder) if they are not there and `prepare`.

    A set without a test split is tested on its val split. Raises DownloadError, and then leaves nothing half-made.
    """
    folder = prepared.data_dir(data_dir)
    with _named(name):
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
        archive = Path(dl_manager.download_dir) / PurePosixPath(url).name
        if not archive.exists():
            _download(url, archive)
        return {split: self._generate_examples(archive, split) for split in SETS[self.builder_config.name].splits}

    def _generate_examples(self, archive: Path, split: str):
        index = -1
        for index, (stem, jpeg) in enumerate(_jpegs(archive, split)):
            yield index, {"pair": jpeg, "name": stem}
        if index < 0:
            raise _refused(archive, f"has no JPEG in a folder {split}")


def _jpegs(archive: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Stem and content of the files in the archive's folder `split`. Nothing is unpacked to disk."""
    stems = set()
    try:
        with gzip.open(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise _refused(archive, f"has a member outside its folder: {member.name!r}")
                if not member.isreg() or path.parent.name != split or path.suffix.lower() not in (".jpg", ".jpeg"):
                    continue
                if member.size > MAX_FILE or path.stem in stems:
                    found = f"of {member.size} bytes" if member.size > MAX_FILE else "twice"
                    raise _refused(archive, f"has a member {member.name!r} {found}")
                stems.add(path.stem)
                file = tar.extractfile(member)
                assert file is not None, "of a regular member"
                yield path.stem, file.read()
            while unpacked.read(2**20):  # to its end, where the checksum is
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _refused(archive, f"is no whole tar.gz archive ({error})") from error


def _refused(archive: Path, reason: str) -> _Unusable:
    """Removes a download, which would be taken again at the next try, and its checksum."""
    archive.unlink(missing_ok=True)
    _write_checksums(archive, {name: known for name, known in _checksums(archive).items() if name != archive.name})
    return _Unusable(reason)


def _checksums(archive: Path) -> dict[str, str]:
    """SHA-256 by file name, of all that was downloaded first; kept beside the folder of downloads, which may be emptied."""
    try:
        lines = (archive.parents[1] / CHECKSUMS).read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}


def _write_checksums(archive: Path, known: dict[str, str]) -> None:
    place = archive.parents[1] / CHECKSUMS
    if known:
        atomic_write(place, "".join(f"{checksum}  {name}\n" for name, checksum in sorted(known.items())).encode())
    else:
        place.unlink(missing_ok=True)


def _compare_with_first(url: str, archive: Path, checksum: str) -> None:
    """Raises _Unusable where the first download was another file; this one may be the first."""
    known, place = _checksums(archive), archive.parents[1] / CHECKSUMS
    if archive.name not in known:
        _write_checksums(archive, known | {archive.name: checksum})
        plainly = "%s came over plain HTTP, which proves nothing; later downloads must have its SHA-256, %s (%s)"
        logging.warning(plainly, url, checksum, place)
    elif known[archive.name] != checksum:
        raise _Unusable(f"is another file than at the first download: its SHA-256 is {checksum}, that in {place} {known[archive.name]}")


def _download(url: str, archive: Path) -> None:
    """Fetches a file, whole and the same as ever, or not at all."""
    part = archive.with_name(f"{archive.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=SILENCE) as answer, part.open("wb") as file:
            size = int(answer.headers.get("Content-Length", -1))
            with tqdm(total=max(size, 0), desc=archive.name, unit="B", unit_scale=True, leave=False, disable=None) as progress:
                while block := answer.read(2**20):
                    with writing(part):
                        progress.update(file.write(block))
        with part.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if size not in (-1, part.stat().st_size):
            raise _Unusable(f"ended after {part.stat().st_size} of {size} bytes")
        _compare_with_first(url, archive, checksum)
        os.replace(part, archive)
    except urllib.error.HTTPError as error:
        with error:
            raise _Unusable(f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _Unusable(f"cannot be reached ({error.reason})") from None
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _Unusable(f"the server fell silent ({error or type(error).__name__})") from None
    finally:
        part.unlink(missing_ok=True)


def _url(name: str) -> str:
    return f"{BASE_URL}/{name}.tar.gz"


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with a download, as one line."""
    try:
        yield
    except _Unusable as error:
        by_hand = "unpack the archive yourself and train with data.name=folder"
        raise DownloadError(f"{_url(name)}: {error}: try again, or {by_hand}") from error
