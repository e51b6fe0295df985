"""Downloads from servers that never come to the end of a head, of a TLS handshake, or of a redirect's body."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tilth.core.errors import DataError
from tilth.data.sources import clocked, url

pytestmark = pytest.mark.slow

BODY = b"a file worth having\n" * 30
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY)
ENDLESS = {
    "head": b"HTTP/1.1 200 OK\r\nX-A: ",
    "status": b"",
    "continue": b"HTTP/1.1 100 Continue\r\nX-A: ",
    "handshake": b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc",  # a ServerHello of 16 KiB
}


class Trickler:
    """Sends `first`, then a byte now and then, `rest` before more of the same; `asked` counts connections."""

    def __init__(self, first: bytes, rest: bytes | None = None) -> None:
        self._first, self._rest, self.asked = first, rest, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listening.accept()
                self.asked += 1
                self._threads.append(threading.Thread(target=self._answer, args=(connected,)))
                self._threads[-1].start()

    def _answer(self, connected: socket.socket) -> None:
        with connected, contextlib.suppress(OSError):
            connected.recv(65536)
            connected.sendall(self._first)
            for byte in self._rest or b"a" * 10_000:
                connected.sendall(bytes([byte]))
                time.sleep(0.002)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(clocked, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(url, "BACKOFF", 0.001)
    monkeypatch.setattr(url, "ATTEMPTS", 2)
    yield


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("what", ENDLESS)
def test_what_comes_before_a_body_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(clocked, "HEAD_SECONDS", 0.1)
    with contextlib.closing(Trickler(ENDLESS[what])) as server:
        scheme = "https" if what == "handshake" else "http"
        with pytest.raises(
            DataError, match=r"the head of its answer is not whole after 0.1 seconds \(after 2 attempts"
        ):
            url.fetch(f"{scheme}://{server.place}/a.txt", "0" * 64, tmp_path)


@pytest.mark.usefixtures("quick")
def test_the_clock_is_none_of_the_body(tmp_path: Path) -> None:
    with contextlib.closing(Trickler(HEAD, BODY)) as server:
        path = url.fetch(f"http://{server.place}/a.txt", sha256(BODY).hexdigest(), tmp_path)
        assert path.read_bytes() == BODY and server.asked == 1  # more than a second, in one attempt


@pytest.mark.usefixtures("quick")
def test_the_body_of_a_redirect_is_not_waited_for(tmp_path: Path) -> None:
    with contextlib.closing(Trickler(HEAD + BODY, b"\n")) as there:
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://{there.place}/b.txt\r\n\r\n"
        with contextlib.closing(Trickler(moved.encode())) as server:
            path = url.fetch(f"http://{server.place}/a.txt", sha256(BODY).hexdigest(), tmp_path)
            assert path.read_bytes() == BODY and (server.asked, there.asked) == (1, 1)
