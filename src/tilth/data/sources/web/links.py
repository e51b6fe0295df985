"""Addresses out of pages and sitemaps.

    page_links(html, url) -> list[str]       of <a href> and <area href>, in order, each once, normalized
    sitemap_links(xml) -> (pages, sitemaps)

libxml2's parser is driven by events, without a tree: hostile HTML (nesting 100,000 deep, a million attributes) costs it
neither stack nor more than linear time. Sitemaps are searched, not parsed: entities cannot blow up, and a broken one
still lists what it lists.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from tilth.core.errors import RecipeError
from tilth.data.sources.web.urls import normalize

MOST_LINKS = 10_000
"""Of one page; a page with more of them is a trap, or a list that wants to be given as `urls`."""
_ENTRY = re.compile(rb"<(url|sitemap)\b[^<>]{0,1000}>|<loc>([^<]{1,4000})</loc>", re.IGNORECASE)


class _Hrefs:
    """What lxml calls for each tag."""

    def __init__(self) -> None:
        self.base = ""
        self.hrefs: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in ("a", "area") and "href" in attributes:
            self.hrefs.append(attributes["href"])
        elif tag == "base" and not self.base:
            self.base = attributes.get("href", "")

    def close(self) -> _Hrefs:
        return self


def page_links(raw: bytes, url: str) -> list[str]:
    """The web addresses that an HTML page links to, at most `MOST_LINKS` and one more."""
    try:
        from lxml import etree
    except ImportError:
        raise RecipeError("crawling needs lxml, which is not installed", "pip install 'tilth[web]'") from None
    target = _Hrefs()
    parser = etree.HTMLParser(target=target, huge_tree=True, recover=True)
    try:
        parser.feed(raw)
        parser.close()
    except (etree.LxmlError, ValueError):  # nothing in it, or no character set of that name: what was found counts
        pass
    base = (target.base and normalize(target.base, url)) or url
    return _unique(normalize(href, base) for href in target.hrefs)


def _unique(urls: Iterable[str | None]) -> list[str]:
    found: dict[str, None] = {}
    for url in urls:
        if url is not None:
            found[url] = None
        if len(found) > MOST_LINKS:
            break
    return list(found)


def sitemap_links(raw: bytes) -> tuple[list[str], list[str]]:
    """The pages and the further sitemaps that a sitemap lists (sitemaps.org), or the lines of a text sitemap."""
    if b"<" not in raw[:1000]:
        return _all(raw.decode("utf-8", "replace").splitlines()), []
    pages: list[str] = []
    sitemaps: list[str] = []
    inside = b"url"
    for match in _ENTRY.finditer(raw):
        if match[1]:
            inside = match[1].lower()
        else:
            (sitemaps if inside == b"sitemap" else pages).append(html.unescape(match[2].decode("utf-8", "replace")))
    return _all(pages), _all(sitemaps)


def _all(urls: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(url for url in map(normalize, urls) if url is not None))
