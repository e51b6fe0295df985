"""A web site on loopback that behaves as it is told, and parsers that stand in for extraction."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from tilth.core.config import parse
from tilth.data.document import Outcome
from tilth.data.sources import Listing, SourceConfig, list_inputs
from tilth.data.sources.content import on_disk
from tilth.data.sources.inputs import Input
from tilth.data.sources.intake import Intake
from tilth.data.sources.web.documents import read_warc

CONTACT = "someone@example.org"

Page = tuple[int, dict[str, str], bytes] | Callable[["Handler"], None]


class Site(ThreadingHTTPServer):
    """Serves `pages` (path -> (status, headers, body), or a function that answers); `seen` is what was asked for."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.pages: dict[str, Page] = {"/robots.txt": (404, {}, b"")}
        self.seen: list[str] = []
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def html(self, path: str, body: str, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = 200, {"Content-Type": "text/html", **named}, body.encode()

    def asked(self, path: str) -> int:
        return self.seen.count(path)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that leave are what some tests are about


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.server
        site.seen.append(self.path)
        site.times.append(time.monotonic())
        site.headers.append(dict(self.headers))
        self.close_connection = True
        page = site.pages.get(self.path, (404, {"Content-Type": "text/html"}, b"<p>nothing here</p>"))
        if callable(page):
            page(self)
        else:
            self.answer(*page)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving(site: Site) -> Iterator[Site]:
    thread = threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join()


def big_site(site: Site) -> None:
    """Sixty pages that link to one another at random, reachable from one another."""
    draw = random.Random(0)
    count = 60
    for number in range(count):
        targets = [*draw.sample(range(count), 5), (number + 1) % count]
        site.html(f"/{number}", f"<p>{number}" + "".join(f'<a href="/{target}">x</a>' for target in targets))
    site.html("/", '<a href="/0">x</a>')
    site.pages["/7"] = 302, {"Location": "/9"}, b""


class Found(NamedTuple):
    text: str | None
    title: str | None = None
    date: str | None = None
    license: str | None = None
    faults: tuple[tuple[str, str, str], ...] = ()


class PlainParser:
    """Takes tags out; a page with `broken` in it has no text. For tests of what calls a parser, not of parsers."""

    opened: list[str] = []

    def extract(self, raw: bytes, locator: str, *, charset: str | None = None) -> Found:
        text = raw.decode(charset or "utf-8", "replace")
        if "broken" in text:
            return Found(None, faults=(("odd", "", f"{locator}: odd"), ("broken", "", f"{locator}: broken")))
        title = re.search(r"<title>(.*?)</title>", text)
        return Found(re.sub(r"<title>.*?</title>|<[^>]*>", "", text), title[1] if title else None)


def plain_parser_of(kind: str) -> PlainParser:
    PlainParser.opened.append(kind)
    return PlainParser()


def read_documents(item: Input) -> list[Outcome]:
    """What a WARC file on disk gives, with these parsers."""
    intake = Intake(item, SourceConfig(path="x"))
    with on_disk(item).whole() as file:
        return [*read_warc(intake, file, plain_parser_of), *intake.rest()]


def vanish(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")


def silent(handler: Handler) -> None:
    """Closes without a word."""


def source(site: Site, **options: Any) -> SourceConfig:
    given = {"start": [site.url], "contact": CONTACT, "delay": 0.0, "allow_private": True, "timeout": 2.0, **options}
    return parse(SourceConfig, {"name": "web", "crawl": {k: v for k, v in given.items() if v is not None}})


def crawled(site: Site, folder: Path, **options: Any) -> Listing:
    return list_inputs(source(site, **options), folder, folder / "downloads")


def fates(listing: Listing, site: Site) -> dict[str, str]:
    """`{path or address: "rule value"}` of every URL."""
    found = {}
    for verdict in listing.skipped:
        assert verdict.stage == "fetch"
        url = re.split(r": |$", verdict.detail.removeprefix(site.url))[0]
        found[url] = f"{verdict.rule} {verdict.value}".strip()
    assert len(found) == len(listing.skipped)
    return found
