"""Preflight: what is wrong with a run before anything is spent on it.

look(recipe, dataset) -> Preflight            all of it, for `tilth check`
before_training(recipe, dataset, run)         the start of `tilth train`: errors are raised, warnings handed back
summary.py                                    what `--json` prints

gather.py      facts.py: tokens.py (documents), vocabulary.py, run.py (rows, steps), memory.py, held_out.py
rules.py       facts to errors and warnings
sight.py       rows as they are read
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core.errors import RecipeError
from tilth.core.rundir import RunFolder
from tilth.data.dataset import Dataset
from tilth.distributed.runtime import long_from_main
from tilth.jobs.base import find_base
from tilth.jobs.preflight.facts import Facts
from tilth.jobs.preflight.gather import gather_facts
from tilth.jobs.preflight.rules import Fault, judge
from tilth.jobs.preflight.sight import Row, first_rows
from tilth.jobs.recipe import Recipe

_TOLD_BY_TRAINING = ("warmup", "batch")


@dataclass(frozen=True)
class Preflight:
    """What was found. `rows`: the first that training would read; none where a refusal stands in the way."""

    facts: Facts
    errors: list[Fault]
    warnings: list[Fault]
    rows: list[Row]

    @property
    def ok(self) -> bool:
        """Whether the run may begin."""
        return not self.errors

    def plain(self) -> dict[str, Any]:
        """What `tilth check --json` prints: counts, lengths, vocabulary, forecast, and what is wrong."""
        from tilth.jobs.preflight.summary import summary  # which reads this class

        return summary(self)


def look(recipe: Recipe, dataset: Dataset) -> Preflight:
    """Everything that can be said of a run before it begins."""
    facts, sampler = gather_facts(recipe, dataset, find_base(recipe))
    errors, warnings = judge(facts)
    masked = any(refusal.rule == "mask_token" for refusal in facts.refusals)
    rows = [] if sampler is None or masked else first_rows(facts.recipe, dataset, sampler)
    return Preflight(facts, errors, warnings, rows)


def before_training(recipe: Recipe, dataset: Dataset, run: Path) -> list[str]:
    """The warnings that a new run should have on record; one that has begun was looked at then.

    Raises RecipeError where a rule says that the run would be ruined. What a part refuses by itself is left to it: its
    error comes before the run folder is claimed as well.
    """
    if RunFolder(run).begun:
        return []

    def judged() -> list[str]:
        facts, _ = gather_facts(recipe, dataset, find_base(recipe), thorough=False)
        errors, warnings = judge(facts)
        ours = [fault for fault in errors if fault.error is None]
        if ours and len(ours) == len(errors):
            raise RecipeError("; ".join(fault.message for fault in ours), "; ".join(fault.remedy for fault in ours))
        return [f"{fault.message} (change {fault.remedy})" for fault in warnings if fault.rule not in _TOLD_BY_TRAINING]

    return long_from_main(judged)
