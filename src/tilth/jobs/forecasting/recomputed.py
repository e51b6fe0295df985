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
from tilth.jobs.forecasting.micro_rows import FILLED, PAIR_BYTES, fewest_rows, most_within, row_bytes
from tilth.jobs.forecasting.paper_run import NoForecastError
from tilth.jobs.forecasting.room import gib, least_bytes, room_for
from tilth.jobs.recipe import Recipe
from tilth.model.wrapped import AnyConfig

Layers = Literal["auto", "none", "full"] | int
"""As `train.activation_checkpointing` names them."""

_PROCESS = 512 << 20  # at the most, without model and data


def settle_recomputed(
    recipe: Recipe, config: AnyConfig, share: int, device: torch.device, precision: Precision
) -> tuple[Layers, str]:
    """What the recipe says, or for `auto` as few as bring its rows within what there is; and what is to be said of it
    (nothing where it was not asked, or is none).

    A forecast takes a second or so, and up to five of them are made; none where all should fit by far.

    Args:
        share: rows of a process's part of a batch.
    """
    if recipe.train.activation_checkpointing != "auto":
        return recipe.train.activation_checkpointing, ""
    layers = config.num_hidden_layers
    room, asked = room_for(recipe, device), recipe.train.micro_batch
    rows = min(share, asked) if isinstance(asked, int) else fewest_rows(config, share, device)
    row = row_bytes(config) + PAIR_BYTES * config.context_length**2
    about = _PROCESS + least_bytes(recipe, config) + rows * row
    if room is None or about < room // 2 or draws_otherwise(recipe, config, device):
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
    again = f"{layers - kept} of {layers}" if kept else f"all {layers}"
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
