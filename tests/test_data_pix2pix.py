"""The public datasets, from an archive served on loopback, and everything that can be wrong with a download."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from i2i_jax.data import download, pix2pix


def jpeg(number):
    both = np.concatenate([np.full((16, 16, 3), number, np.uint8), np.full((16, 16, 3), 100 + number, np.uint8)], 1)
    file = io.BytesIO()
    Image.fromarray(both).save(file, "JPEG", quality=100)
    return file.getvalue()


def archive(files):
    """A tar.gz archive of files, given by name and content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


FACADES = {f"./facades/{split}/{i}.jpg": jpeg(i) for split, numbers in
           {"train": (3, 1, 2), "val": (4,), "test": (5, 6)}.items() for i in numbers}  # fmt: skip
MAPS = {f"maps/{split}/{i}.jpg": jpeg(i) for split, i in [("val", 1), ("train", 2)]}


@pytest.fixture
def served(monkeypatch):
    """The server's contents by path, to be filled by the test, and the requests it received."""
    contents, requests = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(f"{self.command} {self.path}")
            content = contents.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # server_close waits for them
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    monkeypatch.setattr(pix2pix, "BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield contents, requests
    server.shutdown()
    server.server_close()


def test_pairs_of_an_archive(served, tmp_path):
    served[0]["/facades.tar.gz"] = archive(FACADES)
    sets = {split: pix2pix.pairs("facades", split, tmp_path) for split in ("train", "val", "test")}
    names = {split: [pairs.name(i) for i in range(len(pairs))] for split, pairs in sets.items()}
    assert names == {"train": ["3", "1", "2"], "val": ["4"], "test": ["5", "6"]}
    np.testing.assert_allclose(sets["train"][1].input, np.full((16, 16, 3), 1), atol=3)
    np.testing.assert_allclose(sets["train"][1].target, np.full((16, 16, 3), 101), atol=3)


def test_pairs_are_read_as_asked(served, tmp_path):
    served[0]["/facades.tar.gz"] = archive(FACADES)
    pairs = pix2pix.pairs("facades", "train", tmp_path, direction="BtoA", input_channels=1, max_pairs=2)
    assert len(pairs) == 2
    assert (pairs[0].input.shape, pairs[0].target.shape) == ((16, 16, 1), (16, 16, 3))
    np.testing.assert_allclose(pairs[0].input, 103, atol=3)


def test_a_prepared_set_needs_no_network(served, tmp_path):
    served[0]["/maps.tar.gz"] = archive(MAPS)
    pix2pix.pairs("maps", "train", tmp_path)
    served[0].clear()
    assert len(pix2pix.pairs("maps", "val", tmp_path)) == 1
    assert served[1] == ["GET /maps.tar.gz"]


def test_a_set_without_a_test_split_is_tested_on_val(served, tmp_path):
    served[0]["/maps.tar.gz"] = archive(MAPS)
    assert pix2pix.pairs("maps", "test", tmp_path).name(0) == "1"


def test_jpegs_are_kept_as_they_are(served, tmp_path):
    served[0]["/maps.tar.gz"] = archive(MAPS)
    assert pix2pix.pairs("maps", "val", tmp_path).load(0) == jpeg(1)


def failure(name, data_dir):
    with pytest.raises(pix2pix.DownloadError) as error:
        pix2pix.pairs(name, "train", data_dir)
    message = str(error.value)
    assert message.startswith(f"{pix2pix.BASE_URL}/{name}.tar.gz: ")
    assert message.endswith("try again, or unpack the archive yourself and train with data.name=folder")
    assert "\n" not in message
    assert not [path.name for path in data_dir.rglob("*") if path.is_file() and not path.name.endswith("metadata.json")]
    return message


def test_not_found(served, tmp_path):
    assert "the server answers 404 Not Found" in failure("maps", tmp_path)


def test_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pix2pix, "BASE_URL", "http://127.0.0.1:9")
    assert "cannot be reached ([Errno" in failure("maps", tmp_path)


def test_a_page_in_place_of_the_archive(served, tmp_path):
    served[0]["/maps.tar.gz"] = b"<html>moved</html>"
    assert "is not a complete tar.gz archive (Not a gzipped file" in failure("maps", tmp_path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.8])
def test_half_an_archive_and_then_the_whole(served, tmp_path, kept):
    whole = archive(MAPS)
    served[0]["/maps.tar.gz"] = whole[: int(len(whole) * kept)]
    assert "is not a complete tar.gz archive" in failure("maps", tmp_path)
    served[0]["/maps.tar.gz"] = whole
    assert len(pix2pix.pairs("maps", "train", tmp_path)) == 1


def test_an_archive_without_a_split(served, tmp_path):
    served[0]["/facades.tar.gz"] = archive({name: jpeg(0) for name in FACADES if "val" not in name})
    assert "has no JPEG in a folder val" in failure("facades", tmp_path)


@pytest.mark.parametrize("name", ["/etc/x.jpg", "maps/../../train/x.jpg"])
def test_a_member_outside_the_archive(served, tmp_path, name):
    served[0]["/maps.tar.gz"] = archive(MAPS | {name: jpeg(0)})
    assert f"has a member outside its folder: {name!r}" in failure("maps", tmp_path)


def test_a_later_download_must_be_the_first_one(served, tmp_path, caplog):
    """A warning says so. The record is in the format of `sha256sum`, and remains when the downloads are deleted."""
    first = archive(MAPS)
    served[0]["/maps.tar.gz"] = first
    pix2pix.pairs("maps", "train", tmp_path)
    record, checksum = tmp_path / download.CHECKSUMS, hashlib.sha256(first).hexdigest()
    assert record.read_text() == f"{checksum}  maps.tar.gz\n"
    url = f"{pix2pix.BASE_URL}/maps.tar.gz"
    warning = "was downloaded over plain HTTP, without authentication; later downloads must have the same SHA-256"
    assert f"{url} {warning}, {checksum} ({record})" in caplog.messages
    for folder in ("downloads", "pix2pix"):
        shutil.rmtree(tmp_path / folder)
    served[0]["/maps.tar.gz"] = archive(MAPS | {"maps/train/more.jpg": jpeg(9)})
    with pytest.raises(pix2pix.DownloadError, match=f"differs from the first download: .*, not {checksum} .{record}.: "):
        pix2pix.pairs("maps", "train", tmp_path)
    assert not list((tmp_path / "downloads").glob("*.tar.gz"))
    served[0]["/maps.tar.gz"] = first
    assert len(pix2pix.pairs("maps", "train", tmp_path)) == 1


def test_a_process_that_does_not_prepare_reads_the_prepared_set(served, tmp_path):
    served[0]["/maps.tar.gz"] = archive(MAPS)
    pix2pix.pairs("maps", "train", tmp_path)
    assert len(pix2pix.pairs("maps", "train", tmp_path, prepare=False)) == 1
