"""A hub on loopback: the few routes of Hugging Face's that a data set or model needs, as its client asks for them, and
those by which a model is uploaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 200  # bytes; files from here on have a SHA-256 in the listing, as those in large-file storage do


class Seen(NamedTuple):
    method: str
    path: str
    range: str | None
    login: str | None


_ROUTE = re.compile(r"(?P<api>/api)?/(datasets/org/set|(models/)?org/model)/(?P<rest>.*)")


class HubServer(ThreadingHTTPServer):
    """Serves the data set `org/set`, and the model `org/model` with the same files; keeps what is uploaded.

    Each entry of `plan` says what happens to one request for a file's bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.commits = {"main": COMMIT, COMMIT: COMMIT}
        self.other_files: dict[str, dict[str, bytes]] = {}  # by commit
        self.moves: list[str] = []  # where `main` is next, once it was asked for
        self.plan: list[str] = []
        self.refuse: tuple[int, str] | None = None
        self.login: str | None = None
        self.seen: list[Seen] = []
        self.made: list[dict[str, Any]] = []
        self.stored: dict[str, bytes] = {}
        self.commit: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files_of(self, revision: str) -> dict[str, bytes]:
        return self.other_files.get(self.commits.get(revision, ""), self.files)

    def bytes_asked(self, method: str = "GET") -> list[Seen]:
        return [seen for seen in self.seen if "/resolve/" in seen.path and seen.method == method]

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # broken connections are what some tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _upload(self, path: str, body: bytes) -> None:
        """A new repository, or a commit: which files go which way, the large ones by hash, then the list."""
        server = self.server
        if path.startswith("/stored/"):
            server.stored[path.removeprefix("/stored/")] = body
            return self._json({})
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    server.commit[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    server.commit[value["path"]] = server.stored[value["oid"]]
            return self._json({"commitUrl": f"{server.address}/org/new/commit/{COMMIT}", "commitOid": COMMIT})
        asked = json.loads(body)
        if path == "/api/repos/create":
            server.made.append(asked)
            return self._json({"url": f"{server.address}/{asked['organization']}/{asked['name']}"})
        if path.endswith("/objects/batch"):
            uploads = (
                {**o, "actions": {"upload": {"href": f"{server.address}/stored/{o['oid']}"}}} for o in asked["objects"]
            )
            return self._json({"transfer": "basic", "objects": list(uploads)})
        if "/preupload/" in path:
            modes = {f["path"]: "lfs" if f["size"] >= LARGE else "regular" for f in asked["files"]}
            return self._json(
                {"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]}
            )
        return self._json({"errors": [], "warnings": []})  # validate-yaml

    def _serve(self, method: str) -> None:
        server, path = self.server, unquote(urlsplit(self.path).path)
        login = self.headers.get("Authorization")
        server.seen.append(Seen(method, path, self.headers.get("Range"), login))
        signed = path.startswith("/stored/")  # an address of its own, which needs no login
        if server.refuse is not None or (server.login and not signed and login != f"Bearer {server.login}"):
            status, code = server.refuse or (401, "RepoNotFound")
            self._answer(status, b"{}", {"X-Error-Code": code} if code else {})
        elif method in ("POST", "PUT"):
            self._upload(path, self.rfile.read(int(self.headers["Content-Length"])))
        elif (match := _ROUTE.fullmatch(path)) is None:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif match["api"]:
            self._api(match["rest"])
        else:
            revision, _, name = match["rest"].removeprefix("resolve/").partition("/")
            self._file(method, revision, name)

    def _api(self, path: str) -> None:
        what, _, revision = path.partition("/")
        commit = self.server.commits.get(revision)
        if commit is None:
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if what == "revision":
            if revision == "main" and self.server.moves:
                self.server.commits["main"] = self.server.moves.pop(0)
            return self._json({"id": "org/set", "sha": commit})
        if parse_qs(urlsplit(self.path).query).get("recursive") != ["true"]:
            return self._answer(400, b"", {})
        entries: list[dict[str, object]] = [{"type": "directory", "path": "data", "oid": "0" * 40, "size": 0}]
        for name, data in self.server.files_of(revision).items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": blob}
            if len(data) >= LARGE:
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        return self._json(entries)

    def _file(self, method: str, revision: str, name: str) -> None:
        server, data = self.server, self.server.files_of(revision).get(name)
        if data is None or revision not in server.commits:
            code = "EntryNotFound" if data is None else "RevisionNotFound"
            return self._answer(404, b"", {"X-Error-Code": code})
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {"ETag": etag, "X-Repo-Commit": server.commits[revision], "Accept-Ranges": "bytes"}
        what = server.plan.pop(0) if server.plan and method == "GET" else "well"
        if what.isdigit():
            return self._answer(int(what), b"", {})
        asked, status, start, end = self.headers.get("Range"), 200, 0, len(data)
        if asked and what != "no ranges":
            first, last = asked.removeprefix("bytes=").split("-")
            start, end, status = int(first), min(int(last or len(data) - 1) + 1, len(data)), 206
            shift = 1 if what == "shift" else 0
            headers["Content-Range"] = f"bytes {start + shift}-{end - 1}/{len(data)}"
        body = data[start:end]
        if what == "altered":
            body = bytes([body[0] ^ 1]) + body[1:]
        headers["Content-Length"] = str(len(body))
        if what == "drop":
            body, self.close_connection = body[: len(body) // 2], True
        return self._answer(status, b"" if method == "HEAD" else body, headers)

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running_hub() -> Iterator[HubServer]:
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
