"""What is kept of a source of `decontaminate.against` while its files are read: what is not read, or not as it was
written.

    Seen(source).take(outcome, item)  .item(document)  .end(item, items)  .plain()
    Given                                 what a file gave, or all files of a source

Apart from exam_files.py, which says it in words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tilth.data import naming
from tilth.data.document import Document, Outcome, Verdict
from tilth.data.extract import BROKEN_PAGE
from tilth.data.leaks.exam_words import EMPTY, NAMED, reasons
from tilth.data.sources import Input, SourceConfig
from tilth.data.sources.excluding import RULE as EXCLUDED
from tilth.data.sources.inputs import ARCHIVES, Lost
from tilth.data.sources.undecoded import Met
from tilth.data.sources.unusable import Unusable

_LOST = "\ufffd"
_IN_PART = {f"read/{rule}" for rule in (BROKEN_PAGE, "warc_truncated")}  # of what is taken, not all is there
_PASSED_OVER = {f"read/{rule}" for rule in (EXCLUDED, "hidden", "unknown_suffix", "other_format")}
"""Of files in archives: in a folder they are passed over as well."""
_OF_A_ROW = re.compile(r":\d+$|#(row|bytes)=[\d-]+$")


def file_of(locator: str) -> str:
    """The locator of a row without its number."""
    return _OF_A_ROW.sub("", locator)


@dataclass(slots=True)
class Given:
    """What a file gave."""

    items: int = 0
    too_short: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, other: Given) -> None:
        self.items += other.items
        self.too_short += other.too_short
        self.left_out += other.left_out

    @property
    def nothing(self) -> bool:
        """Whether it gives no item, and that is not told of its rows: all are empty or too short. One that is a single
        text is too short as a row among others is.
        """
        told = self.left_out.total() - self.left_out[EMPTY]
        return not self.items and (self.left_out[EMPTY] > 0 or self.too_short > 1 or (self.too_short > 0 and told > 0))


def _file(locator: str, item: Input) -> str:
    """The locator of the file that a row or page stands in: of an archive the one in it."""
    file = item.locator
    if item.kind in ARCHIVES and locator.startswith(f"{file}!"):
        return f"{file}!{file_of(locator[len(file) + 1 :]).partition('!')[0]}"
    return file


class Seen:
    """Counts what is not read of one source, or not as it was written, and names the first few."""

    def __init__(self, source: SourceConfig) -> None:
        self._source = source
        self.met, self.unusable = Met(), Unusable()
        self._given = dict[str, Given]()  # of the file that is read, or of those in it
        self._all, self._nothing = Given(), list[str]()
        self._files_of_nothing = 0
        self._passed_over = Counter[str]()
        self._named: dict[str, list[str]] = {}
        self._lost: dict[str, Lost] = {}
        self._replaced, self._first_replaced = 0, list[str]()

    def take(self, outcome: Outcome, item: Input) -> None:
        """What became of one row of a file."""
        for one in outcome.verdicts:
            rule = f"{one.stage}/{one.rule}"
            if one.verdict == "dropped" or rule in _IN_PART:
                self._leave_out(rule, one, item)
        if outcome.loses and item.locator not in self._lost:
            said = outcome.verdicts[-1]
            place = naming.told_by(said.detail, said.doc_id, [self._source.source_name])
            file = _file(place or item.locator, item)
            self._lost[item.locator] = Lost(said.detail, outcome.remedy, file)

    def _leave_out(self, rule: str, said: Verdict, item: Input) -> None:
        names, locator = self._named.setdefault(rule, []), None
        if len(names) < NAMED or item.kind in ARCHIVES:
            locator = naming.told_by(said.detail, said.doc_id, [self._source.source_name])
        if len(names) < NAMED and (name := locator or said.doc_id) not in names:  # as a PDF is for each page
            names.append(name)
        if rule in _PASSED_OVER:
            self._passed_over[rule] += 1
        else:
            self._of(locator or item.locator, item).left_out[rule] += 1

    def item(self, document: Document) -> None:
        """One that is indexed."""
        if _LOST in document.text:
            self._replaced += 1
            if len(self._first_replaced) < NAMED:
                self._first_replaced.append(document.locator)

    def end(self, item: Input, found: Iterable[tuple[str, bool]]) -> None:
        """A file has been read: the locators of its items, and whether each is looked for."""
        for locator, looked_for in found:
            given = self._of(locator, item)
            given.items += looked_for
            given.too_short += not looked_for
        for file, given in self._given.items():
            self._all.take(given)
            if given.nothing and item.locator not in self._lost:
                self._files_of_nothing += 1
                if len(self._nothing) < NAMED:
                    self._nothing.append(f"{file} ({reasons(given.too_short, given.left_out)})")
        self._given.clear()

    def _of(self, locator: str, item: Input) -> Given:
        return self._given.setdefault(_file(locator, item), Given())

    def plain(self) -> dict[str, Any]:
        """{name, items, too_short, left_out: {rule: n}, named: {rule: locators}, passed_over: {rule: {files, first}},
        nothing: {files, first}, lost: {files, first}, replaced: {items, first}, undecoded, unusable}: `nothing` are
        files without an item that is looked for, and the last two are as `collect` keeps them.
        """
        # Where such documents are dropped they are among what is left out.
        met = self.met if self._source.invalid_utf8 == "replace" else Met()
        rules, passed = self._all.left_out, self._passed_over
        return {
            "name": self._source.source_name,
            "items": self._all.items,
            "too_short": self._all.too_short,
            "left_out": dict(sorted(rules.items())),
            "named": {rule: names for rule, names in sorted(self._named.items()) if rule in rules},
            "passed_over": {rule: {"files": n, "first": self._named[rule]} for rule, n in sorted(passed.items())},
            "nothing": {"files": self._files_of_nothing, "first": self._nothing},
            "lost": {"files": len(self._lost), "first": list(self._lost.values())[:NAMED]},
            "replaced": {"items": self._replaced, "first": self._first_replaced},
            "undecoded": met.plain(),
            "unusable": self.unusable.plain(),
        }
