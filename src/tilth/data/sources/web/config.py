"""What a recipe may say of a crawl, and of Common Crawl."""

from __future__ import annotations

import re
from typing import Annotated

import regex  # type: ignore[import-untyped]
from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config
from tilth.data.sources.web.urls import host_of, normalize

_CONTACT = re.compile(r"(mailto:)?[^\s@<>()]+@[^\s@<>()]+\.[^\s@<>()]+|https?://[^\s<>()]+")


def _checked_url(url: str) -> str:
    found = normalize(url)
    if found is None:
        raise ValueError(f"{url!r} is not an http or https address | write https://host/path, without a password")
    return found


class CrawlConfig(Config):
    """A polite crawl: where it starts, how far it goes, and who answers for it."""

    start: list[str] = []
    """Pages to start from; links are followed from here."""
    sitemaps: list[str] = []
    """Sitemaps (XML, also gzip, also an index of sitemaps); the pages that they list are fetched. Beside a `start` they
    count as pages to start from; without one, their links are not followed."""
    urls: list[str] | str = []
    """Single pages whose links are not followed: a list, or the path of a file with one address a line."""
    include: list[str] = []
    """Regular expressions (as the `regex` library reads them); a link is followed only when one of them is found in its
    address. None: all links."""
    exclude: list[str] = []
    """Regular expressions; a link is not followed when one of them is found in its address. Where they or those of
    `include` backtrack without end the link is not followed either (`pattern_timeout`)."""
    depth: int = Field(default=3, ge=0, le=1000)
    """How many links away from `start` a page may be."""
    same_host: bool = True
    """Stay on the hosts that the recipe names (and those that its addresses redirect to)."""
    max_pages: int = Field(default=1000, ge=1)
    """Pages to fetch at most."""
    max_bytes: int = Field(default=1 << 30, ge=1)
    """Bytes of pages to fetch at most; the page that goes beyond is the last."""
    max_page_bytes: int = Field(default=8 << 20, ge=1, le=64 << 20)
    """A larger page is given up; both as it comes and decompressed."""
    types: list[str] = Field(default=["text/html", "application/xhtml+xml", "text/plain"], min_length=1)
    """Content types that are fetched."""
    delay: float = Field(default=1.0, ge=0, le=3600)
    """Seconds between two requests to a host; a longer crawl delay in its robots.txt is obeyed."""
    timeout: float = Field(default=20.0, gt=0, le=600)
    """Seconds without a byte."""
    deadline: float = Field(default=60.0, gt=0, le=3600)
    """Seconds for a whole page, however steadily it trickles."""
    contact: str
    """An email address or a page for those whose site is crawled: it stands in the user agent."""
    recrawl: int = Field(default=0, ge=0)
    """Raise it to visit everything once more; pages that did not change are not sent again (ETag, Last-Modified)."""
    allow_private: bool = False
    """Allow hosts named here, at the ports named here (never those of links and redirects), to have loopback or private
    addresses."""

    @field_validator("start", "sitemaps")
    @classmethod
    def _addresses(cls, urls: list[str]) -> list[str]:
        return [_checked_url(url) for url in urls]

    @field_validator("urls")
    @classmethod
    def _addresses_or_file(cls, urls: list[str] | str) -> list[str] | str:
        if isinstance(urls, str):
            if not urls.strip() or "\0" in urls:
                raise ValueError("the path of the list of addresses is empty | name a file, or write a list")
            if re.match(r"https?://", urls, re.IGNORECASE):
                raise ValueError(f"{urls!r} is an address, not a file of addresses | write a list: [{urls}]")
            return urls
        return [_checked_url(url) for url in urls]

    @field_validator("include", "exclude")
    @classmethod
    def _expressions(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error} | mend it") from None
        return patterns

    @field_validator("contact")
    @classmethod
    def _contact_is_one(cls, contact: str) -> str:
        if not _CONTACT.fullmatch(contact) or not contact.isascii() or not contact.isprintable():
            raise ValueError(f"{contact!r} is no contact | give an email address or a web page of yours")
        return contact

    @model_validator(mode="after")
    def _somewhere_to_begin(self) -> CrawlConfig:
        if not self.start and not self.sitemaps and not self.urls:
            raise ValueError("a crawl needs start, sitemaps or urls | name a page to begin with")
        return self

    @property
    def title(self) -> str:
        """What a source that crawls is called when it has no name: its first host, or its list."""
        named = [*self.start, *self.sitemaps, *([] if isinstance(self.urls, str) else self.urls)]
        return host_of(named[0]) if named else str(self.urls).rpartition("/")[2]


class CommonCrawlConfig(Config):
    """WARC or WET files of Common Crawl, or of anyone who serves such files."""

    paths: Annotated[list[str], Field(min_length=1)] | str | None = None
    """Whole files: a list of paths below `base`, or a local file that lists them (`wet.paths`, also `.gz`)."""
    index: str | None = None
    """A local JSON Lines file of single records: `warc` (or `filename`), `offset`, `length`."""
    base: str = "https://data.commoncrawl.org/"
    """Where the paths begin."""
    max_files: int | None = Field(default=None, ge=1)
    """Take only the first of `paths`."""

    @field_validator("base")
    @classmethod
    def _base_is_http(cls, base: str) -> str:
        return _checked_url(base).rstrip("/") + "/"

    @model_validator(mode="after")
    def _one_list(self) -> CommonCrawlConfig:
        if (self.paths is None) == (self.index is None):
            raise ValueError("common_crawl has one of paths and index | keep exactly one")
        if self.index is not None and self.max_files is not None:
            raise ValueError("max_files is for paths | remove it, or shorten the index")
        return self

    @property
    def title(self) -> str:
        """What the source is called when it has no name."""
        if self.paths is None or isinstance(self.paths, str):
            return str(self.index or self.paths).rpartition("/")[2]
        return host_of(self.base)
