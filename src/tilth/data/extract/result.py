"""What extraction gives for one document: its text and what is stated about it, or why there is none."""

from __future__ import annotations

from typing import NamedTuple

BROKEN_PAGE = "broken_page"
"""The rule of a page that a PDF loses, whose other pages are its text."""
SCANNED_PAGES = "scanned_pages"
"""The rule of a PDF of whose pages some are pictures without a text layer; the value says how many."""


class Fault(NamedTuple):
    """One thing that was wrong or had to be changed: the rule, how much of it, and where."""

    rule: str
    value: str = ""
    detail: str = ""


class Extracted(NamedTuple):
    """The text of a page or PDF; `text` is None when there is none, and the last of `faults` says why.

    `title`, `date` (ISO 8601, as much of it as is stated) and `license` are what the document says of itself.
    """

    text: str | None
    title: str | None = None
    date: str | None = None
    license: str | None = None
    faults: tuple[Fault, ...] = ()
