"""A Hugging Face hub on loopback, with as much of its protocol as uploading and downloading a model takes."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Hub(ThreadingHTTPServer):
    """Repositories by name, USER/NAME, each with its files and whether it is private; only with the token are they there."""

    token = "secret"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits = 0
        self.large: dict[str, bytes] = {}  # by their sha256
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def _answer(self, status=200, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _sent(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _begin(self):
        """The path's parts and what was sent; None where it was answered already."""
        sent = self._sent()
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        if "/large/" not in path and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._answer(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
            return None
        return path.strip("/").split("/"), sent

    def do_HEAD(self):
        if not (begun := self._begin()):
            return
        user, name, *rest = begun[0]
        if rest[:2] != ["resolve", "main"]:
            self._answer(404)
            return
        file = rest[2]
        files = self.server.repositories.get(f"{user}/{name}")
        if files is None or file not in files:
            kind = "RepoNotFound" if files is None else "EntryNotFound"
            self._answer(404, {"error": "not found"}, X_Error_Code=kind)
            return
        etag = hashlib.sha256(files[file]).hexdigest()
        self._answer(200, files[file], ETag=f'"{etag}"', X_Repo_Commit=f"{self.server.commits:040}")

    do_GET = do_HEAD

    def do_PUT(self):
        (*_, name), sent = self._begin()
        assert hashlib.sha256(sent).hexdigest() == name
        self.server.large[name] = sent
        self._answer()

    def do_POST(self):
        if not (begun := self._begin()):
            return
        path, sent = begun
        if path == ["api", "repos", "create"]:
            self._create(json.loads(sent))
        elif path == ["api", "validate-yaml"]:
            self._answer(200, {"errors": [], "warnings": []})
        elif path[-1] == "batch":
            objects = json.loads(sent)["objects"]
            upload = [o | {"actions": {"upload": {"href": f"{self.server.url}/large/{o['oid']}"}}} for o in objects]
            self._answer(200, {"transfer": "basic", "objects": upload})
        elif path[4] == "preupload":
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith("safetensors") else "regular", "shouldIgnore": False}
                for f in json.loads(sent)["files"]
            ]
            self._answer(200, {"files": modes})
        else:
            self._commit("/".join(path[2:4]), [json.loads(line) for line in sent.splitlines()])

    def _create(self, wanted):
        name = f"{wanted['organization']}/{wanted['name']}"
        there = name in self.server.repositories
        if not there:
            self.server.repositories[name] = {}
            self.server.private[name] = wanted.get("private") or wanted.get("visibility") == "private"
        self._answer(409 if there else 200, {"url": f"{self.server.url}/{name}"})

    def _commit(self, name, lines):
        files = self.server.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        self.server.commits += 1
        oid = f"{self.server.commits:040}"
        self._answer(200, {"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid})
