"""What should be known of the files of `decontaminate.against`: what is not looked for, or not as it was written.

    Seen(source)                                what the task that indexes them keeps of one source while it reads
    sources_of(config, listings, facts)         of each source all of it, as the manifest keeps it
    in_dataset(facts)                           of a dataset, by its manifest
    faults(sources)                             what is amiss, in sentences; exam_words.py has others

An item that is not read is not kept out of training either, and how well planted items are found says nothing of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilth.data import naming
from tilth.data.document import Document, Outcome, Verdict
from tilth.data.exam_words import KEEPS, NAMED, PLACE, items_replaced, rows_left_out
from tilth.data.sources import Listing, SourceConfig
from tilth.data.sources.excluding import idle_patterns
from tilth.data.sources.inputs import Lost
from tilth.data.sources.losses import judge
from tilth.data.sources.own import RULE as OWN_FILES
from tilth.data.sources.undecoded import Met, note, note_of_pages
from tilth.data.sources.unusable import Unusable, notes

_LOST = "\ufffd"


class Seen:
    """Counts what is not read of one source, or not as it was written, and names the first few."""

    def __init__(self, source: SourceConfig) -> None:
        self._source = source
        self.met, self.unusable = Met(), Unusable()
        self._left_out = Counter[str]()
        self._named: dict[str, list[str]] = {}
        self._lost: dict[str, Lost] = {}
        self._replaced, self._first_replaced = 0, list[str]()

    def take(self, outcome: Outcome, file: str) -> None:
        """What became of one row of a file."""
        for one in outcome.verdicts:
            if one.verdict == "dropped":
                rule = f"{one.stage}/{one.rule}"
                self._left_out[rule] += 1
                names = self._named.setdefault(rule, [])
                if len(names) < NAMED:
                    names.append(naming.told_by(one.detail, one.doc_id, [self._source.source_name]) or one.doc_id)
        if outcome.loses:
            self._lost.setdefault(file, Lost(outcome.verdicts[-1].detail, outcome.remedy, file))

    def item(self, document: Document) -> None:
        """One that is indexed."""
        if _LOST in document.text:
            self._replaced += 1
            if len(self._first_replaced) < NAMED:
                self._first_replaced.append(document.locator)

    def plain(self) -> dict[str, Any]:
        """{name, left_out: {rule: n}, named: {rule: locators}, lost: {files, first}, replaced: {items, first},
        undecoded, unusable}, the last two as `collect` keeps them.
        """
        # Where such documents are dropped they are among what is left out.
        met = self.met if self._source.invalid_utf8 == "replace" else Met()
        return {
            "name": self._source.source_name,
            "left_out": dict(sorted(self._left_out.items())),
            "named": dict(sorted(self._named.items())),
            "lost": {"files": len(self._lost), "first": list(self._lost.values())[:NAMED]},
            "replaced": {"items": self._replaced, "first": self._first_replaced},
            "undecoded": met.plain(),
            "unusable": self.unusable.plain(),
        }


def sources_of(
    against: Sequence[SourceConfig], listings: Sequence[Listing], seen: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Of each source what `Seen.plain` says, with what its listing has: {files, passed_over: {rule: {files, first}}},
    and `idle`, where patterns of `exclude:` leave nothing out.

    Raises:
        DataError: so many of its files are not to be had, or not whole, that `max_bad_rows` forbids it.
    """
    found = []
    for source, listing, own in zip(against, listings, seen, strict=True):
        first = [*listing.lost, *(Lost(*one) for one in own["lost"]["first"])][:NAMED]
        lost, files = len(listing.lost) + own["lost"]["files"], len(listing.inputs) + len(listing.lost)
        judge(source, files, lost, first)
        # What tilth wrote there comes and goes with commands, and is no part of what a dataset says.
        skipped = [v for v in listing.skipped if v.verdict == "dropped" and v.rule != OWN_FILES]
        more: dict[str, Any] = {
            "files": files,
            "lost": {"files": lost, "first": first},
            "passed_over": _by_rule(source, skipped),
        }
        if idle := idle_patterns(source.source_name, listing.unused, [own["unusable"]]):
            more["idle"] = list(idle)
        found.append({**own, **more})
    return found


def _by_rule(source: SourceConfig, skipped: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    numbers = Counter(f"{one.stage}/{one.rule}" for one in skipped)
    named = naming.passed_over(skipped, source.source_name)
    return {rule: {"files": n, "first": named.get(rule, [])} for rule, n in sorted(numbers.items())}


def in_dataset(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the manifest of a dataset says of them; datasets of before say nothing."""
    return list(facts["decontamination"].get("evaluation", {}).get("sources", ()))


def faults(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is amiss with the files that are read, in sentences."""
    for one in sources:
        yield from (f"{PLACE}: {said}" for said in _faults(one))


def _faults(one: Mapping[str, Any]) -> Iterator[str]:
    name, lost, replaced, unusable = one["name"], one["lost"], one["replaced"], one["unusable"]
    if lost["files"]:
        first = "; ".join(said for said, *_ in lost["first"])
        yield f"{name}: {lost['files']:,} of its {one['files']:,} files cannot be used, or not whole: {first}"
    yield from notes(name, [unusable])
    yield from one.get("idle", ())
    # A row that is empty is no fault, and of those that cannot be used the lines above tell.
    others = {rule: n for rule, n in one["left_out"].items() if rule != "read/empty"}
    if sum(others.values()) > unusable["rows"] + lost["files"]:
        yield f"{name}: not looked for: {rows_left_out([{**one, 'left_out': others}])}"
    yield from filter(None, (tell(name, [one["undecoded"]], KEEPS) for tell in (note, note_of_pages)))
    if replaced["items"]:
        yield f"{name}: {items_replaced([one])}"
