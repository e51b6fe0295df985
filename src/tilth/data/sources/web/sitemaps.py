"""The addresses that a sitemap lists (sitemaps.org).

    read_sitemap(raw) -> Sitemap(pages, sitemaps, wrong)

It is searched, not parsed: entities cannot blow up, and a broken one still lists what it lists. An address may stand in
CDATA, beside comments and white space, and in tags with a prefix: that of its entry, for `<image:loc>` is no page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import NamedTuple

from tilth.data.sources.web.urls import normalize

_ENTRY = re.compile(  # possessive: a place is looked at once, whatever stands there
    rb"<(?:([\w.-]{1,60}+):)?(?:(url|sitemap)(?=[\s>])[^<>]{0,1000}+>|loc(?=[\s>])[^<>]{0,1000}+>([^<]{0,4000}+)</)",
    re.IGNORECASE,
)
_ASIDE = {b"<!--": b"-->", b"<![CDATA[": b"]]>"}
_TAG = re.compile(rb"<([\w.:-]{1,60})")


class Sitemap(NamedTuple):
    """What a sitemap lists, each once.

    Attributes:
        pages, sitemaps: normalized addresses.
        wrong: entries that are no web address.
        root: the first tag, of one that is XML.
    """

    pages: list[str]
    sitemaps: list[str]
    wrong: list[str]
    root: str

    @property
    def rule(self) -> str:
        """What became of it, as the ledger has it."""
        return "sitemap" if self.pages or self.sitemaps else "empty_sitemap"

    @property
    def fault(self) -> str:
        """What is wrong with it, in words; empty: nothing."""
        said = []
        if self.rule == "empty_sitemap":
            said = [f"no address is listed in it{f'; its first tag is <{self.root}>' if self.root else ''}"]
        if self.wrong:
            said += [f"{len(self.wrong)} of its entries are no web address, the first {self.wrong[0][:200]!r}"]
        return "; ".join(said)


def read_sitemap(raw: bytes) -> Sitemap:
    """The pages and the further sitemaps that a sitemap lists, or the lines of a text sitemap."""
    if b"<" not in raw[:1000]:
        lines = (line.strip() for line in raw.decode("utf-8-sig", "replace").splitlines())
        return _sitemap([line for line in lines if line], [], "")
    raw = _plain(raw)
    entries: dict[bytes, list[str]] = {b"url": [], b"sitemap": []}
    within, prefix = b"url", b""
    for found in _ENTRY.finditer(raw):
        if found[2]:
            within, prefix = found[2].lower(), found[1] or b""
        elif (found[1] or b"") == prefix:
            entries[within].append(html.unescape(found[3].decode("utf-8", "replace")).strip())
    root = _TAG.search(raw)
    return _sitemap(entries[b"url"], entries[b"sitemap"], root[1].decode("ascii", "replace") if root else "")


def _plain(raw: bytes) -> bytes:
    """The same without comments, and with what stands in CDATA as other text is written. One without an end is none."""
    parts, at = [], 0
    for found in re.finditer(rb"<!--|<!\[CDATA\[", raw):
        if found.start() < at:
            continue
        end = raw.find(_ASIDE[found[0]], found.end())
        if end < 0:
            break
        parts += [raw[at : found.start()], _escaped(raw[found.end() : end]) if found[0] != b"<!--" else b""]
        at = end + 3
    return b"".join([*parts, raw[at:]])


def _escaped(data: bytes) -> bytes:
    return data.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")


def _sitemap(pages: Iterable[str], sitemaps: Iterable[str], root: str) -> Sitemap:
    wrong: dict[str, None] = {}
    return Sitemap(_addresses(pages, wrong), _addresses(sitemaps, wrong), list(wrong), root)


def _addresses(listed: Iterable[str], wrong: dict[str, None]) -> list[str]:
    found: dict[str, None] = {}
    for one in listed:
        url = normalize(one)
        if url is None:
            wrong[one] = None
        else:
            found[url] = None
    return list(found)
