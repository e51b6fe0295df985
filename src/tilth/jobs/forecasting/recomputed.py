"""Which layers are computed again on the way back (model/recompute.py): those of the recipe, or as few as memory asks.

    settle_recomputed(recipe, config, …) -> (layers, a line)     what `auto` comes to
    recomputing(recipe, layers)                                  the recipe with that in its place
    draws_otherwise(recipe, config, device)                      what would be wrong on this device

Numbers do not depend on it: a run that goes on, perhaps elsewhere, may settle it anew.
"""

from __future__ import annotations

from typing import Literal

import torch

from tilth.core.environment import Precision
from tilth.core.words import plural
from tilth.jobs.forecasting.forecast_run import memory_forecast
from tilth.jobs.forecasting.micro_rows import FILLED, fewest_rows, fits_by_far, most_within
from tilth.jobs.forecasting.paper_run import NoForecastError
from tilth.jobs.forecasting.room import gib, room_for
from tilth.jobs.recipe import Recipe
from tilth.model.wrapped import AnyConfig

Layers = Literal["auto", "none", "full"] | int
"""As `train.activation_checkpointing` names them."""


def settle_recomputed(
    recipe: Recipe, config: AnyConfig, share: int, device: torch.device, precision: Precision, rows: int | None = None
) -> tuple[Layers, str]:
    """What the recipe says, or for `auto` as few as bring its rows within what there is; and what is to be said of it
    (nothing where it was not asked, or is none).

    A forecast takes a second or so, and up to five of them are made; none where all should fit by far.

    Args:
        share: rows of a process's part of a batch.
        rows: that go through at once, where `micro_batch: auto` has been decided.
    """
    if recipe.train.activation_checkpointing != "auto":
        return recipe.train.activation_checkpointing, ""
    layers, asked, room = config.num_hidden_layers, recipe.train.micro_batch, room_for(recipe, device)
    rows = min(share, rows or (asked if isinstance(asked, int) else fewest_rows(config, share, device)))
    if room is None or fits_by_far(recipe, config, rows, room) or draws_otherwise(recipe, config, device):
        return "none", ""

    def size(kept: int) -> int:
        less = recomputing(recipe, _named(layers - kept, layers))
        return memory_forecast(less, config, rows, device, precision=precision, rows=share, held_out=0).total

    within = int(FILLED * room)
    try:
        if size(layers) <= within:
            return "none", ""
        kept = most_within(within, 0, layers - 1, size)  # where some are computed again sizes are on a line
        taken = size(kept)
    except NoForecastError:  # also of classes of transformers' that do not know how
        return "none", ""
    again = f"{layers - kept} of {layers}" if kept else "all"
    end = f"fit into {gib(within)}" if taken <= within else f"come nearer to {gib(within)}: they take {gib(taken)}"
    said = f"{again} layers are computed again on the way back, so that {plural(rows, 'row')} at once {end}"
    return _named(layers - kept, layers), said


def recomputing(recipe: Recipe, layers: Layers) -> Recipe:
    """The recipe with so many layers in place of what it says."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"activation_checkpointing": layers})})


def draws_otherwise(recipe: Recipe, config: AnyConfig, device: torch.device) -> list[str]:
    """The keys of what is dropped, on a device where torch does not give a layer that is computed again the draws that
    it had; none elsewhere.
    """
    if device.type != "mps":
        return []
    drops = [name for name in ("dropout", "attention_dropout") if getattr(config, name, None)]
    return [*drops, "adapter.dropout"] if recipe.adapter is not None and recipe.adapter.dropout else drops


def _named(again: int, layers: int) -> Layers:
    return "none" if not again else "full" if again == layers else again
