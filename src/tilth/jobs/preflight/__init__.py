"""Preflight: what is wrong with a run before anything is spent on it.

look(recipe, dataset, …) -> Preflight         all of it, for `tilth check`
before_training(recipe, dataset, base, run)   the start of `tilth train`: errors are raised, warnings handed back
summary.py                                    what `--json` prints

gather.py      facts.py: tokens.py (documents), vocabulary.py, run.py (rows, steps), memory.py, held_out.py
room.py        whether the forecast is of more memory than there is, and checkpoints of more disk
rules.py       facts to errors and warnings: text_rules.py, run_rules.py
sight.py       rows as they are read
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tilth.core.environment import launched
from tilth.core.errors import RecipeError
from tilth.core.rundir import RunFolder
from tilth.data.dataset import Dataset
from tilth.distributed.runtime import long_from_main, pick_device
from tilth.jobs.base import Base, find_base
from tilth.jobs.forecasting.fit import Fit, fits
from tilth.jobs.forecasting.forecast_run import RunForecast, run_forecast
from tilth.jobs.forecasting.micro_rows import choose_precision, planned_rows
from tilth.jobs.forecasting.paper_run import NoForecastError
from tilth.jobs.forecasting.recomputed import recomputing, settle_recomputed
from tilth.jobs.parts import complete_model
from tilth.jobs.preflight.facts import Facts
from tilth.jobs.preflight.fault import Fault
from tilth.jobs.preflight.gather import gather_facts
from tilth.jobs.preflight.room import too_full, too_large
from tilth.jobs.preflight.rules import judge
from tilth.jobs.preflight.sight import Row, first_rows
from tilth.jobs.preflight.summary import summary_of
from tilth.jobs.recipe import Recipe

Say = Callable[[str], None]
_TOLD_BY_TRAINING = ("warmup", "batch")


@dataclass(frozen=True)
class Preflight:
    """What was found.

    Attributes:
        rows: the first that training would read; none where a refusal stands in the way.
        forecast: None there too, and for a class of transformers' that goes by numbers.
        fits: what would fit into the memory that was asked about.
    """

    facts: Facts
    errors: list[Fault]
    warnings: list[Fault]
    rows: list[Row]
    forecast: RunForecast | None
    fits: list[Fit]

    @property
    def ok(self) -> bool:
        """Whether the run may begin."""
        return not self.errors

    def plain(self) -> dict[str, Any]:
        """What `tilth check --json` prints: counts, lengths, vocabulary, forecast, and what is wrong."""
        return summary_of(self.facts, self.errors, self.warnings, self.forecast, self.fits)


def look(
    recipe: Recipe,
    dataset: Dataset,
    room: int | None = None,
    say: Say = lambda text: None,
    run: Path | None = None,
    base: Base | None = None,
) -> Preflight:
    """Everything that can be said of a run before it begins.

    Args:
        room: bytes of memory into which it should fit: `fits` then says what would.
        say: told what it is at, where that takes a while.
        run: the folder that it will have; left out: runs/NAME.
        base: the checkpoint of `model.from`, where it was found already.
    """
    base = base or find_base(recipe)
    facts, sampler = gather_facts(recipe, dataset, base)
    errors, warnings = judge(facts)
    masked = any(refusal.rule == "mask_token" for refusal in facts.refusals)
    rows = [] if sampler is None or masked else first_rows(facts.recipe, dataset, sampler)
    found, fitting = _forecast(facts, dataset, base, room, say)
    large = too_large(found, facts.recipe, pick_device(recipe.train.device))
    full = too_full(facts, run or Path("runs") / recipe.name, found.seconds if found else None)
    for certain, fault in chain(large, full):
        (errors if certain else warnings).append(fault)
    return Preflight(facts, errors, warnings, rows, found, fitting)


def _forecast(
    facts: Facts, dataset: Dataset, base: Base | None, room: int | None, say: Say
) -> tuple[RunForecast | None, list[Fit]]:
    """Of one process; precision and rows at once are chosen as the run would choose them now."""
    recipe, run = facts.recipe, facts.run
    if facts.model is None or run is None:
        return None, []
    config = complete_model(base.config if base else recipe.model, dataset.tokenizer, grows=base is not None)
    device, share = pick_device(recipe.train.device), -(-run.rows_per_step // launched().world_size)
    precision = choose_precision(recipe, config, share, device)
    recipe = recomputing(recipe, settle_recomputed(recipe, config, share, device, precision)[0])
    micro_rows = planned_rows(recipe, config, share, device, precision)
    kinds: dict[str, Any] = {"precision": precision, "rows": share, "steps": run.steps}
    held_out = dataset.stream("validation").tokens
    try:
        found = run_forecast(recipe, config, micro_rows, device, held_out=held_out, **kinds)
        return found, [] if room is None else fits(recipe, config, device, room, precision, say)
    except NoForecastError:
        return None, []


def before_training(recipe: Recipe, dataset: Dataset, base: Base | None, run: Path) -> list[str]:
    """The warnings that a new run should have on record; one that has begun was looked at then.

    Raises RecipeError where a rule says that the run would be ruined. What a part refuses by itself is left to it: its
    error comes before the run folder is claimed as well; but for the model, which is built after that.
    """
    if RunFolder(run).begun:
        return []

    def judged() -> list[str]:
        facts, _ = gather_facts(recipe, dataset, base, thorough=False)
        errors, warnings = judge(facts)
        if of_model := next((fault.error for fault in errors if fault.rule == "model" and fault.error), None):
            raise of_model
        for certain, fault in too_full(facts, run):
            (errors if certain else warnings).append(fault)
        ours = [fault for fault in errors if fault.error is None]
        if ours and len(ours) == len(errors):
            raise RecipeError("; ".join(fault.message for fault in ours), "; ".join(fault.remedy for fault in ours))
        return [f"{fault.message} (change {fault.remedy})" for fault in warnings if fault.rule not in _TOLD_BY_TRAINING]

    return long_from_main(judged)
