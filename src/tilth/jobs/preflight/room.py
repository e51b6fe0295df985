"""Whether the run that is foretold fits into the memory that there is, and its checkpoints onto the disk.

too_large(forecast, recipe, device)       the fault, if any
too_full(facts, run, seconds)
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from tilth.core.rundir import RunFolder
from tilth.core.words import plural
from tilth.jobs.forecasting.forecast_run import RunForecast
from tilth.jobs.forecasting.room import has, room_for
from tilth.jobs.preflight.facts import Facts
from tilth.jobs.preflight.fault import Fault
from tilth.jobs.recipe import Recipe

_CERTAIN, _FLOAT = 1.1, 4
_SLOWER = 2  # than its forecast a run may well be


def too_large(forecast: RunForecast | None, recipe: Recipe, device: torch.device) -> Iterator[tuple[bool, Fault]]:
    """The fault of a run that should take more memory than there is, and whether that is certain: a forecast may be off
    by a tenth.
    """
    room = room_for(recipe, device)
    if forecast is None or room is None or forecast.memory.total <= room:
        return
    takes, there = f"{_gb(forecast.memory.total)} of memory", has(recipe, device, _gb)
    fitting = f"`tilth check RECIPE --fit {_gb(room).replace(',', '').replace(' ', '')}` says what would fit"
    if forecast.memory.when == "evaluation":  # what makes a step smaller does not help there
        asked = recipe.evaluate.batch_tokens
        fewer = max(1, min(forecast.micro_batch * recipe.model.context_length, asked // 2))
        message = f"an evaluation should take {takes} with evaluate.batch_tokens {asked:,}, and {there}"
        remedy = f"evaluate.batch_tokens: {fewer}, of which the figures are the same; {fitting} beside it"
    else:
        message = f"the run should take {takes} with {plural(forecast.micro_batch, 'row')} at once, and {there}"
        full = "" if forecast.activation_checkpointing == "full" else "train.activation_checkpointing: full, "
        remedy = f"{fitting}: a smaller train.micro_batch or model.context_length, {full}or an adapter"
    yield forecast.memory.total > _CERTAIN * room, Fault("memory", message, remedy)


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def too_full(facts: Facts, run: Path, seconds: float | None = None) -> Iterator[tuple[bool, Fault]]:
    """The fault of a run whose checkpoints take more than is free on the disk of its folder, and whether that is
    certain: not even the first could be written. Others may fill the disk, or make room, meanwhile. A run that has
    begun is not looked at again: it may have ended, or most of what it writes may lie there.

    Args:
        seconds: how long all its steps should take; None where that is not known.
    """
    model, recipe = facts.model, facts.recipe
    if model is None or RunFolder(run).begun:
        return
    weights = _FLOAT * (model.parameters if recipe.adapter is None else model.trained)
    one, keep = weights + model.optimizer, recipe.train.checkpoint.keep
    best = recipe.train.checkpoint.best and recipe.data.split.validation > 0
    number = _at_once(facts, keep, best, seconds)
    most = number * one + weights  # final/ has the weights
    existing = next(path for path in [run.absolute(), *run.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free >= most:
        return
    of_all = f"{number} of them" if number > 1 else "it"
    message = f"a checkpoint takes {_size(one)}, {of_all} and final/ {_size(most)}, and the disk of {existing} "
    message += f"has {_size(free)} free"
    needs_best = recipe.train.final == "best"
    remedy, fewest = "--run: a folder on another disk, or make room", _at_once(facts, 1, needs_best, seconds)
    fewer = f"; train.checkpoint: {{keep: 1{'' if needs_best else ', best: false'}}} takes "
    fewer += _size(fewest * one + weights)
    yield free < one, Fault("disk", message, remedy + fewer * (fewest < number))


def _at_once(facts: Facts, keep: int, best: bool, seconds: float | None) -> int:
    """How many checkpoints lie there at once, at the most: those that are kept, and the next, which is whole before the
    oldest goes. A short run does not write so many.
    """
    kept, plan = keep + best + 1, facts.recipe.train.checkpoint
    if facts.run is None or facts.run.steps is None:
        return kept
    before_the_last = facts.run.steps - 1
    periods = [every for every in (plan.every_steps, facts.recipe.evaluate.every if best else None) if every]
    written = 1 + sum(before_the_last // every for every in periods)
    if len(periods) > 1:  # steps at which both are due
        written -= before_the_last // math.lcm(*periods)
    if plan.every_minutes is not None:
        written += before_the_last if seconds is None else int(_SLOWER * seconds / (60 * plan.every_minutes))
    return min(kept, written, facts.run.steps)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6)):,} MB"
