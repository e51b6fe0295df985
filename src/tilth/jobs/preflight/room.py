"""Whether the run that is foretold fits into the memory that there is, and its checkpoints onto the disk.

too_large(forecast, device)       the fault, if any
too_full(recipe, model, folder)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from tilth.core.environment import launched
from tilth.core.words import plural
from tilth.jobs.forecast_run import RunForecast
from tilth.jobs.preflight.fault import Fault
from tilth.jobs.preflight.memory import ModelFacts
from tilth.jobs.recipe import Recipe
from tilth.jobs.room import room_of

_CERTAIN, _FLOAT = 1.1, 4


def too_large(forecast: RunForecast | None, device: torch.device) -> Iterator[tuple[bool, Fault]]:
    """The fault of a run that should take more memory than there is, and whether that is certain: a forecast may be off
    by a tenth.
    """
    room = room_of(device)
    if forecast is None or room is None:
        return
    beside = launched().local_size if device.type == "cpu" else 1
    needed = forecast.memory.total * beside
    if needed <= room:
        return
    of = f" in {beside} processes" if beside > 1 else ""
    yield (
        needed > _CERTAIN * room,
        Fault(
            "memory",
            f"the run should take {needed / 1e9:,.1f} GB of memory{of} with {plural(forecast.micro_batch, 'row')} at "
            f"once, and {device.type} has {room / 1e9:,.1f} GB",
            f"`tilth check RECIPE --fit {room / 1e9:.0f}GB` says what would fit: a smaller train.micro_batch or "
            "model.context_length, train.activation_checkpointing: full, or an adapter",
        ),
    )


def too_full(recipe: Recipe, model: ModelFacts | None, folder: Path) -> Iterator[tuple[bool, Fault]]:
    """The fault of a run whose checkpoints take more than is free on the disk of `folder`, and whether that is certain:
    not even the first could be written. Others may fill the disk, or make room, meanwhile.
    """
    if model is None:
        return
    kept = recipe.train.checkpoint
    weights = _FLOAT * (model.parameters if recipe.adapter is None else model.trained)
    one = weights + model.optimizer
    held = kept.keep + kept.best
    most = (held + 1) * one + weights  # the next is whole before the oldest goes; final/ has the weights
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free >= most:
        return
    message = (
        f"a checkpoint takes {_size(one)}, {held + 1} of them and final/ {_size(most)}, and the disk of {existing} "
    )
    message += f"has {_size(free)} free"
    remedy = "--run: a folder on another disk, or make room"
    fewer = f"; train.checkpoint: {{keep: 1, best: false}} takes {_size(2 * one + weights)}"
    yield free < one, Fault("disk", message, remedy + fewer * (held > 1))


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6)):,} MB"
