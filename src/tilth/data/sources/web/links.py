"""Addresses out of pages.

    page_links(html, url, charset) -> list[str]       of <a href> and <area href>, in order, each once, normalized

A page is decoded as its text is (extract/charset.py): libxml2 would take Latin-1 where no <meta> says otherwise. Paths
are UTF-8 then, and queries in the encoding of the page, as a browser asks for them.
libxml2's parser is driven by events, without a tree: hostile HTML (nesting 100,000 deep, a million attributes) costs it
neither stack nor more than linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tilth.core.errors import RecipeError
from tilth.data.extract.charset import decode
from tilth.data.sources.web.urls import normalize

MOST_LINKS = 10_000
"""Of one page; a page with more of them is a trap, or a list that wants to be given as `urls`."""
_NO_UTF8 = re.compile("[\0\ud800-\udfff]")  # nor may a NUL stand before libxml2


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


def page_links(raw: bytes, url: str, charset: str | None = None) -> list[str]:
    """The web addresses that an HTML page links to, at most `MOST_LINKS` and one more.

    Args:
        charset: what the server said that the page is in.
    """
    try:
        from lxml import etree
    except ImportError:
        raise RecipeError("crawling needs lxml, which is not installed", "pip install 'tilth[web]'") from None
    text, faults = decode(raw, charset)
    encoding = next((fault.value for fault in faults if fault.rule == "charset"), "utf-8")
    target = _Hrefs()
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True, recover=True)
    try:
        parser.feed(_NO_UTF8.sub("", text).encode())
        parser.close()
    except (etree.LxmlError, ValueError):  # nothing in it: what was found counts
        pass
    base = (target.base and normalize(target.base, url)) or url
    return _unique(normalize(href, base, encoding) for href in target.hrefs)


def _unique(urls: Iterable[str | None]) -> list[str]:
    found: dict[str, None] = {}
    for url in urls:
        if url is not None:
            found[url] = None
        if len(found) > MOST_LINKS:
            break
    return list(found)
