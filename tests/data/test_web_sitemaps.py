"""Sitemaps: what they list, however it is written, and what is said of one that lists nothing."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from tests.data.web_site import Site, crawled, fates, serving
from tilth.core.errors import DataError
from tilth.data.sources.web import courier
from tilth.data.sources.web.sitemaps import read_sitemap

pytestmark = pytest.mark.slow


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as started:
        yield started


def test_sitemaps_and_lists(site: Site, tmp_path: Path) -> None:
    site.html("/a", '<a href="/linked">x</a>')
    site.html("/b", "b")
    site.html("/linked", "linked")
    index = f"<sitemapindex><sitemap><loc> {site.url}/more.xml.gz </loc></sitemap></sitemapindex>"
    site.pages["/map.xml"] = 200, {"Content-Type": "application/xml"}, index.encode()
    more = f"<urlset><url><loc>{site.url}/a</loc></url><url><loc>{site.url}/b?x=1&amp;y=2</loc></url></urlset>"
    site.pages["/more.xml.gz"] = 200, {"Content-Type": "application/gzip"}, gzip.compress(more.encode())
    site.html("/b?x=1&y=2", "b")
    found = fates(crawled(site, tmp_path, start=None, sitemaps=[f"{site.url}/map.xml"]), site)
    assert found == {
        "/map.xml": "sitemap 0",
        "/more.xml.gz": "sitemap 2",
        "/a": "fetched 200",
        "/b?x=1&y=2": "fetched 200",
    }
    (tmp_path / "list.txt").write_text(f"# pages\n{site.url}/a\n\n{site.url}/b\n{site.url}/a\n")
    assert set(fates(crawled(site, tmp_path, start=None, urls="list.txt"), site)) == {"/a", "/b"}
    (tmp_path / "list.txt").write_text("ftp://x\n")
    with pytest.raises(DataError, match=r"list.txt:1: 'ftp://x' is no http"):
        crawled(site, tmp_path, start=None, urls="list.txt")


def test_a_hostile_sitemap_costs_no_more_than_its_length() -> None:
    began = time.process_time()
    plain = (b"<url ", b"<url" + b" " * 900, b"<loc>", b"<loc>" + b"x" * 4000, b"<sitemap>", b"<" + b"x" * 60)
    nested = (b"<!--", b"<loc><![CDATA[", b"<loc><!--<![CDATA[" + b"]]>x" * 1000, b"<loc>" + b" " * 4000 + b"<![CDATA[")
    for part in (*plain, *nested):
        assert not any(read_sitemap(b"<" + part * ((4 << 20) // len(part)))[:3])
    assert time.process_time() - began < 8


NS = "http://www.sitemaps.org/schemas/sitemap/0.9"
ODD = f"""<?xml version="1.0"?><!-- <url><loc>http://h/commented</loc></url> -->
<urlset xmlns="{NS}" xmlns:image="http://image/">
<url><loc>http://h/plain</loc><image:image><image:loc>http://h/picture.jpg</image:loc></image:image></url>
<url ><loc
>
  http://h/space?a=1&amp;b=2
</loc ></url>
<url><loc><![CDATA[http://h/data?a=1&b=2]]></loc></url>
<url><loc> <![CDATA[ http://h/data/in/space ]]> </loc></url>
<url><loc><!-- old --></loc></url><url><loc><!-- old -->http://h/after/a/comment</loc></url>
<url><loc>http://h/before/<!-- new -->a/comment</loc></url>
</urlset>"""


def by_a_parser(text: str) -> list[str]:
    found = etree.fromstring(text.encode(), etree.XMLParser(remove_comments=True)).iterfind(f".//{{{NS}}}loc")
    return [stripped for one in found if (stripped := "".join(one.itertext(with_tail=False)).strip())]


@pytest.mark.parametrize("prefix", ["", "sm:"])
def test_addresses_are_found_as_a_parser_of_xml_finds_them(prefix: str) -> None:
    text = ODD
    if prefix:
        for tag in ("urlset", "url", "loc"):
            text = text.replace(f"<{tag}", f"<{prefix}{tag}").replace(f"</{tag}", f"</{prefix}{tag}")
        text = text.replace("<sm:urlset xmlns=", "<sm:urlset xmlns:sm=").replace("image:sm:loc", "image:loc")
    found = read_sitemap(text.encode())
    assert found.pages == by_a_parser(text) and len(found.pages) == 6
    assert (found.sitemaps, found.wrong, found.rule) == ([], [""], "sitemap")


def test_an_index_with_a_prefix_and_a_list_of_lines() -> None:
    index = b"<s:sitemapindex><s:sitemap><s:loc>http://h/a.xml</s:loc></s:sitemap></s:sitemapindex>"
    assert read_sitemap(index)[:2] == ([], ["http://h/a.xml"])
    lines = read_sitemap(b"\xef\xbb\xbfhttp://h/1\nnothing\n\nhttp://h/2\n")
    assert lines.pages == ["http://h/1", "http://h/2"]
    assert lines.fault == "1 of its entries are no web address, the first 'nothing'"


def test_one_that_lists_nothing_is_told(site: Site, tmp_path: Path) -> None:
    site.html("/a", "<p>a page")
    site.pages["/rss"] = 200, {}, f"<?xml version='1.0'?><rss><item><link>{site.url}/a</link></item></rss>".encode()
    site.pages["/half.xml"] = 200, {}, f"<urlset><url><loc>{site.url}/a</loc></url><url><loc>/b</loc></url>".encode()
    listing = crawled(site, tmp_path, start=None, sitemaps=[f"{site.url}/rss", f"{site.url}/half.xml"])
    assert fates(listing, site) == {"/a": "fetched 200", "/half.xml": "sitemap 1", "/rss": "empty_sitemap 0"}
    half, rss = listing.notes
    assert half.endswith("/half.xml: 1 of its entries are no web address, the first '/b'")
    assert rss.endswith(f"the sitemap {site.url}/rss: no address is listed in it; its first tag is <rss>")
    with pytest.raises(DataError, match=r"brought no page: .*/rss: empty_sitemap") as caught:
        crawled(site, tmp_path, start=None, sitemaps=[f"{site.url}/rss"])
    assert f"look at {site.url}/rss" in caught.value.remedy
    with pytest.raises(DataError) as caught:
        crawled(site, tmp_path, start=None, sitemaps=[f"{site.url}/none.xml"])
    assert caught.value.remedy == "check crawl.sitemaps in a browser"


def test_one_that_does_not_come_is_told(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_SITEMAP_BYTES", 5000)
    site.html("/", "<p>a page")
    listed = "".join(
        f"<sitemap><loc>{site.url}/{name}.xml</loc></sitemap>" for name in ("gone", "large", "moved", "in")
    )
    site.pages["/all.xml"] = 200, {}, f"<sitemapindex>{listed}</sitemapindex>".encode()
    site.pages["/large.xml"] = 200, {}, b" " * 5001
    site.pages["/moved.xml"] = 302, {"Location": "/in.xml"}, b""
    site.pages["/in.xml"] = 200, {}, f"<urlset><url><loc>{site.url}/</loc></url></urlset>".encode()
    listing = crawled(site, tmp_path, sitemaps=[f"{site.url}/all.xml", f"{site.url}/none.xml"])
    assert [note.removeprefix(f"web: the sitemap {site.url}/") for note in listing.notes] == [
        "gone.xml: status 404: Not Found",
        "large.xml: too_large 5000: 5001 bytes announced, more than 5000",
        "none.xml: status 404: Not Found",
    ]
    assert sum('"sitemap":true' in line for line in next(tmp_path.rglob("fates.jsonl")).read_text().splitlines()) == 6
