"""Downloads, against a real server that does what real servers do: drop, lie, refuse, and change their mind."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import socketserver
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError, StorageError
from tilth.core.files import FolderLock, disk
from tilth.core.progress import Board
from tilth.data.sources import SourceConfig, list_inputs, read_input, url

pytestmark = pytest.mark.slow

BODY = b"".join(b"line %d of a file worth having\n" % i for i in range(60_000))
SHA = hashlib.sha256(BODY).hexdigest()
HALF = len(BODY) // 2


class Server(ThreadingHTTPServer):
    """Serves `body`; each entry of `plan` says what happens to one request, and then all goes well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.ranges = BODY, '"v1"', True
        self.plan: list[str] = []
        self.seen: list[tuple[str, str | None, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # dropped connections are what these tests are about


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append((self.path, asked, self.headers.get("If-Range")))
        self.close_connection = True
        what = server.plan.pop(0) if server.plan else "well"
        if what.isdigit():
            return self._answer(int(what), b"", {"Content-Length": "0"})
        if what.startswith("busy "):
            return self._answer(429, b"", {"Retry-After": what[5:], "Content-Length": "0"})
        if what.startswith("to "):
            return self._answer(302, b"", {"Location": what[3:], "Content-Length": "0"})
        start, status, headers = 0, 200, {"ETag": server.etag}
        same = self.headers.get("If-Range") in (None, server.etag)
        if asked and server.ranges and same:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(server.body):
                return self._answer(416, b"", {"Content-Range": f"bytes */{len(server.body)}", "Content-Length": "0"})
            shifted = start + 1 if what == "shift" else start
            headers["Content-Range"] = f"bytes {shifted}-{len(server.body) - 1}/{len(server.body)}"
        part = server.body[start:]
        headers["Content-Length"] = str(len(part))
        if what == "drop":
            part = part[: len(part) // 2]
        if what == "trickle":
            return self._trickle(part, status, headers)
        if what == "unsaid":
            del headers["Content-Length"]
        if what == "nothing":
            part = b""
        if what == "more":  # announces less than the file has
            headers["Content-Length"] = str(len(part) // 3)
        return self._answer(status, part, headers)

    def _trickle(self, part: bytes, status: int, headers: dict[str, str]) -> None:
        self._answer(status, b"", headers)
        with contextlib.suppress(OSError):  # the other side has gone
            for place in range(200):
                self.wfile.write(part[place : place + 1])
                self.wfile.flush()
                time.sleep(0.005)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(url, "BACKOFF", 0.001)
    monkeypatch.setattr(url, "TIMEOUT", 5.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, sha256: str = SHA) -> Path:
    return url.fetch(f"{server.address}/data/corpus.txt", sha256, folder)


def test_a_file_comes_whole_and_only_once(server: Server, tmp_path: Path) -> None:
    path = fetch(server, tmp_path / "downloads")
    assert path.read_bytes() == BODY
    assert path.name == f"{SHA[:16]}-corpus.txt"
    assert fetch(server, tmp_path / "downloads") == path
    assert len(server.seen) == 1  # the second time nothing was asked
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", path.name]


def test_a_damaged_download_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = fetch(server, tmp_path)
    path.write_bytes(BODY[:-1] + b"?")
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.seen) == 2


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(server: Server, tmp_path: Path) -> None:
    server.plan = ["drop", "busy 1", "busy soon"]
    began = time.monotonic()
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert time.monotonic() - began >= 1 and len(server.seen) == 4


def test_too_long_a_wait_ends_the_download_and_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.plan = ["drop", "busy 121"]
    with pytest.raises(DataError, match=rf"429 .*asks to wait 121 seconds \(more than 120; {HALF} bytes are here"):
        fetch(server, tmp_path)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.seen) == 3 and server.seen[2][1] == f"bytes={HALF}-"


def test_dropped_connections_are_resumed_where_they_broke(server: Server, tmp_path: Path) -> None:
    server.plan = ["drop", "drop", "503", "drop"]
    assert fetch(server, tmp_path).read_bytes() == BODY
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0 for _, asked, _ in server.seen]
    assert starts[0] == 0 and starts[1] == HALF
    assert starts == sorted(starts) and len(starts) == 5
    assert {if_range for _, _, if_range in server.seen[1:]} == {'"v1"'}


class Killed(BaseException):
    """As final as a signal: nothing may catch it."""


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_kill_costs_no_more_than_what_was_under_way(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    appended: list[int] = []
    append = disk.append

    def dying(path: Path, data: bytes) -> None:
        append(path, data)
        appended.append(len(data))
        if data and sum(map(bool, appended)) == pieces:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(url, "_PIECE", 4096)
        patch.setattr(disk, "append", dying)
        with pytest.raises(Killed):
            fetch(server, tmp_path)
    assert not (tmp_path / f"{SHA[:16]}-corpus.txt").exists()
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.seen[1][1:] == (f"bytes={sum(appended)}-", '"v1"')


def part_of(folder: Path, data: bytes, etag: str | None = None) -> None:
    part = folder / f"{SHA[:16]}-corpus.txt.part"
    part.write_bytes(data)
    if etag:
        part.with_name(f"{part.name}.json").write_text(json.dumps({"if_range": etag}))


def test_another_version_on_the_server_starts_over(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path, b"old" * 1000, etag='"v0"')
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.seen) == 1  # If-Range: the server sent the whole file at once


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.plan = ["drop"]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.seen[1][1] == f"bytes={HALF}-"


def test_a_part_that_does_not_fit_starts_over(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path, b"wrong" + BODY[5:HALF])
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert [asked for _, asked, _ in server.seen] == [f"bytes={HALF}-", None]


@pytest.mark.parametrize(("data", "requests"), [(BODY, 1), (BODY + b"more", 2), (b"x" * len(BODY), 2)])
def test_a_part_as_long_as_the_file_or_longer(server: Server, tmp_path: Path, data: bytes, requests: int) -> None:
    part_of(tmp_path, data)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.seen) == requests


def test_another_range_than_was_asked_for_is_not_glued_on(server: Server, tmp_path: Path) -> None:
    server.plan = ["drop", "shift"]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.seen[2][1] is None


def test_a_wrong_hash_is_refused_and_the_file_set_aside(server: Server, tmp_path: Path) -> None:
    server.body = BODY + b"!"
    got = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(DataError, match=f"expected SHA-256 {SHA}, got {got}") as caught:
        fetch(server, tmp_path)
    aside = tmp_path / f"{SHA[:16]}-corpus.txt.wrong"
    assert aside.read_bytes() == server.body and str(aside) in caught.value.remedy
    assert not list(tmp_path.glob("*.part*"))
    server.body = BODY
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_a_length_that_is_a_lie_never_passes_for_the_file(server: Server, tmp_path: Path) -> None:
    server.plan = ["more", "more"]
    with pytest.raises(DataError, match="is not the file that the recipe means"):
        fetch(server, tmp_path)


def test_a_server_that_sends_nothing_ends_in_a_clear_error(server: Server, tmp_path: Path) -> None:
    server.plan = ["drop"] + ["nothing"] * 50
    with pytest.raises(DataError, match=rf"announced {len(BODY)} bytes, and {HALF} came .*after 6 attempts") as caught:
        fetch(server, tmp_path)
    assert "goes on" in caught.value.remedy
    server.plan = []
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.seen[-1][1] == f"bytes={HALF}-"  # and so it does


@pytest.mark.parametrize("status", ["404", "403", "410"])
def test_a_refusal_is_not_repeated(server: Server, tmp_path: Path, status: str) -> None:
    server.plan = [status] * 3
    with pytest.raises(DataError, match=f"the server answers {status}"):
        fetch(server, tmp_path)
    assert len(server.seen) == 1


def test_a_server_that_is_not_there(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_address[1]
    with pytest.raises(DataError, match=r"cannot download .*refused"):
        url.fetch(f"http://127.0.0.1:{port}/a.txt", SHA, tmp_path)


def test_redirects_are_followed_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    server.plan = ["to /other", "to /third"]
    assert fetch(server, tmp_path / "a").read_bytes() == BODY
    server.plan = ["to /data/corpus.txt"] * 20
    with pytest.raises(DataError, match="302"):
        fetch(server, tmp_path / "b")
    assert len(server.seen) < 12


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.txt"])
def test_redirects_stay_on_http(server: Server, tmp_path: Path, target: str) -> None:
    server.plan = [f"to {target}"]
    with pytest.raises(DataError, match=r"(?i)redirect"):
        fetch(server, tmp_path)


def test_a_redirect_to_what_is_no_address(server: Server, tmp_path: Path) -> None:
    server.plan = ["to http://[bad"]
    with pytest.raises(DataError, match="it redirects to what is no address"):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.1.2.3", "2130706433"]
)
def test_a_redirect_may_not_lead_into_the_private_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    resolve = url._addresses
    public = [ipaddress.ip_address("93.184.215.14")]
    monkeypatch.setattr(url, "_addresses", lambda name: public if name == "localhost" else resolve(name))
    server.plan = ["to /other", f"to http://{host}:{server.server_address[1]}/secret"]
    with pytest.raises(DataError, match="this machine or its private network"):
        url.fetch(f"http://localhost:{server.server_address[1]}/data/corpus.txt", SHA, tmp_path)
    assert [path for path, _, _ in server.seen] == ["/data/corpus.txt", "/other"]


def test_a_private_address_that_the_recipe_names_may_lead_to_another(server: Server, tmp_path: Path) -> None:
    server.plan = [f"to http://localhost:{server.server_address[1]}/other"]
    assert fetch(server, tmp_path).read_bytes() == BODY


def free(monkeypatch: pytest.MonkeyPatch, *figures: int) -> None:
    """The disk's free bytes as they are asked for, one time after the other."""
    left = list(figures)
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(url.shutil, "disk_usage", lambda _: usage(left.pop(0) if len(left) > 1 else left[0]))


def test_a_file_that_the_disk_has_no_room_for_is_refused_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        free(patch, url.RESERVE + len(BODY) - 1)
        with pytest.raises(StorageError, match=f"no room for .*: {len(BODY):,} bytes more"):
            fetch(server, tmp_path)
    assert len(server.seen) == 1 and part_size(tmp_path) == 0
    with monkeypatch.context() as patch:
        free(patch, url.RESERVE + len(BODY))
        assert fetch(server, tmp_path).read_bytes() == BODY


def part_size(folder: Path) -> int:
    return (folder / f"{SHA[:16]}-corpus.txt.part").stat().st_size


def test_what_comes_of_an_unknown_length_leaves_the_reserve(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan = ["unsaid", "unsaid"]
    with monkeypatch.context() as patch:
        patch.setattr(url, "_PIECE", 4096)
        free(patch, *([url.RESERVE + 4096] * 3), url.RESERVE)
        with pytest.raises(StorageError, match="no room for"):
            fetch(server, tmp_path)
    assert 0 < part_size(tmp_path) <= 3 * 4096
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_a_trickle_is_no_download(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url, "WATCHED", 0.05)
    monkeypatch.setattr(url, "LEAST_RATE", 100_000)
    server.plan = ["trickle"] * 50
    with pytest.raises(DataError, match=r"only \d+ bytes came in .*after 6 attempts"):
        fetch(server, tmp_path)
    assert len(server.seen) == 6, "the bytes that came now and then were no progress"
    server.plan = ["trickle", "trickle"]
    assert fetch(server, tmp_path).read_bytes() == BODY, "two slow attempts do not end it"


def test_two_processes_do_not_write_one_file(server: Server, tmp_path: Path) -> None:
    with FolderLock(tmp_path, "the download folder"), pytest.raises(StorageError, match="in use by process"):
        fetch(server, tmp_path)


def test_the_disk_s_errors_are_not_the_network_s(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "append", full)
    with pytest.raises(StorageError, match="the disk is full"):
        fetch(server, tmp_path)
    assert len(server.seen) == 1


def test_a_source_by_url(server: Server, tmp_path: Path) -> None:
    config = parse(SourceConfig, {"url": f"{server.address}/data/corpus.txt?v=1", "sha256": SHA, "document": "line"})
    (item,) = list_inputs(config, tmp_path, tmp_path / "downloads")
    outcomes = list(read_input(item, config))
    assert len(outcomes) == 60_000
    assert outcomes[6].document is not None
    assert outcomes[6].document.locator == f"{server.address}/data/corpus.txt?v=1:7"
    unknown = parse(SourceConfig, {"url": f"{server.address}/corpus", "sha256": SHA})
    with pytest.raises(DataError, match="suffix"):
        list_inputs(unknown, tmp_path, tmp_path / "downloads")
    assert len(server.seen) == 1


def test_a_download_counts_what_comes_and_what_was_here_before(server: Server, tmp_path: Path) -> None:
    board = Board()
    with board.watching(tmp_path / "work"):
        server.plan = ["drop", "404"]
        with pytest.raises(DataError):
            url.fetch(f"{server.address}/a.txt", SHA, tmp_path)
        server.ranges = True
        url.fetch(f"{server.address}/a.txt", SHA, tmp_path)
        url.fetch(f"{server.address}/a.txt", SHA, tmp_path)  # it is here: nothing is measured
    first, second = board.meters
    assert (first.done, first.before, first.total) == (HALF, 0, len(BODY))
    assert (second.done, second.before, second.total) == (len(BODY), HALF, len(BODY))


def test_a_download_that_begins_anew_does_not_count_twice(server: Server, tmp_path: Path) -> None:
    board = Board()
    server.plan, server.ranges = ["drop"], False
    with board.watching(tmp_path / "work"):
        url.fetch(f"{server.address}/a.txt", SHA, tmp_path)
    [meter] = board.meters
    assert (meter.done, meter.total) == (len(BODY), len(BODY)) and meter.ended is not None
