"""Text out of HTML and PDF, in a process of its own that can be killed.

    with Extractor("html", ExtractConfig()) as extractor:
        extractor.extract(raw, locator) -> Extracted(text, title, date, license, faults)
    with Extractors(ExtractConfig()) as extractors:
        extractors.of("html"), extractors.of("pdf")       one of each, made when it is first asked for

    config.py        the recipe's `extract:`: deadline, memory, size, what of a page is kept
    result.py        Extracted and Fault
    extractor.py     the parent's side: starts, watches, kills and replaces the worker
    worker.py        the child's side: `python -m tilth.data.extract.worker`; core/worker.py bounds and kills it
    html.py  pdf.py  the parsers, imported in the worker alone
    charset.py       which encoding a page is in
    layout.py        tables that lay a page out, made plain containers
    license.py       the licence that it states in its head

A parser meets hostile input. It runs under a cap of memory and a deadline; one that hangs, dies or asks for too much is
killed, its document is dropped with the rule that says so, and the next document gets a fresh process.
"""

from __future__ import annotations

from tilth.data.extract.config import ExtractConfig
from tilth.data.extract.extractor import Extractor, Extractors, require
from tilth.data.extract.result import BROKEN_PAGE, SCANNED_PAGES, Extracted, Fault

__all__ = ["BROKEN_PAGE", "SCANNED_PAGES", "ExtractConfig", "Extracted", "Extractor", "Extractors", "Fault", "require"]
