"""The groups that a sample is dealt out to, and what the tasks say of each.

Terms                              how much is looked at
drawn_groups(found, terms)         the sample, by source and kind of file
counted(group, encoded)            what was counted in a group; `tokens_of` a task
disk_of(folder)                    bytes of a folder
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilth.core.tasks import Done
from tilth.data.forecast.units import Found, Unit, by_kind, cut, draw
from tilth.data.plans.workshop import Cleaned

PIECES_BY = "pieces:"
"""Before the stage and name of what cuts documents up: how many more there are behind it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How much of the sources is looked at.

    Attributes:
        sample_bytes: of all sources together, as they lie on disk.
        seconds: no further go is begun when it would end later.
        seed: draws the sample.
    """

    sample_bytes: int = 32_000_000
    seconds: float = 60.0
    seed: int = 0


@dataclass
class Group:
    """A part of the sample: of files of one source and kind, which are `whole` bytes in all.

    Attributes:
        files: how many files these are; 0 where some had to be cut.
    """

    source: int
    kind: str
    whole: int
    files: int
    units: list[Unit]
    covered: int = 0
    collected: Done | None = None
    cleaned: Cleaned | None = None


def drawn_groups(found: Sequence[Found], terms: Terms) -> list[Group]:
    """The sample: of each source and kind of file its share, dealt out to groups that stand for as much."""
    whole = sum(one.size for one in found) or 1
    least = terms.sample_bytes // (4 * len(found))
    groups = []
    for number, one in enumerate(found):
        budget = max(terms.sample_bytes * one.size // whole, least)
        for units in by_kind(cut(one, budget)):
            size, kind = sum(unit.covered for unit in units), units[0].item.kind
            # Of a file that is read from its front only the beginning is among the units.
            whole_kind = sum({unit.item.locator: unit.item.size for unit in units}.values())
            share = budget * whole_kind / max(1, one.size) / max(1, size)
            count = len(units) if all(unit.whole for unit in units) else 0
            groups += [Group(number, kind, whole_kind, count, own) for own in draw(units, min(1.0, share), terms.seed)]
    return groups


def tokens_of(done: Done) -> int:
    """How many tokens a task that encodes made."""
    return sum(split["tokens"] for split in done.facts.values() if isinstance(split, dict) and "tokens" in split)


def counted(group: Group, encoded: Done | None) -> dict[str, float]:
    """What the tasks say of a group."""
    counts: defaultdict[str, float] = defaultdict(float)
    assert group.collected is not None
    tasks = [group.collected]
    for part in group.collected.facts["parts"]:
        counts["read_documents"] += part["documents"]
        counts["read_text_bytes"] += part["text_bytes"]
    if group.cleaned is not None and encoded is not None:
        facts = group.cleaned.digests.facts
        counts["cleaned_documents"], counts["cleaned_text_bytes"] = facts["documents"], facts["text_bytes"]
        signed = [group.cleaned.signatures] if group.cleaned.signatures else []
        tasks += [*group.cleaned.stages, group.cleaned.digests, *signed, encoded]
        before = counts["read_documents"]
        for stage in group.cleaned.stages:
            # Never less than nothing: what is dropped is among the rules.
            counts[f"{PIECES_BY}clean/{stage.facts['stage']}"] += max(0, stage.facts["documents"] - before)
            before = stage.facts["documents"]
        shards = [split for split in encoded.facts.values() if isinstance(split, dict) and "tokens" in split]
        counts["encoded_bytes"] = sum(shard["text_bytes"] for shard in shards)  # without duplicates within the sample
        counts["encoded_documents"] = sum(shard["documents"] for shard in shards)
        counts["tokens"] = tokens_of(encoded)
        counts["refused"] = sum(encoded.facts["rules"].get("dropped", {}).values())  # by what makes tokens of it
        counts["refused_bytes"] = sum(encoded.facts.get("dropped_bytes", {}).values())
        counts["dataset"] = disk_of(encoded.folder)
    for done in tasks:
        counts["disk"] += disk_of(done.folder)
        for verdict, rules in done.facts["rules"].items():
            for rule, number in rules.items():
                counts[f"{verdict}:{rule}"] += number
    return dict(counts)


def disk_of(folder: Path | str) -> int:
    """Bytes of all files in a folder and below, which need not be there. Asked hundreds of times, of thousands of
    files: paths as objects cost more.
    """
    if not Path(folder).is_dir():
        return 0
    with os.scandir(folder) as found:
        return sum(disk_of(one.path) if one.is_dir(follow_symlinks=False) else one.stat().st_size for one in found)
