"""Which settings fit into so much memory: `tilth check RECIPE --fit 24GiB`.

parse_bytes("24GiB") -> int
fits(recipe, config, device, room) -> [Fit]      full and LoRA, with and without activation checkpointing
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import torch

from tilth.core.environment import Precision
from tilth.core.errors import RecipeError
from tilth.jobs.forecast_run import memory_forecast
from tilth.jobs.recipe import Recipe
from tilth.model.adapter_config import AdapterConfig
from tilth.model.config import ModelConfig

Checkpointing = Literal["none", "full"]
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MOST = 4096


@dataclass(frozen=True, slots=True)
class Fit:
    """The largest micro-batch of a way to train; 0 where not even one row fits.

    Attributes:
        trains: `full`, or `lora`: the recipe's adapter, or one of the default rank.
        memory: bytes at the most, with so many rows; of one row where none fits.
    """

    trains: Literal["full", "lora"]
    activation_checkpointing: Checkpointing
    micro_batch: int
    memory: int

    def plain(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def parse_bytes(text: str) -> int:
    """`24GiB`, `24GB`, `512MiB` or a number of bytes; RecipeError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise RecipeError(f"--fit {text!r} is no amount of memory", "write it as 24GiB, 24GB or 800MiB")
    unit = _UNITS[found[2].upper()]
    if not found[3]:
        unit = round(1000 ** (unit.bit_length() // 10))
    return int(float(found[1]) * unit)


def fits(recipe: Recipe, config: ModelConfig, device: torch.device, room: int, precision: Precision) -> list[Fit]:
    """All four ways, each with the most rows that fit; a forecast or four for each.

    Args:
        recipe: with the shape filled in; its batch does not matter: as many rows go through at once as fit.
        room: bytes, all of which may be taken.
    """
    found = []
    adapters = {"full": None, "lora": recipe.adapter or AdapterConfig()}
    for trains, adapter in adapters.items():
        for checkpointing in ("none", "full"):
            train = recipe.train.model_copy(update={"activation_checkpointing": checkpointing})
            way = recipe.model_copy(update={"adapter": adapter, "train": train})

            @cache
            def size(rows: int, way: Recipe = way) -> int:
                return memory_forecast(way, config, rows, device, precision=precision, rows=2 * rows).total

            rows = most_rows(room, size)
            found.append(Fit(trains, checkpointing, rows, size(max(1, rows))))  # type: ignore[arg-type]
    return found


def most_rows(room: int, size: Callable[[int], int]) -> int:
    """The most rows of which `size` is within `room`; 0 where that of one is not.

    Sizes are nearly straight lines, and each takes a second or more: it asks where the line through those that are
    known crosses the room.
    """
    if size(1) > room:
        return 0
    fit, known, bad = 1, [1, 2], _MOST + 1
    while fit + 1 < bad:
        low, high = known
        each = max(1.0, (size(high) - size(low)) / (high - low))
        guess = int(min(max(low + (room - size(low)) / each, fit + 1), bad - 1))
        if size(guess) <= room:
            fit = guess
        else:
            bad = guess
        known = [1, guess] if guess > 2 else known
    return fit
