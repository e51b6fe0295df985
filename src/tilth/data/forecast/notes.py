"""What a forecast says beside its figures: what a sample does not show, and what preparing will say.

shown_by_samples(config, workspace) -> (DataConfig, notes)   the same without what a sample does not show
of_lost_files(found, groups), of_empty_splits(…)             notes; DataError where preparing will stop
sources_of(found, groups)                                    how much was sampled of each source
"""

from __future__ import annotations

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
        lost = [group.collected.facts["lost"] for group in own if group.collected]
        units = {unit.item.locator for group in own for unit in group.units}
        files = min(sum(each["files"] for each in lost), len(units))
        first = [Lost(*one) for each in lost for one in each["first"]][:3]
        if said := losses.judge(one.source, len(units), files, first):
            notes.append(said)
    return notes


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
