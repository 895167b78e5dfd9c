"""The two files of onnxruntime-web that run ONNX files on the CPU in a browser, from a folder or from npm."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from i2i_jax.storage import cache, files

VERSION = "1.30.0"
CHECKSUMS = {  # SHA-256
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
OPTION = "--onnxruntime_web"


class RuntimeMissing(RuntimeError):
    """onnxruntime-web cannot be had: one line that says why and what would do."""


def folder(local: Path | None = None) -> Path:
    """Returns a folder that holds the files in CHECKSUMS.

    Args:
        local: a folder with these files, or an unpacked npm package, in any version; by default VERSION is downloaded by `npm pack`,
            compared with the checksums, and kept in the user's cache directory.

    Raises:
        RuntimeMissing: if a file is not there, or cannot be downloaded, or is not the one expected.
    """
    if local is not None:
        return _checked_folder(local)
    cached = cache.folder(f"onnxruntime-web-{VERSION}")
    if not all((cached / name).is_file() and files.sha256(cached / name) == checksum for name, checksum in CHECKSUMS.items()):
        for name, content in _downloaded().items():
            files.atomic_write(cached / name, content)
    return cached


def _checked_folder(local: Path) -> Path:
    for candidate in (local, local / "dist"):
        if all((candidate / name).is_file() for name in CHECKSUMS):
            return candidate
    raise RuntimeMissing(f"{OPTION}: {local} has no {' and '.join(CHECKSUMS)}: an unpacked npm package onnxruntime-web has them in dist/")


def _downloaded() -> dict[str, bytes]:
    """The files in CHECKSUMS by name, from npm."""
    package = f"onnxruntime-web@{VERSION}"
    advice = f"name a folder that holds {' and '.join(CHECKSUMS)} by {OPTION}=DIR"
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeMissing(f"the page needs {package}, which npm downloads, and npm is not installed: install it, or {advice}")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", "--loglevel=error", "--fetch-retries=0", package]  # more retries take minutes without a network
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
        archives = list(Path(temporary).glob("*.tgz"))
        if done.returncode or not archives:
            said = done.stderr.partition("A complete log")[0].replace("npm error", "")
            reason = " ".join(said.split()) or f"exit status {done.returncode}"
            raise RuntimeMissing(f"npm pack {package} failed ({reason:.200}): try again, or {advice}")
        contents = _extracted(archives[0])
    for name, expected in CHECKSUMS.items():
        if (found := hashlib.sha256(contents[name]).hexdigest()) != expected:
            raise RuntimeMissing(f"{name} of {package} has the SHA-256 {found}: expected {expected}; {advice}")
    return contents


def _extracted(archive: Path) -> dict[str, bytes]:
    """The files in CHECKSUMS by name; empty where the package has none of that name."""
    with tarfile.open(archive) as package:
        members = {Path(member.name).name: member for member in package if member.isfile() and member.name.startswith("package/dist/")}
        streams = {name: package.extractfile(members[name]) if name in members else None for name in CHECKSUMS}
        return {name: stream.read() if stream else b"" for name, stream in streams.items()}
