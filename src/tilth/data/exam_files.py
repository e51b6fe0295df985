"""What should be known of the files of `decontaminate.against`: what is not looked for, or not as it was written.

    sources_of(config, listings, facts)         of each source all of it, as the manifest keeps it
    in_dataset(facts)                           of a dataset, by its manifest
    faults(sources)                             what is amiss, in sentences; exam_words.py has others

What is kept of a source while it is read stands in exam_seen.py.

An item that is not read is not kept out of training either, and how well planted items are found says nothing of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilth.data import naming
from tilth.data.document import Verdict
from tilth.data.exam_words import EMPTY, KEEPS, NAMED, PLACE, items_replaced, rows_left_out, without_items
from tilth.data.sources import Listing, SourceConfig
from tilth.data.sources.excluding import idle_patterns
from tilth.data.sources.inputs import Lost
from tilth.data.sources.losses import judge, of_files
from tilth.data.sources.own import RULE as OWN_FILES
from tilth.data.sources.undecoded import note, note_of_pages
from tilth.data.sources.unusable import notes


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
        judge(source, files, lost, first, whole=True)
        # What tilth wrote there comes and goes with commands, and is no part of what a dataset says.
        skipped = [v for v in listing.skipped if v.verdict == "dropped" and v.rule != OWN_FILES]
        more: dict[str, Any] = {
            "files": files,
            "lost": {"files": lost, "first": first},
            "passed_over": {**_listed(source, skipped), **own["passed_over"]},
        }
        if idle := idle_patterns(source.source_name, listing.unused, [own["unusable"]]):
            more["idle"] = list(idle)
        found.append({**own, **more})
    return found


def _listed(source: SourceConfig, skipped: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
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
        yield f"{name}: {of_files(lost['files'], one['files'])} cannot be used, or not whole: {first}"
    yield from notes(name, [unusable])
    yield from one.get("idle", ())
    others = {rule: n for rule, n in one["left_out"].items() if rule != EMPTY}  # a row that is empty is no fault
    if others:
        yield f"{name}: not looked for: {rows_left_out([{**one, 'left_out': others}])}"
    yield from without_items([one])
    yield from filter(None, (tell(name, [one["undecoded"]], KEEPS) for tell in (note, note_of_pages)))
    if replaced["items"]:
        yield f"{name}: {items_replaced([one])}"
