"""The crawler killed, on a disk that fails at every operation, and over TLS."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.web_site import Site, big_site, read_documents, serving
from tilth.core import files
from tilth.core.errors import StorageError
from tilth.data.sources.inputs import Input
from tilth.data.sources.web import courier, exchange
from tilth.data.sources.web.config import CrawlConfig
from tilth.data.sources.web.crawl import crawl

OPERATIONS = (
    "write",
    "append",
    "truncate",
    "make_folder",
    "rename",
    "replace",
    "sync_file",
    "sync_files",
    "sync_folder",
    "remove",
)


class FailingDisk:
    """A disk that is full at its k-th operation; an append has then put half of its bytes down."""

    def __init__(self, at: int) -> None:
        self.left, self.real = at, files.Disk()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.real, name)
        if name not in OPERATIONS:
            return operation

        def counted(*arguments: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if name == "append":
                    operation(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return operation(*arguments, **more)

        return counted


def use(disk: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("core.files", *(f"data.sources.web.{name}" for name in ("crawl", "archive", "journal"))):
        monkeypatch.setattr(f"tilth.{module}.disk", disk)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as started:
        started.html("/", '<a href="/a">a</a><a href="/b">b</a>')
        started.html("/a", "<p>page a")
        started.pages["/b"] = 302, {"Location": "/a"}, b""
        yield started


def run(site: Site, folder: Path) -> list[tuple[str, str]]:
    config = CrawlConfig(start=[f"{site.url}/"], contact="a@b.org", delay=0.0, allow_private=True)
    final = crawl(config, Path(), folder)
    names = sorted(path.name for path in final.glob("pages-*"))
    texts = []
    for name in names:
        path = final / name
        item = Input("s", "warc", path, name, path.stat().st_size, files.hash_file(path))
        outcomes = read_documents(item)
        texts += [(one.document.locator, one.document.text) for one in outcomes if one.document]
    return texts


@pytest.mark.slow
def test_a_disk_that_fails_at_any_operation_costs_no_page(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(site, tmp_path / "whole")
    assert len(expected) == 2
    once = sorted(site.seen)
    operation, failed = 0, True
    while failed:
        operation += 1
        folder = tmp_path / "failing"
        site.seen.clear()
        with monkeypatch.context() as patch:
            use(FailingDisk(operation), patch)
            try:
                run(site, folder)
                failed = False
            except StorageError:
                pass
        assert run(site, folder) == expected, operation
        assert sorted(set(site.seen)) == once and len(site.seen) <= len(once) + 1, operation
        assert not list(folder.glob("*.work")) and not list(folder.glob(".*.tmp")), operation
        shutil.rmtree(folder)
    assert operation > 25


CHILD = """
    import sys
    from pathlib import Path
    from tilth.data.sources.web.config import CrawlConfig
    from tilth.data.sources.web.crawl import crawl
    config = CrawlConfig(start=[sys.argv[1]], contact="a@b.org", delay=0.01, depth=99, max_pages=50, allow_private=True)
    crawl(config, Path(), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_pages(tmp_path: Path) -> None:
    with serving(Site()) as site:
        check_kills(site, tmp_path)


def check_kills(site: Site, tmp_path: Path) -> None:
    big_site(site)
    command = [sys.executable, "-c", textwrap.dedent(CHILD), site.url]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=os.environ)
    expected = sorted(site.seen)
    assert len(set(expected)) == len(expected)
    site.seen.clear()
    kills = 0
    draw = random.Random(1)
    while True:
        child = subprocess.Popen([*command, str(tmp_path / "killed")], env=os.environ)
        seen, until = len(site.seen), draw.randrange(4, 25)
        while child.poll() is None and len(site.seen) - seen < until:
            time.sleep(0.002)
        if child.poll() is not None:
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    assert child.returncode == 0 and kills >= 3
    assert sorted(set(site.seen)) == expected
    assert len(site.seen) - len(expected) <= kills  # what was under way at a kill
    whole, killed = (next((tmp_path / name).glob("crawl-*-0")) for name in ("whole", "killed"))

    def rows(folder: Path) -> list[Any]:
        lines = map(json.loads, (folder / "fates.jsonl").read_text().splitlines())
        return [(row["url"], row["rule"], row["value"], row["detail"]) for row in lines]

    assert rows(whole) == rows(killed) and len(rows(whole)) > 55
    assert [path.name for path in (tmp_path / "killed").iterdir() if path.name != ".lock"] == [killed.name]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_over_tls_the_certificate_is_looked_at_and_stalls_are_ended(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "BACKOFF", 0.01)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files_of = ["-keyout", str(key), "-out", str(certificate), "-days", "30"]
    subprocess.run([*command, *files_of, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(Site()) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        secure.html("/", "<p>over TLS")
        url = f"https://localhost:{secure.server_address[1]}/"
        limits = exchange.Limits(2, 2, 1000)
        with pytest.raises(exchange.Fault, match="its certificate is not trusted"):
            exchange.exchange(url, {}, limits, allow_private=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert exchange.exchange(url, {}, limits, allow_private=True).body == b"<p>over TLS"
        with pytest.raises(exchange.Fault, match="certificate is not trusted"):  # the name counts, not the address
            exchange.exchange(url.replace("localhost", "127.0.0.1"), {}, limits, allow_private=True)
    plain = f"https://localhost:{site.server_address[1]}/"  # a server that speaks no TLS
    with pytest.raises(exchange.Fault) as caught:
        exchange.exchange(plain, {}, exchange.Limits(0.5, 0.5, 1000), allow_private=True)
    assert caught.value.rule in ("unreachable", "timed_out")


def test_a_handshake_that_trickles_is_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x20\x00")  # the head of a TLS record of 8,192 bytes
                for _ in range(200):
                    connection.sendall(b"\x02")
                    time.sleep(0.05)

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(exchange.Fault) as caught:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            exchange.exchange(url, {}, exchange.Limits(5, 0.6, 1000), allow_private=True)
        assert caught.value.rule == "timed_out" and 0.5 < time.monotonic() - began < 8
        thread.join(5)
