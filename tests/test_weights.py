"""Files of weights: found, downloaded once and verified, read without running code; errors of one line."""

import http.server
import io
import pickle
import socket
import sys
import threading

import numpy as np
import pytest

from i2i_jax.metrics import weights
from i2i_jax.metrics.weights import Published, WeightsError, locate, read, take

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.zeros(2)}


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    return file.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "i2i_jax" / "weights"


@pytest.fixture(scope="module")
def server():
    """Serves `/good`, sends less than its Content-Length at `/short`, else 404; `requests` lists the requested paths."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.path)
            if self.path == "/missing":
                return self.send_error(404)
            body = npz_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:100] if self.path == "/short" else body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def publish(server, monkeypatch, tmp_path):
    """Replaces the table of published files by one file at a path of the server."""
    server.requests.clear()
    (tmp_path / "same").write_bytes(npz_bytes())

    def put(path: str, sha256: str = weights.sha256(tmp_path / "same"), **also) -> str:
        published = Published(f"http://127.0.0.1:{server.server_port}{path}", sha256, **also)
        monkeypatch.setattr(weights, "PUBLISHED", {"ours.npz": published})
        return "ours.npz"

    return put


def error_of(function, *arguments) -> str:
    with pytest.raises(WeightsError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_downloaded_once(publish, cache, server, capsys):
    name = publish("/good")
    assert locate(name) == locate(name) == cache / name
    assert server.requests == ["/good"]
    assert name in capsys.readouterr().err  # the progress bar
    np.testing.assert_equal(read(locate(name)), ARRAYS)


@pytest.mark.parametrize(
    "path, sha256, message",
    [("/missing", None, "404"), ("/short", None, "100 bytes"), ("/good", "0" * 64, "not " + "0" * 64)],
)
def test_a_failed_download_leaves_nothing(publish, cache, path, sha256, message):
    name = publish(path, sha256) if sha256 else publish(path)
    found = error_of(locate, name)
    assert message in found and f"{path}" in found and "yourself" in found
    assert list(cache.iterdir()) == []


def test_no_network(monkeypatch, cache):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        monkeypatch.setattr(weights, "PUBLISHED", {"ours.npz": Published(url, "0" * 64)})
        assert "refused" in error_of(locate, "ours.npz")


def test_the_users_folder_is_only_read(publish, tmp_path, server):
    name = publish("/good", also="v0.1/ours.pth")
    found = error_of(locate, name, tmp_path)
    assert str(tmp_path) in found and name in found and "v0.1/ours.pth" in found
    (tmp_path / "v0.1").mkdir()
    (tmp_path / "v0.1" / "ours.pth").touch()
    assert locate(name, tmp_path) == tmp_path / "v0.1" / "ours.pth"
    (tmp_path / name).touch()
    assert locate(name, str(tmp_path)) == tmp_path / name
    assert server.requests == []


def test_a_converted_file_is_found(tmp_path):
    (tmp_path / "lpips_v0.1_alex.npz").touch()
    assert locate("lpips_v0.1_alex.pth", tmp_path).name == "lpips_v0.1_alex.npz"


def test_a_file_that_is_not_published(cache):
    assert "name the folder" in error_of(locate, "mine.npz")
    assert not cache.exists()


def test_published_names_begin_their_checksums():
    """The names of PyTorch's files contain the first 8 digits of their checksum."""
    for name, published in weights.PUBLISHED.items():
        assert len(published.sha256) == 64
        if not published.also:
            assert name.endswith(f"-{published.sha256[:8]}.pth") and published.url.endswith(f"/{name}")


@pytest.mark.parametrize("network", ["alex", "vgg", "squeeze"])
def test_checksums_of_the_heads(shared, network):
    file = shared / "weights" / "lpips_linear_v0.1" / f"{network}.pth"
    assert weights.sha256(file) == weights.PUBLISHED[f"lpips_v0.1_{network}.pth"].sha256


def test_missing_and_unknown(tmp_path):
    assert "no such file" in error_of(read, tmp_path / "none.npz")
    assert ".npz, .pth, .pt" in error_of(read, tmp_path / "weights.h5")


class Code:
    def __reduce__(self):
        return pytest.fail, ("the file's code was run",)


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
@pytest.mark.parametrize("content", ["nothing", "text", "truncated", "code", "array"])
def test_damaged_and_other_files_are_refused(tmp_path, suffix, content):
    if suffix == ".pth":
        pytest.importorskip("torch", reason="reads PyTorch's files")
    array = io.BytesIO()
    np.save(array, ARRAYS["a.bias"])
    contents = {
        "nothing": b"",
        "text": b"<!DOCTYPE html>",
        "truncated": npz_bytes()[:-40],
        "code": pickle.dumps({"a": Code()}, protocol=2),
        "array": array.getvalue(),
    }
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(contents[content])
    refused = "holds more than tensors" if (suffix, content) == (".pth", "code") else "not a whole"
    assert f"{file}: {refused}" in error_of(read, file)


def test_objects_in_npz(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.array([Code], dtype=object))
    assert "never loaded" in error_of(read, tmp_path / "weights.npz")


def test_torch_files(tmp_path):
    torch = pytest.importorskip("torch", reason="writes PyTorch's files")
    tensors = {key: torch.nn.Parameter(torch.from_numpy(value)) for key, value in ARRAYS.items()}
    for zipped in (True, False):
        torch.save(tensors, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
        np.testing.assert_equal(read(tmp_path / "weights.pth"), ARRAYS)
    torch.save([1, 2], tmp_path / "weights.pt")
    assert "tensors by name" in error_of(read, tmp_path / "weights.pt")
    torch.save({"code": Code()}, tmp_path / "weights.pt")
    assert "never loaded" in error_of(read, tmp_path / "weights.pt")


def test_torch_files_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "weights.pth").touch()
    found = error_of(read, tmp_path / "weights.pth")
    assert "i2i-jax[torch]" in found and ".npz" in found


def test_take():
    assert list(take(ARRAYS, {"a.bias": (2,)}, "file.npz")) == ["a.bias"]
    assert error_of(take, ARRAYS, {"a.bias": (2,), "b.bias": (4,)}, "file.npz").startswith("file.npz: no 'b.bias' of shape (4,)")
    assert "'a.weight' has shape (2, 3): this network needs (3, 2)" in error_of(take, ARRAYS, {"a.weight": (3, 2)}, "file.npz")
