"""What a forecast says beside its figures: what a sample does not show, and what preparing will say.

shown_by_samples(config, workspace) -> (DataConfig, notes)   the same without what a sample does not show
of_lost_files(found, groups), of_empty_splits(…)             notes; DataError where preparing will stop
sources_of(found, groups)                                    how much was sampled of each source
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tilth.core.errors import DataError
from tilth.data.config import DataConfig
from tilth.data.forecast.groups import Group
from tilth.data.forecast.units import Found, not_here
from tilth.data.sources import losses
from tilth.data.sources.inputs import Lost


def shown_by_samples(config: DataConfig, workspace: Path) -> tuple[DataConfig, list[str]]:
    """The same without what a sample does not show: how many documents of the whole share a line, or hold text of files
    that are not here; and what to say of that.
    """
    left_out = ["lines that many documents share (data.shared_lines)"] if config.shared_lines is not None else []
    here = []
    for number, source in enumerate(config.decontaminate.against):
        if not_here(source, workspace):
            left_out.append(f"text of {source.source_name} (data.decontaminate.against.{number})")
        else:
            here.append(source)
    notes = [
        f"{what} cannot be told from a sample: documents kept, their text and tokens are given before that goes, "
        "and its time is not counted"
        for what in left_out
    ]
    decontaminate = config.decontaminate.model_copy(update={"against": here})
    return config.model_copy(update={"shared_lines": None, "decontaminate": decontaminate}), notes


def of_lost_files(found: Sequence[Found], groups: Sequence[Group]) -> list[str]:
    """What preparing will say of files that cannot be used, or not whole; DataError where it will stop at them."""
    notes = []
    for number, one in enumerate(found):
        own = [group for group in groups if group.source == number and group.collected]
        files, lost, first, pieces = _lost_of(own)
        if said := losses.judge(one.source, files, lost, first):
            notes.append(said)
        notes += [f"{each.said}; that is a piece of the file, and preparing goes by all of it" for each in pieces[:3]]
    return notes


def _lost_of(groups: Sequence[Group]) -> tuple[int, int, list[Lost], list[Lost]]:
    """How many files of a source are in these groups, how many of them are lost, the first of these, and the pieces
    that are lost of others: a file of which some piece can be used is not.
    """
    sampled = Counter(unit.item.locator for group in groups for unit in group.units)
    gone, others, named = Counter[str](), 0, list[Lost]()
    for group in groups:
        assert group.collected is not None
        lost = group.collected.facts["lost"]
        files = {unit.locator: unit.item.locator for unit in group.units}
        known = {place: files[place] for _, _, place in lost["first"]} if lost["files"] < len(files) else files
        gone.update(known.values())
        # More than the first few are not named: each that may be a file's only piece is taken for one.
        alone = sum(sampled[file] == 1 for place, file in files.items() if place not in known)
        others += min(lost["files"] - len(known), alone)
        named += [Lost(said, remedy, files[place]) for said, remedy, place in lost["first"]]
    whole = {file for file, pieces in gone.items() if pieces == sampled[file]}
    pieces = [one for one in named if one.locator not in whole]
    first = list({one.locator: one for one in reversed(named) if one.locator in whole}.values())[::-1]
    return len(sampled), len(whole) + others, (first or pieces)[:3], pieces


def of_empty_splits(look: Callable[[], None], found: Sequence[Found], groups: Sequence[Group]) -> list[str]:
    """What preparing will say of an empty split, where the sample shows it; DataError where all was sampled.

    Args:
        look: raises it where a split is empty.
    """
    try:
        look()
    except DataError as error:
        if sum(group.covered for group in groups) >= sum(one.size for one in found):
            raise
        return [f"of the sample {error.message}; {error.remedy}"]
    return []


def sources_of(found: Sequence[Found], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Each source, and how much of it was sampled."""
    rows = []
    for number, one in enumerate(found):
        covered = sum(group.covered for group in groups if group.source == number)
        rows.append(
            {
                "name": one.source.source_name,
                "files": len(one.inputs),
                "bytes": one.size,
                "sampled_bytes": min(covered, one.size),
                "not_sampled": one.missing,
            }
        )
    return rows
