"""The tasks that read, as the pipeline plans them: which files go together, and what decides the name of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tilth.core.no_text import text_of_it
from tilth.core.tasks import Done, Task
from tilth.core.words import pattern_of_text
from tilth.data.config import DataConfig
from tilth.data.document import Verdict
from tilth.data.sources import Input, Listing, SourceConfig
from tilth.data.sources.excluding import idle_patterns
from tilth.data.sources.inputs import ARCHIVES, Lost
from tilth.data.sources.losses import judge, nothing_left
from tilth.data.sources.origins import ORIGINS
from tilth.data.sources.undecoded import note, note_of_pages
from tilth.data.sources.unusable import notes
from tilth.data.tasks import collect


def collect_tasks(config: DataConfig, listings: Sequence[Listing]) -> list[Task]:
    """A task for each group of files of each source; `listings` are those of the sources."""
    tasks = []
    for source, listing in zip(config.sources, listings, strict=True):
        skipped, identity = listing.skipped, listing.passed_over
        for group in _groups(listing.inputs, config.shard_bytes):
            tasks.append(_collect_task(source, group, skipped, identity, config.shard_bytes))
            skipped, identity = (), []
    return tasks


def losses(config: DataConfig, listings: Sequence[Listing], collected: Sequence[Done]) -> Iterator[str]:
    """What should be said of each source that has files which are not to be had, or could not be read to their end.

    Raises:
        DataError: a source has too many of them.
    """
    for source, listing in zip(config.sources, listings, strict=True):
        if said := judge(source, *_lost(source, listing, collected)):
            yield said


def _lost(source: SourceConfig, listing: Listing, collected: Sequence[Done]) -> tuple[int, int, list[Lost]]:
    """How many files a source has, how many of them are lost, and the first of these."""
    own = [done.facts["lost"] for done in collected if done.task.arguments["source"] is source]
    first = [*listing.lost, *(Lost(*one) for lost in own for one in lost["first"])][:3]
    return (
        len(listing.inputs) + len(listing.lost),
        len(listing.lost) + sum(lost["files"] for lost in own),
        first,
    )


def faults(config: DataConfig, listings: Sequence[Listing], collected: Sequence[Done]) -> Iterator[str]:
    """What should be said of each source with rows that cannot be used, text that is not UTF-8 and is put in, or
    patterns that leave nothing out.
    """
    for source, listing in zip(config.sources, listings, strict=True):
        own = [done.facts for done in collected if done.task.arguments["source"] is source]
        # What was read by an earlier version says nothing of them.
        rows, text = ([facts[key] for facts in own if key in facts] for key in ("unusable", "undecoded"))
        yield from notes(source.source_name, rows)
        yield from idle_patterns(source.source_name, listing.unused, rows)
        if source.invalid_utf8 == "replace":
            yield from filter(None, (tell(source.source_name, text) for tell in (note, note_of_pages)))


def read_as(source: SourceConfig, inputs: Iterable[Input]) -> dict[str, Any]:
    """What a source says of how these files of it are read: where they come from is in them, and so is what `exclude:`
    left out, but for what it leaves out of archives.
    """
    said = source.model_dump(mode="json", exclude={*ORIGINS, "sha256", "exclude"} - {"builtin"})
    packed = [item.within for item in inputs if item.kind in ARCHIVES] if source.exclude else []
    return {**said, "exclude": source.exclude, "within": packed} if packed else said


def remedy_of_nothing(config: DataConfig, listings: Sequence[Listing], collected: Sequence[Done]) -> str:
    """What to do where no document is left: about the first rows that cannot be used, or else about lost files, and
    files in archives whose suffix is not known.
    """
    for done in collected:
        if of_rows := done.facts.get("unusable", {}).get("remedy"):
            return str(of_rows)
    of_lost, others = [], False
    for source, listing in zip(config.sources, listings, strict=True):
        files, lost, first = _lost(source, listing, collected)
        of_lost += [nothing_left(source, first)] if lost else []
        others |= lost < files
    unknown = (done.facts.get("passed_over", {}).get("read/unknown_suffix") for done in collected)
    of_others = []
    if names := next(filter(None, unknown), None):
        other = next((name for name in names if text_of_it(name) is None), None)
        how = (
            text_of_it(names[0]) if other is None else f"text is read from such by a pattern: {pattern_of_text(other)}"
        )
        of_others = [f"of files in archives of a suffix that is not known: {how}"]
    elif others or not of_lost:
        of_others = ["check that the files hold text, and the source's field and format"]
    return "; ".join([*dict.fromkeys(of_lost), *of_others])


def _groups(inputs: Sequence[Input], group_bytes: int) -> Iterator[list[Input]]:
    """Neighbouring files in groups of about `group_bytes`: the unit in which work is done and redone."""
    group: list[Input] = []
    size = 0
    for item in inputs:
        group.append(item)
        size += item.size
        if size >= group_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group


def _collect_task(
    source: SourceConfig,
    group: list[Input],
    skipped: Sequence[Verdict],
    passed_over: Sequence[tuple[str, str, str]],
    part_bytes: int,
) -> Task:
    arguments = {"source": source, "inputs": group, "skipped": skipped, "part_bytes": part_bytes}
    identity = {
        "source": read_as(source, group),
        "inputs": [item.identity() for item in group],
        "skipped": passed_over,
        "part_bytes": part_bytes,
    }
    return Task("collect", collect.collect, arguments, identity, collect.VERSION)
