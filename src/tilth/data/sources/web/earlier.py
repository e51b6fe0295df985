"""The crawl before this one of the same recipe: what is asked for only where it changed.

earlier = Earlier(folder)
earlier.validators(url)      headers that make a request conditional
earlier.response(url)        what was kept of a page
"""

from __future__ import annotations

import io
from pathlib import Path

from tilth.core.files import verify_manifest
from tilth.data.sources.web.archive import read_fates
from tilth.data.sources.web.warc import Record, read_records

KEPT = ("fetched", "not_modified")
"""Rules of pages that a crawl keeps."""


class Earlier:
    """An earlier crawl of the same recipe, to ask only for what changed."""

    def __init__(self, folder: Path) -> None:
        verify_manifest(folder)
        self._folder = folder
        self.number = int(folder.name.rpartition("-")[2])  # `recrawl:` of it
        self._pages = {row["url"]: row for row in read_fates(folder) if row["rule"] in KEPT}

    def validators(self, url: str) -> dict[str, str]:
        """The headers that make a request conditional."""
        page = self._pages.get(url, {})
        found = {"If-None-Match": page.get("etag", ""), "If-Modified-Since": page.get("modified", "")}
        return {name: value for name, value in found.items() if value and value.isprintable() and value.isascii()}

    def _records(self, url: str) -> bytes:
        page = self._pages[url]
        with (self._folder / page["file"]).open("rb") as file:
            file.seek(page["at"])
            records: bytes = file.read(page["size"])
            return records

    def response(self, url: str) -> Record | None:
        """The response that was kept of a page."""
        if url not in self._pages:
            return None
        found = read_records(io.BytesIO(self._records(url)))
        return next((one for one in found if isinstance(one, Record) and one.kind == "response"), None)

    def member(self, url: str, record: Record) -> bytes:
        """The bytes of that response's record: it is the last of its page."""
        return self._records(url)[record.offset :]
