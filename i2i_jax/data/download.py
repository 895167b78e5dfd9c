"""Downloads of the public sets' archives, whose checksums nobody publishes: later downloads must be the same as the first.

The SHA-256 of each first download is recorded in CHECKSUMS, beside the folder of the downloads: that folder may be deleted.
"""

import http.client
import os
import urllib.error
from pathlib import Path

from absl import logging

from i2i_jax.data.prepared import SetError
from i2i_jax.storage import download
from i2i_jax.storage.files import atomic_write, sha256

CHECKSUMS = "checksums.sha256"  # in the format of `sha256sum`


class UnusableDownload(SetError):
    """Why a download cannot be used, without its URL."""


def fetch(url: str, archive: Path) -> None:
    """Downloads an archive; a failed download leaves no file.

    Args:
        url: the archive's URL.
        archive: the file to write.

    Raises:
        UnusableDownload: if the server fails, the download is incomplete, or it differs from the first one.
    """
    partial = archive.with_name(f"{archive.name}.{os.getpid()}.part")
    try:
        size = download.fetch(url, partial, desc=archive.name, leave=False, disable=None)
        checksum = sha256(partial)
        if size not in (None, partial.stat().st_size):
            raise UnusableDownload(f"ended after {partial.stat().st_size} of {size} bytes")
        _compare_with_first(url, archive, checksum)
        os.replace(partial, archive)
    except urllib.error.HTTPError as error:
        with error:
            raise UnusableDownload(f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise UnusableDownload(f"cannot be reached ({error.reason})") from None
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise UnusableDownload(f"the server stopped responding ({error or type(error).__name__})") from None
    finally:
        partial.unlink(missing_ok=True)


def discard(archive: Path) -> None:
    """Removes an archive that turned out to be bad, and its recorded checksum, so that the next attempt downloads it again."""
    archive.unlink(missing_ok=True)
    _write_checksums(archive, {name: checksum for name, checksum in _checksums(archive).items() if name != archive.name})


def _compare_with_first(url: str, archive: Path, checksum: str) -> None:
    """Records the checksum of the first download; raises UnusableDownload if a later one has another."""
    recorded, record = _checksums(archive), archive.parents[1] / CHECKSUMS
    if archive.name not in recorded:
        _write_checksums(archive, recorded | {archive.name: checksum})
        warning = "%s was downloaded over plain HTTP, without authentication; later downloads must have the same SHA-256, %s (%s)"
        logging.warning(warning, url, checksum, record)
    elif recorded[archive.name] != checksum:
        first = recorded[archive.name]
        raise UnusableDownload(f"differs from the first download: its SHA-256 is {checksum}, not {first} ({record})")


def _checksums(archive: Path) -> dict[str, str]:
    """The recorded SHA-256 of each file, by name."""
    try:
        lines = (archive.parents[1] / CHECKSUMS).read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}


def _write_checksums(archive: Path, checksums: dict[str, str]) -> None:
    record = archive.parents[1] / CHECKSUMS
    if checksums:
        atomic_write(record, "".join(f"{checksum}  {name}\n" for name, checksum in sorted(checksums.items())).encode())
    else:
        record.unlink(missing_ok=True)
