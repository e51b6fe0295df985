"""The crawler against a real server that forbids, redirects, stalls, floods and dies."""

from __future__ import annotations

import gzip
import re
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warcio.archiveiterator import ArchiveIterator

from tests.data.web_site import (
    CONTACT,
    Handler,
    Site,
    big_site,
    crawled,
    fates,
    read_documents,
    serving,
    silent,
    vanish,
)
from tilth.core.config import parse
from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.core.progress import Board
from tilth.data.document import Document
from tilth.data.sources import Listing, SourceConfig
from tilth.data.sources.web import archive, courier, exchange, links
from tilth.data.sources.web.config import CrawlConfig
from tilth.data.sources.web.frontier import Frontier

pytestmark = pytest.mark.slow


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as started:
        yield started


@pytest.fixture
def inside() -> Iterator[Site]:
    """At another port of the same host."""
    with serving(Site()) as started:
        yield started


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "BACKOFF", 0.01)


def read(listing: Listing) -> list[Document]:
    outcomes = [one for item in listing for one in read_documents(item)]
    assert all(one.document for one in outcomes)
    return [one.document for one in outcomes if one.document]


def test_every_url_is_explained_and_documents_come_in_the_order_of_urls(site: Site, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = 200, {}, b"User-agent: other\nDisallow: /\n\nUser-agent: tilth\nDisallow: /private/\n"
    site.html(
        "/",
        '<a href="/z">z</a><a href="a#top">a</a><AREA HREF=/private/x><a href="mailto:x@y.z">m</a><a href="/pic">'
        '<a href="http://elsewhere.example/">e</a><a href="/skip/1">s</a><a href="/gone">g</a><a href="/">me</a>',
    )
    site.html("/a", "<p>first page")
    site.html("/z", '<p>last page <a href="/deep">d</a>')
    site.pages["/pic"] = 200, {"Content-Type": "image/png"}, b"\x89PNG"
    listing = crawled(site, tmp_path, depth=1, exclude=["/skip/"])
    assert fates(listing, site) == {
        "/": "fetched 200",
        "/a": "fetched 200",
        "/z": "fetched 200",
        "/deep": "over_depth 2",
        "/gone": "status 404",
        "/pic": "content_type image/png",
        "/private/x": "robots",
        "/skip/1": "excluded /skip/",
        "http://elsewhere.example/": "off_site elsewhere.example",
    }
    assert [v.verdict for v in listing.skipped if v.rule == "fetched"] == ["kept"] * 3
    assert {v.verdict for v in listing.skipped if v.rule != "fetched"} == {"dropped"}
    assert [one.locator for one in read(listing)] == [f"{site.url}/", f"{site.url}/a", f"{site.url}/z"]
    assert [one.text for one in read(listing)][1:] == ["first page", "last page d"]
    assert site.seen[0] == "/robots.txt" and site.asked("/private/x") == 0 and len(set(site.seen)) == len(site.seen)
    assert {headers["User-Agent"] for headers in site.headers} == {f"tilth (+{CONTACT})"}


def test_a_page_without_a_type_is_left_out_and_says_why(site: Site, tmp_path: Path) -> None:
    site.html("/", '<a href="/untyped">u</a>')
    site.pages["/untyped"] = 200, {}, b"<p>what is it"
    [untyped] = [verdict for verdict in crawled(site, tmp_path).skipped if verdict.verdict == "dropped"]
    assert untyped.detail == f"{site.url}/untyped: the server states no type (Content-Type)"


def test_a_finished_crawl_is_read_again_without_the_server(tmp_path: Path) -> None:
    with serving(Site()) as site:
        site.html("/", '<a href="/b">b</a>')
        site.html("/b", "<p>b")
        first = crawled(site, tmp_path)
    assert crawled(site, tmp_path, delay=9.0, contact="https://example.org/bot") == first  # politeness is no identity
    assert len(read(first)) == 2
    (tmp_path / "downloads").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"brought no page: [^ ]*: unreachable: its robots\.txt cannot be had: "):
        crawled(site, tmp_path)
    page = next((tmp_path / "elsewhere").glob("crawl-*/pages-00000.warc.gz"))
    page.write_bytes(page.read_bytes()[:-1] + b"\xff")
    shutil.rmtree(tmp_path / "downloads")
    (tmp_path / "elsewhere").rename(tmp_path / "downloads")
    with pytest.raises(IntegrityError, match="is not what was written"):
        crawled(site, tmp_path)


def test_what_is_kept_is_warc_that_warcio_takes(site: Site, tmp_path: Path) -> None:
    body = gzip.compress(b'<a href="/plain">packed</a>')
    site.pages["/"] = 200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, body
    site.pages["/plain"] = in_chunks
    crawled(site, tmp_path)
    found = []
    for path in sorted((tmp_path / "downloads").glob("crawl-*/*.warc.gz")):
        with path.open("rb") as file:
            for one in ArchiveIterator(file, check_digests="raise"):
                found.append((one.rec_type, one.rec_headers.get_header("WARC-Target-URI"), one.content_stream().read()))
    about = f"{site.url}/plain"
    assert ("response", f"{site.url}/", b'<a href="/plain">packed</a>') in found
    assert ("response", about, b"<p>in chunks") in found
    assert {kind for kind, url, _ in found if url == about} == {"request", "metadata", "response"}


def in_chunks(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"5\r\n<p>in\r\n7\r\n chunks\r\n0\r\n\r\n")


def test_redirects_are_followed_counted_and_looked_at(site: Site, inside: Site, tmp_path: Path) -> None:
    def to(target: str) -> tuple[int, dict[str, str], bytes]:
        return 302, {"Location": target}, b""

    site.pages["/robots.txt"] = 200, {}, b"User-agent: *\nDisallow: /secret\n"
    names = ("/good", "/loop1", "/endless/0", "/to-secret", "/to-private", "/to-file", "/to-other", "/to-port")
    site.html("/", "".join(f'<a href="{name}">x</a>' for name in (*names, f"{inside.url}/link")))
    site.pages["/to-port"] = to(f"{inside.url}/admin")
    site.pages["/good"] = to("/fine")
    site.html("/fine", "fine")
    site.pages["/loop1"], site.pages["/loop2"] = to("/loop2"), to("/loop1")
    for number in range(20):
        site.pages[f"/endless/{number}"] = to(f"/endless/{number + 1}")
    site.pages["/to-secret"] = to("/secret")
    site.pages["/to-private"] = to("http://127.0.0.2:9/admin")
    site.pages["/to-file"] = to("file:///etc/passwd")
    site.pages["/to-other"] = to("http://[::1]:9/")
    found = fates(crawled(site, tmp_path, same_host=False), site)
    assert found["/good"] == found["/loop1"] == found["/loop2"] == "redirected 302" and found["/fine"] == "fetched 200"
    assert found["/endless/4"] == "redirected 302" and found["/endless/5"].startswith("too_many_redirects")
    assert site.asked("/endless/6") == 0
    assert found["/secret"] == "robots" and site.asked("/secret") == 0
    assert found["http://127.0.0.2:9/admin"] == "private_address 127.0.0.2"
    assert found["http://[::1]:9/"] == "private_address ::1"
    assert found["/to-file"] == "bad_redirect file:///etc/passwd"
    assert found["/to-port"] == "redirected 302" and found[f"{inside.url}/admin"] == "private_address 127.0.0.1"
    assert found[f"{inside.url}/link"] == "private_address 127.0.0.1" and inside.seen == []


def test_private_addresses_need_a_word(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r": private_address: 127\.0\.0\.1, .*127\.0\.0\.1, which is no public address"):
        crawled(site, tmp_path, allow_private=False)
    assert site.seen == []
    with pytest.raises(DataError) as raised:
        crawled(site, tmp_path, allow_private=False)
    assert "crawl.allow_private: true" in raised.value.remedy


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:93.184.216.34", True),
        *((one, False) for one in ("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0")),
        *(
            (one, False)
            for one in ("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1")
        ),
        *(
            (one, False)
            for one in ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1")
        ),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert exchange.is_public(address) is public


def test_a_name_with_one_private_address_is_refused_and_the_address_looked_at_is_the_one_used(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [["93.184.216.34", "127.0.0.1"]]

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", (address, port)) for address in answers.pop(0)]

    monkeypatch.setattr(exchange.socket, "getaddrinfo", resolve)
    with pytest.raises(exchange.Fault) as caught:
        exchange.exchange("http://rebinding.example/", {}, exchange.Limits(1, 1, 100))
    assert caught.value.rule == "private_address"
    # The second look-up of a rebinding name would give 127.0.0.1; there must be none.
    monkeypatch.setattr(
        exchange.socket, "create_connection", lambda address, timeout: (_ for _ in ()).throw(OSError(address))
    )
    answers[:] = [["93.184.216.34"], ["127.0.0.1"]]
    with pytest.raises(exchange.Fault, match=r"93\.184\.216\.34"):
        exchange.exchange("http://rebinding.example/", {}, exchange.Limits(1, 1, 100))
    assert answers == [["127.0.0.1"]]


def test_a_busy_server_is_given_the_time_it_asks_for(site: Site, tmp_path: Path) -> None:
    answers = [(429, {"Retry-After": "1"}, b""), (503, {}, b""), (200, {"Content-Type": "text/html"}, b"<p>at last")]

    def busy(handler: Handler) -> None:
        handler.answer(*answers.pop(0))

    site.html("/", '<a href="/busy">b</a><a href="/never">n</a>')
    site.pages["/busy"] = busy
    site.pages["/never"] = 429, {"Retry-After": "86400"}, b""
    found = fates(crawled(site, tmp_path), site)
    asked = [moment for moment, path in zip(site.times, site.seen, strict=True) if path == "/busy"]
    assert found["/busy"] == "fetched 200" and len(asked) == 3 and asked[1] - asked[0] >= 1.0
    assert found["/never"] == "status 429" and site.asked("/never") == 1  # a day is too long


def test_delays_are_kept_between_requests(site: Site, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = 200, {}, b"User-agent: *\nCrawl-delay: 0.2\n"
    site.html("/", '<a href="/1">1</a><a href="/2">2</a>')
    site.html("/1", "1")
    site.html("/2", "2")
    crawled(site, tmp_path, delay=0.05)
    gaps = [after - before for before, after in zip(site.times[1:], site.times[2:], strict=False)]
    assert len(gaps) == 2 and min(gaps) >= 0.2


@pytest.mark.parametrize(
    ("page", "rule"),
    [
        ((403, {}, b""), "fetched"),
        ((500, {}, b""), "robots_unavailable"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(3_000_000))), "robots_unavailable"),
        ((200, {}, b"\xef\xbb\xbfUser-agent: *\nDisallow: /\n" + b"#" * 600_000), "robots"),
        ((301, {"Location": "/rules"}, b""), "robots"),
        ((301, {"Location": "/robots.txt"}, b""), "fetched"),
    ],
)
def test_a_robots_txt_of_each_kind(site: Site, tmp_path: Path, page: Any, rule: str) -> None:
    site.pages["/robots.txt"] = page
    site.pages["/rules"] = 200, {}, b"User-agent: *\nDisallow: /\n"
    site.html("/", "home")
    if rule == "fetched":
        assert fates(crawled(site, tmp_path), site) == {"/": "fetched 200"}
        return
    with pytest.raises(DataError, match=f"brought no page: {site.url}/: {rule}") as caught:
        crawled(site, tmp_path)
    assert site.asked("/") == 0 and ("owners" if rule == "robots" else "cannot be had") in caught.value.remedy


def flood(handler: Handler) -> None:
    """500 MB without a length."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.end_headers()
    for _ in range(500):
        handler.wfile.write(bytes(1 << 20))


def trickle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.end_headers()
    for _ in range(300):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def trickle_head(handler: Handler) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 300:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def hang(handler: Handler) -> None:
    time.sleep(3)


def test_floods_bombs_and_servers_that_stall_cost_their_page_only(site: Site, tmp_path: Path) -> None:
    site.html(
        "/", "".join(f'<a href="/{name}">x</a>' for name in ("flood", "big", "bomb", "torn", "slow", "head", "cut"))
    )
    site.pages["/flood"] = flood
    site.pages["/big"] = 200, {"Content-Type": "text/html", "Content-Length": str(500 << 20)}, b"x"
    site.pages["/bomb"] = 200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, gzip.compress(bytes(50 << 20))
    site.pages["/torn"] = 200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, gzip.compress(b"x" * 99)[:-9]
    site.pages["/slow"], site.pages["/head"], site.pages["/cut"] = trickle, trickle_head, vanish
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    found = fates(crawled(site, tmp_path, deadline=0.4, max_page_bytes=1 << 20), site)
    assert time.monotonic() - began < 10
    assert found == {
        "/": "fetched 200",
        "/flood": "too_large 1048576",
        "/big": "too_large 1048576",
        "/bomb": "too_large 1048576",
        "/torn": "bad_encoding",
        "/slow": "timed_out 0.4",
        "/head": "timed_out 0.4",
        "/cut": "broken_off",
    }
    assert site.asked("/cut") == courier.ATTEMPTS and site.asked("/slow") == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_a_server_that_hangs_is_asked_again_and_given_up(site: Site, tmp_path: Path) -> None:
    site.html("/", '<a href="/hang">x</a>')
    site.pages["/hang"] = hang
    assert fates(crawled(site, tmp_path, timeout=0.1), site)["/hang"] == "timed_out"
    assert site.asked("/hang") == courier.ATTEMPTS


def test_a_network_that_is_gone_stops_the_crawl_and_costs_no_page(site: Site, tmp_path: Path) -> None:
    names = [f"/{number}" for number in range(12)]
    site.html("/", "".join(f'<a href="{name}">x</a>' for name in names))
    for name in names:
        site.html(name, name)
    site.pages["/4"] = lambda handler: site.pages.update(dict.fromkeys(("/robots.txt", *names[4:]), silent))
    with pytest.raises(DataError, match=r"(127\.0\.0\.1|localhost)\S*, or the network, is gone: 5 pages in a row"):
        crawled(site, tmp_path)
    site.pages["/robots.txt"] = 404, {}, b""
    for name in names[4:]:
        site.html(name, name)
    found = fates(crawled(site, tmp_path), site)
    assert set(found.values()) == {"fetched 200"} and len(found) == 13
    assert all(site.asked(name) == 1 for name in names[:4])


def test_hostile_html_gives_its_links(site: Site, tmp_path: Path) -> None:
    site.html("/", "<div>" * 100_000 + '<a href="/deep">x</a>' + "<table>" * 100_000 + "<a href='/deeper'>")
    site.pages["/deep"] = 200, {"Content-Type": "text/html; charset=nonsense"}, b"\0\xff<a href=/odd>" + b"<" * 100_000
    site.html("/deeper", "<!--" * 100_000)
    found = fates(crawled(site, tmp_path), site)
    assert found == {"/": "fetched 200", "/deep": "fetched 200", "/deeper": "fetched 200", "/odd": "status 404"}
    many = "".join(f"<a href='/{number}'>" for number in range(links.MOST_LINKS + 50)).encode()
    assert len(links.page_links(many, "http://h/")) == links.MOST_LINKS + 1
    assert links.page_links(b"", "http://h/") == []
    based = b'<base href="/sub/"><a href="x?a=1&amp;b=2"><a href="http://u:p@h/"><a href="//o/"><a href="http://[bad">'
    assert links.page_links(based, "http://h/") == ["http://h/sub/x?a=1&b=2", "http://o/"]


def test_links_are_read_in_the_encoding_of_their_page() -> None:
    page = '<a href="/über-uns?q=ж">x</a>'
    asked = "http://h/%C3%BCber-uns?q="
    assert links.page_links(page.encode(), "http://h/", "utf-8") == [f"{asked}%D0%B6"]
    assert links.page_links(page.encode(), "http://h/") == [f"{asked}%D0%B6"]  # nobody says what it is
    assert links.page_links(page.encode("utf-16"), "http://h/", "koi8-r") == [f"{asked}%D0%B6"]
    latin = page.replace("ж", "é").encode("latin-1")
    assert links.page_links(latin, "http://h/") == links.page_links(latin, "http://h/", "latin-1") == [f"{asked}%E9"]
    cyrillic = "<meta charset=windows-1251><a href='/страница?q=ж'>x</a>".encode("cp1251")
    path = "%D1%81%D1%82%D1%80%D0%B0%D0%BD%D0%B8%D1%86%D0%B0"
    assert links.page_links(cyrillic, "http://h/") == [f"http://h/{path}?q=%E6"]


def test_limits_on_pages_and_bytes_name_what_is_left(site: Site, tmp_path: Path) -> None:
    site.html("/", "".join(f'<a href="/{number}">x</a>' for number in range(6)))
    for number in range(6):
        site.html(f"/{number}", "x" * 1000)
    found = fates(crawled(site, tmp_path, max_pages=3), site)
    assert [found[f"/{number}"] for number in range(6)] == ["fetched 200"] * 2 + ["over_pages 3"] * 4
    found = fates(crawled(site, tmp_path, max_bytes=2500), site)
    assert [rule.split()[0] for rule in found.values()].count("over_bytes") == 3


def test_hosts_take_turns_and_levels_follow_one_another() -> None:
    starts = ["http://a/1", "http://a/2", "http://a/3", "http://b/1"]
    frontier = Frontier(CrawlConfig(start=starts, sitemaps=["http://c/map"], contact=CONTACT), ["http://b/2"])
    order = []
    while (entry := frontier.next()) is not None:
        order.append((entry.url, entry.level))
        if entry.url == "http://a/1":
            frontier.add(entry, "http://a/4", "page")
            frontier.add(entry, "http://b/1", "page")
            assert frontier.redirect(entry, "http://a/5") is None
    assert order == [
        ("http://c/map", 0),
        *((f"http://{name}", 0) for name in ("a/1", "a/5", "b/1", "a/2", "b/2", "a/3")),
        ("http://a/4", 1),
    ]


def test_pages_lie_in_several_files_in_the_order_of_urls(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SEGMENT", 3000)
    big_site(site)
    listing = crawled(site, tmp_path, depth=99)
    assert len(listing) > 5
    locators = [one.locator for one in read(listing)]
    assert locators == sorted(locators) and len(locators) == 60


def test_a_second_visit_asks_only_for_what_changed(site: Site, tmp_path: Path) -> None:
    def page(etag: str, body: str) -> Any:
        def answer(handler: Handler) -> None:
            same = handler.headers.get("If-None-Match") == etag
            kind = {"Content-Type": "text/html", "ETag": etag}
            handler.answer(304 if same else 200, kind, b"" if same else body.encode())

        return answer

    site.pages["/"] = page('"1"', '<a href="/same">s</a><a href="/new">n</a>')
    site.pages["/same"], site.pages["/new"] = page('"s"', "<p>the same"), page('"n"', "<p>before")
    first = read(crawled(site, tmp_path))
    site.pages["/new"] = page('"n2"', "<p>after")
    listing = crawled(site, tmp_path, recrawl=1)
    assert fates(listing, site) == {"/": "not_modified 304", "/same": "not_modified 304", "/new": "fetched 200"}
    for path in (tmp_path / "downloads").glob("crawl-*-0"):
        shutil.rmtree(path)  # the second crawl is whole without the first
    second = read(listing)
    assert [one.text for one in second] == ["sn", "after", "the same"]
    assert [one.doc_id for one in second] == [one.doc_id for one in first]
    kinds = []
    for item in listing:
        with item.path.open("rb") as file:
            kinds += [one.rec_type for one in ArchiveIterator(file, check_digests="raise")]
    assert kinds.count("revisit") == 2 and kinds.count("response") == 3
    third = crawled(site, tmp_path, recrawl=2)
    assert fates(third, site) == dict.fromkeys(("/", "/same", "/new"), "not_modified 304")
    assert [one.text for one in read(third)] == [one.text for one in second]


def test_what_cannot_be_meant_is_refused() -> None:
    good = {"start": ["http://h/"], "contact": CONTACT}
    for wrong, message in [
        ({"contact": "me"}, "'me' is no contact"),
        ({"contact": "a@b.org\r\nX: y"}, "is no contact"),
        ({"start": []}, "a crawl needs start, sitemaps or urls"),
        ({"start": ["ftp://h/"]}, "is not an http or https address"),
        ({"start": ["http://user:word@h/"]}, "is not an http or https address"),
        ({"include": ["("]}, "is no regular expression"),
        ({"urls": "http://h/"}, "is an address, not a file"),
    ]:
        with pytest.raises(RecipeError, match=re.escape(message)):
            parse(SourceConfig, {"crawl": {**good, **wrong}})
    with pytest.raises(RecipeError, match="contact"):
        parse(SourceConfig, {"crawl": {"start": ["http://h/"]}})


def test_pages_are_counted_while_they_come(site: Site, tmp_path: Path) -> None:
    site.html("/", '<a href="/a">a</a><a href="/gone">g</a>')
    site.html("/a", "<p>first page")
    board = Board()
    with board.watching(tmp_path / "work"):
        crawled(site, tmp_path)
        crawled(site, tmp_path)  # it is here: nothing is measured
        crawled(site, tmp_path, start=None, urls=[f"{site.url}/a", f"{site.url}/b"])
    followed, listed = board.meters
    assert (followed.unit, followed.done, followed.before, followed.total) == ("page", 3, 0, 0)
    assert followed.size >= len(b"<p>first page")
    assert (listed.done, listed.total) == (2, 2)
