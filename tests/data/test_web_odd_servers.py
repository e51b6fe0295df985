"""The crawler against servers that are odd, page after page, and against hosts that go away for good."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.data.web_site import Handler, Page, Site, crawled, fates, serving, silent, vanish
from tilth.core.errors import DataError
from tilth.core.progress import Board
from tilth.data.sources.retry import retry_after
from tilth.data.sources.web import courier, crawl, frontier
from tilth.data.sources.web.config import CrawlConfig
from tilth.data.sources.web.exchange import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "BACKOFF", 0.01)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as started:
        yield started


@pytest.mark.parametrize(("odd", "rule"), [(vanish, "broken_off"), (silent, "unreachable")])
def test_odd_pages_in_a_row_are_no_network_that_is_gone(site: Site, tmp_path: Path, odd: Page, rule: str) -> None:
    names = [f"/{number}" for number in range(8)]
    site.html("/", "".join(f'<a href="{name}">x</a>' for name in names))
    site.pages.update(dict.fromkeys(names[:6], odd))
    site.html("/6", "six")
    site.html("/7", "seven")
    assert fates(crawled(site, tmp_path), site) == {
        "/": "fetched 200",
        **dict.fromkeys(names[:6], rule),
        "/6": "fetched 200",
        "/7": "fetched 200",
    }


def many_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n<p>x</p>")


def one_long_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n<p>x</p>")


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff garbage\r\n\r\n")


def test_an_answer_that_is_none_is_not_called_unreachable(site: Site, tmp_path: Path) -> None:
    odd = {"/many": many_headers, "/long": one_long_header, "/garbage": garbage}
    site.html("/", "".join(f'<a href="{name}">x</a>' for name in odd))
    site.pages.update(odd)
    listing = crawled(site, tmp_path)
    assert fates(listing, site) == {"/": "fetched 200", **dict.fromkeys(odd, "bad_response")}
    assert [site.asked(name) for name in odd] == [1, 1, 1]  # it would be no other the next time
    said = " ".join(verdict.detail for verdict in listing.skipped)
    assert "more than 100 headers" in said and "garbage" in said and "more than 65536 bytes" in said


EARLY = {
    "/hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nContent-Length: 3\r\n\r\n",
    "/all": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 103\r\nX: y\r\n\r\nHTTP/1.1 100 x\r\n\r\n",
    "/switched": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    "/endless": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
}


def behind(early: bytes) -> Page:
    def answer(handler: Handler) -> None:
        handler.wfile.write(early)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 8\r\n\r\n<p>x</p>")

    return answer


def test_what_is_sent_before_an_answer_is_none(site: Site, tmp_path: Path) -> None:
    site.html("/", "".join(f'<a href="{name}">x</a>' for name in EARLY))
    site.pages.update({name: behind(early) for name, early in EARLY.items()})
    assert fates(crawled(site, tmp_path), site) == {
        "/": "fetched 200",
        "/hints": "fetched 200",
        "/all": "fetched 200",
        "/switched": "status 101",
        "/endless": "status 103",
    }
    assert [site.asked(name) for name in EARLY] == [1, 1, 1, 1]


HEADS = {
    "/status": b"HTTP/1.1 20",
    "/line": b"HTTP/1.1 200 OK\r\nContent-Le",
    "/blank": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n",
    "/moved": b"HTTP/1.1 302 Found\r\nLocation: /o",
    "/hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a",
    "/hinted": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Le",
}


def breaks_off(head: bytes) -> Page:
    def answer(handler: Handler) -> None:
        handler.wfile.write(head)

    return answer


def test_a_head_that_breaks_off_is_no_answer_and_asked_for_again(site: Site, tmp_path: Path) -> None:
    site.html("/", "".join(f'<a href="{name}">x</a>' for name in HEADS))
    for name, head in HEADS.items():
        site.pages[name] = breaks_off(head)
    assert fates(crawled(site, tmp_path), site) == {"/": "fetched 200", **dict.fromkeys(HEADS, "broken_off")}
    assert [site.asked(name) for name in [*HEADS, "/o"]] == [*[courier.ATTEMPTS] * len(HEADS), 0]


def trickling_head(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(40):
        handler.wfile.write(b"X")
        time.sleep(0.05)


def announced_trickle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b"<p>x</p>")
        time.sleep(0.05)


@pytest.mark.parametrize("trickle", [announced_trickle, trickling_head])
def test_a_page_that_trickles_is_late_and_asked_for_once(site: Site, tmp_path: Path, trickle: Page) -> None:
    site.html("/", '<a href="/slow">x</a>')
    site.pages["/slow"] = trickle
    assert fates(crawled(site, tmp_path, deadline=0.3), site)["/slow"] == "timed_out 0.3"
    assert site.asked("/slow") == 1


NO_DATES = [
    "Mon, 01 Jan 9999999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2024 00:00:00 +99999999999",
    "Mon, 99 Jan 2024 00:00:00 GMT",
    "soon",
    "-1",
    "nan",
    "1e400",
    "\u0661",
    "",
]


@pytest.mark.parametrize("value", NO_DATES)
def test_what_is_no_time_to_wait_is_none(value: str) -> None:
    assert retry_after(value) is None


def test_a_time_to_wait_is_a_number_or_a_date() -> None:
    assert [retry_after(value) for value in ("0", " 25 ", "1.5")] == [0, 25, 1.5]
    assert 1e11 < (retry_after("9" * 5000) or 0) < math.inf
    assert retry_after("Mon, 01 Jan 2024 00:00:00 GMT") == 0
    assert 8 < (retry_after(formatdate(time.time() + 10, usegmt=True)) or 0) <= 10


def test_a_server_that_names_no_date_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.html("/", '<a href="/busy">x</a>')
    site.pages["/busy"] = 429, {"Retry-After": NO_DATES[0]}, b""
    assert fates(crawled(site, tmp_path), site)["/busy"] == "status 429"
    assert site.asked("/busy") == courier.ATTEMPTS


def test_links_that_keep_a_pattern_busy_without_end_are_left_out(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontier, "URL_SECONDS", 0.05)
    baits = [f"/{'a' * 40}{number}?x=1" for number in range(3)]
    links = "".join(f'<a href="{name}">x</a>' for name in ("/a.html", *baits, "/b.html", "/moved.html"))
    site.html("/", links)
    site.html("/a.html", "a")
    site.html("/b.html", "b")
    site.pages["/moved.html"] = 302, {"Location": f"/{'b' * 40}?x=1"}, b""
    options = {"include": [r"/(\w|\w\w)+\.html$"]}
    with monkeypatch.context() as killed:
        killed.setattr(crawl, "write_fates", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            crawled(site, tmp_path, **options)
    monkeypatch.setattr(frontier, "URL_SECONDS", 0.0)  # the journal knows: nothing is judged twice
    late = "pattern_timeout 0"
    assert fates(crawled(site, tmp_path, **options), site) == {
        "/": "fetched 200",
        "/a.html": "fetched 200",
        **dict.fromkeys(baits, late),
        "/b.html": "fetched 200",
        "/moved.html": "redirected 302",
        f"/{'b' * 40}?x=1": late,
    }
    assert len(site.seen) == 5


def test_a_page_of_such_links_has_its_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "URL_SECONDS", 0.05)
    monkeypatch.setattr(frontier, "PAGE_SECONDS", 0.2)
    config = CrawlConfig(start=["http://h/"], contact="a@b.org", exclude=[r"/(\w|\w\w)+\.html$"])
    baits = [f"http://h/{'a' * 40}{number}?x=1" for number in range(500)]
    began = time.process_time()
    assert frontier.Frontier(config, []).slow_ones(["http://h/first", *baits]) == baits
    assert time.process_time() - began < 1


def test_one_host_that_is_gone_costs_its_own_pages_only(site: Site, tmp_path: Path) -> None:
    with serving(Site()) as gone:
        gone.html("/", "".join(f'<a href="/{number}">x</a>' for number in range(6)) + f'<a href="{site.url}/">x</a>')
        gone.pages.update({f"/{number}": lambda handler: gone.server_close() for number in range(6)})
        site.html("/", "other")
        site.html("/named", "so that it may be private")
        found = fates(crawled(gone, tmp_path, depth=2, start=[gone.url, f"{site.url}/named"]), gone)
    assert found == {
        "/": "fetched 200",
        f"{site.url}/named": "fetched 200",
        **{f"/{number}": "unreachable" for number in range(6)},
        f"{site.url}/": "fetched 200",
    }


def test_a_delay_that_is_not_waited_for_holds_up_no_other_port(site: Site, tmp_path: Path) -> None:
    site.html("/", "waits for nobody")
    with serving(Site()) as slow:
        slow.pages["/robots.txt"] = 200, {}, b"User-agent: *\nCrawl-delay: 301\n"
        began = time.monotonic()
        found = fates(crawled(site, tmp_path, start=[slow.url, site.url]), site)
    assert found == {"/": "fetched 200", f"{slow.url}/": "crawl_delay 301"} and time.monotonic() - began < 10


def test_a_long_wait_for_a_host_is_told(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_TOLD_FROM", 0.5)
    board, told = Board(), list[str]()

    def waited(moment: float) -> None:
        told.append(board.meters[0].trouble)
        wait_until(moment)

    monkeypatch.setattr(courier, "wait_until", waited)
    site.pages["/robots.txt"] = 200, {}, b"User-agent: *\nCrawl-delay: 1\n"
    site.html("/", '<a href="/a">a</a>')
    site.html("/a", "a")
    with board.watching(tmp_path / "work"):
        crawled(site, tmp_path)
    assert told == ["", "", "waiting 1 s for 127.0.0.1"] and not board.meters[0].trouble


@pytest.mark.parametrize(
    ("page", "options", "remedy"),
    [
        ((200, {"Content-Type": "application/pdf"}, b"%PDF"), {}, "to have it, add application/pdf to crawl.types"),
        ((200, {"Content-Type": "text/html"}, b"x" * 99), {"max_page_bytes": 9}, "raise crawl.max_page_bytes (now 9)"),
        ((302, {"Location": "/moved"}, b""), {}, "check crawl.start in a browser"),
        ((500, {}, b""), {}, "type the same command later"),
    ],
)
def test_a_crawl_without_a_page_says_what_to_do_about_its_first_address(
    site: Site, tmp_path: Path, page: Page, options: dict[str, Any], remedy: str
) -> None:
    site.pages["/"] = page
    with pytest.raises(DataError, match="brought no page") as caught:
        crawled(site, tmp_path, **options)
    assert caught.value.remedy == remedy


def test_where_a_second_visit_brings_no_page_the_first_is_named(site: Site, tmp_path: Path) -> None:
    site.html("/", "home")
    crawled(site, tmp_path)
    site.pages["/"] = 404, {}, b""
    with pytest.raises(DataError) as caught:
        crawled(site, tmp_path, recrawl=2)
    assert caught.value.remedy == "check crawl.start in a browser; `recrawl: 0` uses the pages that are there"
