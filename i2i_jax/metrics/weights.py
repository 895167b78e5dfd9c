"""Files of pretrained weights: finds, downloads, verifies and reads them."""

import os
import tempfile
import urllib.error
import zipfile
import zlib
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2i_jax.storage import cache, download, torch_files
from i2i_jax.storage.files import sha256


class WeightsError(ValueError):
    """Weights that cannot be found, downloaded or read; the message is one line."""


class Published(NamedTuple):
    """A published file of weights.

    Attributes:
        url: where it is published.
        sha256: its checksum, in hexadecimal.
        also: its path in the publisher's own package, which is also looked up in the user's folder; empty if there is none.
    """

    url: str
    sha256: str
    also: str = ""


_TORCHVISION = "https://download.pytorch.org/models"
_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights"
_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"


def _lpips(path: str, sha256: str) -> Published:
    """A file of LPIPS's channel weights, at `path` in its package."""
    return Published(f"{_LPIPS}/{path}", sha256, path)


PUBLISHED = {
    "alexnet-owt-7be5be79.pth": Published(
        f"{_TORCHVISION}/alexnet-owt-7be5be79.pth", "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
    ),
    "vgg16-397923af.pth": Published(
        f"{_TORCHVISION}/vgg16-397923af.pth", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
    ),
    "squeezenet1_1-b8a52dc0.pth": Published(
        f"{_TORCHVISION}/squeezenet1_1-b8a52dc0.pth", "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b"
    ),
    "pt_inception-2015-12-05-6726825d.pth": Published(
        f"{_FID}/pt_inception-2015-12-05-6726825d.pth", "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
    ),
    "lpips_v0.0_alex.pth": _lpips("v0.0/alex.pth", "18720f55913d0af89042f13faa7e536a6ce1444a0914e6db9461355ece1e8cd5"),
    "lpips_v0.0_vgg.pth": _lpips("v0.0/vgg.pth", "b9e4236260c3dd988fc79d2a48d645d885afcbb21f9fd595e6744cf7419b582c"),
    "lpips_v0.0_squeeze.pth": _lpips("v0.0/squeeze.pth", "c27abd3a0145541baa50990817df58d3759c3f8154949f42af3b59b4e042d0bf"),
    "lpips_v0.1_alex.pth": _lpips("v0.1/alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "lpips_v0.1_vgg.pth": _lpips("v0.1/vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    "lpips_v0.1_squeeze.pth": _lpips("v0.1/squeeze.pth", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
}


def locate(name: str, folder: str | Path = "") -> Path:
    """Returns the path of a file of weights. A published file is downloaded to the user's cache at first use.

    A .npz file of the same stem is accepted, too, and in `folder` also the path in the publisher's package (such as v0.1/alex.pth).
    Downloads are verified by their checksum before they get their final name; files in the user's folder are not verified.

    Args:
        name: name of the file.
        folder: where to look for it, without downloading; empty: the user's cache.

    Raises:
        WeightsError: if the file is not in `folder`, is not published or cannot be downloaded.
    """
    published = PUBLISHED.get(name)
    root = Path(folder).expanduser() if str(folder) else cache_dir()
    names = [name, Path(name).with_suffix(".npz").name] + ([published.also] if str(folder) and published and published.also else [])
    for candidate in names:
        if (root / candidate).is_file():
            return root / candidate
    if str(folder):
        raise WeightsError(f"{root}: no {' or '.join(dict.fromkeys(names))} in this folder of weights")
    if published is None:
        raise WeightsError(f"{name} is not published: name the folder it is in")
    return _download(published, root / name)


def cache_dir() -> Path:
    """The folder of downloaded weights: `i2i_jax/weights` in the user's cache folder."""
    return cache.folder("weights")


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a file of weights without running code that it may contain.

    Args:
        path: a .npz file, or a PyTorch file (.pth, .pt), which needs the extra `torch`.

    Returns:
        The arrays by name.

    Raises:
        WeightsError: if the file is missing, damaged or of another format.
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".pth": _read_torch, ".pt": _read_torch}
    if path.suffix not in readers:
        raise WeightsError(f"{path}: not a file of weights: its suffix must be one of {', '.join(readers)}")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    return readers[path.suffix](path)


def take(weights: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], file: str | Path) -> dict[str, np.ndarray]:
    """Selects arrays and checks their shapes.

    Args:
        weights: arrays by name.
        shapes: the shape of each needed array by name.
        file: the file they were read from, for error messages.

    Returns:
        The needed arrays, in the order of `shapes`.

    Raises:
        WeightsError: if an array is missing or has another shape.
    """
    for key, shape in shapes.items():
        if key not in weights:
            raise WeightsError(f"{file}: no {key!r} of shape {tuple(shape)}: not the weights of this network")
        if weights[key].shape != tuple(shape):
            raise WeightsError(f"{file}: {key!r} has shape {weights[key].shape}: this network needs {tuple(shape)}")
    return {key: weights[key] for key in shapes}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"{path}: not a whole .npz of plain arrays (Python objects are never loaded)") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        return torch_files.read(path)
    except torch_files.TorchFileError as error:
        raise WeightsError(f"{error}; a .npz file of the same arrays works, too") from error


def _download(published: Published, path: Path) -> Path:
    advice = "download it yourself and name its folder"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download_") as folder:
            partial = Path(folder) / path.name
            download.fetch(published.url, partial, desc=path.name)
            found = sha256(partial)
            if found != published.sha256:
                raise WeightsError(
                    f"{published.url}: {partial.stat().st_size} bytes with sha256 {found}, not {published.sha256}: try again, or {advice}"
                )
            os.replace(partial, path)
    except urllib.error.HTTPError as error:
        error.close()
        raise WeightsError(f"{published.url}: the server answers {error.code} {error.reason}: {advice}") from error
    except (OSError, HTTPException) as error:
        raise WeightsError(f"{published.url}: cannot be downloaded to {path}: {getattr(error, 'reason', error)}: {advice}") from error
    return path
