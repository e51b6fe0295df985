"""The task that reads: files of one source to parts of about the same size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tilth.core import progress
from tilth.data.document import Document, Rows, Verdict
from tilth.data.extract import Extractors
from tilth.data.naming import NAMED, passed_over
from tilth.data.sources import READING, Input, SourceConfig, read_rows
from tilth.data.sources.inputs import Lost
from tilth.data.sources.undecoded import Met
from tilth.data.sources.unusable import Unusable
from tilth.data.tasks.parts import DocumentWriter, LedgerWriter

VERSION = 19 + READING
_NAMED = 3  # files that are lost, of each task


def collect(
    folder: Path, source: SourceConfig, inputs: Sequence[Input], skipped: Sequence[Verdict], part_bytes: int
) -> dict[str, Any]:
    """Reads files into parts of about `part_bytes` of text.

    Returns:
        `parts` [{file, documents, text_bytes}], `rules`, `lost` {files, first}: how many files were not used to their
        end, and the first few as `Lost`; `undecoded` {files, bytes, first, pages}: the same of those that are not
        UTF-8; `unusable` {files, rows, first, remedy}: of those with bad rows; `passed_over`: the first that each rule
        left out before any was read, and those in archives whose suffix is not known.
    """
    parts, lost = _Parts(folder, part_bytes), dict[str, Lost]()
    passed = [*skipped]
    met, unusable = Met(), Unusable()
    with Extractors(source.extract) as extractors, LedgerWriter(folder) as ledger, parts:
        ledger.add(skipped)
        progress.expect(sum(item.size for item in inputs))
        read = 0
        for item in inputs:
            for found in read_rows(item, source, extractors, among_many=True, met=met, unusable=unusable):
                if isinstance(found, Rows):
                    parts.add_rows(found.table)
                    continue
                ledger.add(found.verdicts)
                if (
                    found.verdicts
                    and found.verdicts[-1].rule == "unknown_suffix"
                    and len(passed) < len(skipped) + NAMED
                ):
                    passed.append(found.verdicts[-1])
                if found.loses:
                    lost.setdefault(item.locator, Lost(found.verdicts[-1].detail, found.remedy, item.locator))
                if found.document is not None:
                    parts.add(found.document)
            read += item.size
            progress.reach(read)  # a reader that jumps about in a file does not say how far it is
    first = list(lost.values())[:_NAMED]
    return {
        "parts": parts.facts,
        "rules": ledger.rules,
        "lost": {"files": len(lost), "first": first},
        "undecoded": met.plain(),
        "unusable": unusable.plain(),
        "passed_over": passed_over(passed, source.source_name),
    }


class _Parts:
    """A file of documents after the other, a new one when one is full."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self._folder, self._part_bytes = folder, part_bytes
        self._writer: DocumentWriter | None = None
        self.facts: list[dict[str, Any]] = []

    def add(self, document: Document) -> None:
        self._open().add(document)
        self._end_if_full()

    def add_rows(self, table: pa.Table) -> None:
        while len(table):
            table = table.slice(self._open().add_rows(table))
            self._end_if_full()

    def _open(self) -> DocumentWriter:
        if self._writer is None:
            self._writer = DocumentWriter(self._folder / self._name, compression="none")
        return self._writer

    def _end_if_full(self) -> None:
        if self._writer is not None and self._writer.text_bytes >= self._part_bytes:
            self._end()

    @property
    def _name(self) -> str:
        return f"part-{len(self.facts):05d}.parquet"

    def _end(self) -> None:
        if self._writer is not None:
            with self._writer as writer:
                writer.flush()
            facts = {"file": self._name, "documents": writer.documents, "text_bytes": writer.text_bytes}
            self.facts.append(facts)
            self._writer = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, at: object) -> None:
        if error is None:
            self._end()
