"""What should be known of the files of `decontaminate.against`: what is not looked for, or not as it was written.

    sources_of(config, listings, facts)         of each source all of it, as the manifest keeps it
    in_dataset(facts)                           of a dataset, by its manifest
    faults(sources)                             what is amiss, in sentences; exam_words.py has others
    excludes(config, sources)                   how the files with a fault are left out, where others stay

What is kept of a source while it is read stands in exam_seen.py.

An item that is not read is not kept out of training either, and how well planted items are found says nothing of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilth.core.yaml_texts import in_brackets
from tilth.data import naming
from tilth.data.document import Verdict
from tilth.data.leaks.exam_seen import file_of
from tilth.data.leaks.exam_words import EMPTY, KEEPS, NAMED, PLACE, items_replaced, rows_left_out, without_items
from tilth.data.sources import Listing, SourceConfig
from tilth.data.sources.excluding import idle_patterns
from tilth.data.sources.inputs import Lost
from tilth.data.sources.losses import beside_others, judge, of_files, pattern_of
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


def excludes(against: Sequence[SourceConfig], sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a source says to do without the first of its files with a fault, where that leaves it others."""
    named = {source.source_name: source for source in against}
    for one in sources:
        source = named.get(one["name"])
        if source is None or source.path is None or not any(_faults(one)):
            continue
        files = [file for file in _with_faults(one) if beside_others(one["files"], file)]
        if files:
            patterns = ", ".join(in_brackets(pattern_of(source, file)) for file in files[:NAMED])
            yield f"`exclude: [{patterns}]` of {one['name']}"


def _with_faults(one: Mapping[str, Any]) -> list[str]:
    """The locators of the first files that are lost, of which rows are not looked for, or that give no item."""
    files = [locator for *_, locator in one["lost"]["first"]]
    rows = [name for rule, names in one["named"].items() if rule != EMPTY for name in names]
    files += [file_of(row) for row in [*rows, *one["replaced"]["first"]]]
    files += [name.rpartition(" (")[0] for name in one.get("nothing", {"first": ()})["first"]]
    return [*dict.fromkeys(files)]


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
