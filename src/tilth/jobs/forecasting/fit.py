"""Which settings fit into so much memory: `tilth check RECIPE --fit 24GiB`.

parse_bytes("24GiB") -> int
fits(recipe, config, device, room) -> [Fit]      full and LoRA, with and without activation checkpointing
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import torch

from tilth.core.environment import Precision
from tilth.core.errors import RecipeError
from tilth.core.words import bytes_of
from tilth.jobs.forecasting.forecast_run import memory_forecast
from tilth.jobs.recipe import Recipe
from tilth.model.adapter_config import AdapterConfig
from tilth.model.wrapped import AnyConfig
from tilth.training.footprint import Desk

Checkpointing = Literal["none", "full"]
_LEAST = 1 << 20  # no run takes so little: who writes less means another unit
MOST = 4096
"""Rows at the most that are looked for."""
_FIRST = (8, 16)


@dataclass(frozen=True, slots=True)
class Fit:
    """The largest micro-batch of a way to train; 0 where not even one row fits, and `MOST` where that many do or more.

    Attributes:
        trains: `full`, or `lora`: the recipe's adapter, or one of the default rank.
        memory: bytes at the most, with so many rows; of one row where none fits. An evaluation is counted with one row.
        evaluate_tokens: `evaluate.batch_tokens` with which an evaluation fits, too; None where the recipe's does.
    """

    trains: Literal["full", "lora"]
    activation_checkpointing: Checkpointing
    micro_batch: int
    memory: int
    evaluate_tokens: int | None = None

    def plain(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {**asdict(self), "or_more": self.micro_batch == MOST}


def parse_bytes(text: str) -> int:
    """`24GiB`, `24GB` or `512MiB`; RecipeError for anything else."""
    remedy = "write it with its unit, as 24GiB, 24GB or 800MiB"
    size = bytes_of(text)
    if not size:
        raise RecipeError(f"--fit {text!r} is no amount of memory", remedy)
    if text.strip()[-1].isdigit():
        raise RecipeError(f"--fit {text!r} does not say of what", f"write the unit: --fit {text.strip()}GiB")
    if size < _LEAST:
        raise RecipeError(f"--fit {text!r} is {size:,} bytes: nothing can be trained in so little", remedy)
    return size


def fits(
    recipe: Recipe,
    config: AnyConfig,
    device: torch.device,
    room: int,
    precision: Precision,
    say: Callable[[str], None] = lambda text: None,
) -> list[Fit]:
    """All four ways, each with the most rows that fit; a forecast or five for each, which take a second or so.

    Args:
        recipe: with the shape filled in; its batch does not matter: as many rows go through at once as fit.
        room: bytes, all of which may be taken.
        say: told of each way before it is looked at.
    """
    found = list[Fit]()
    context, read = recipe.model.context_length, recipe.evaluate.batch_tokens
    one_row = context if recipe.data.split.validation else 0
    adapters = {"full": None, "lora": recipe.adapter or AdapterConfig()}
    for trains, adapter in adapters.items():
        for checkpointing in ("none", "full"):
            say(f"what would fit, {len(found) + 1} of 4: {trains}, activation_checkpointing {checkpointing}")
            train = recipe.train.model_copy(update={"activation_checkpointing": checkpointing})
            way = recipe.model_copy(update={"adapter": adapter, "train": train})

            kinds: dict[str, Any] = {"precision": precision, "desk": Desk(), "held_out": one_row}

            @cache
            def size(rows: int, way: Recipe = way, kinds: dict[str, Any] = kinds) -> int:
                return memory_forecast(way, config, rows, device, rows=2 * rows, **kinds).total

            rows, fewer = most_rows(room, size), None
            if one_row and 0 < rows * context < read:  # of no more rows than a step an evaluation takes less
                own = memory_forecast(way, config, rows, device, rows=2 * rows, precision=precision)
                fewer = rows * context if own.total > room else None
            found.append(Fit(trains, checkpointing, rows, size(max(1, rows)), fewer))  # type: ignore[arg-type]
    return found


def most_rows(room: int, size: Callable[[int], int]) -> int:
    """The most rows of which `size` is within `room`, up to `MOST`; 0 where that of one is not. It has asked for the
    size of what it returns, and below `MOST` of one row more.

    Each question takes a second, or more for many rows, and sizes are nearly straight lines, once the step is larger
    than an evaluation, which has its own rows. So it begins with a few rows, and asks where the line through the two
    sizes that are nearest to the room crosses it.
    """
    known = {rows: size(rows) for rows in _FIRST}
    while known[max(known)] <= room and _each(known, room) <= 0 and max(known) < MOST:
        more = min(MOST, 8 * max(known))
        known[more] = size(more)
    while True:
        fit = max((rows for rows, taken in known.items() if taken <= room), default=0)
        bad = min((rows for rows, taken in known.items() if taken > room and rows > fit), default=MOST + 1)
        if fit + 1 == bad:
            return fit
        near, each = min(known, key=lambda rows: abs(known[rows] - room)), _each(known, room)
        guess = near + (room - known[near]) / each if each > 0 else math.inf
        if (fit in known and guess < fit) or (bad in known and guess > bad):  # sizes are bent
            guess = (fit + bad) / 2
        rows = int(min(max(guess, fit + 1), bad - 1))
        known[rows] = size(rows)


def _each(known: dict[int, int], room: int) -> float:
    """What a row takes, by the two sizes that are nearest to the room."""
    one, other = sorted(known, key=lambda rows: abs(known[rows] - room))[:2]
    return (known[one] - known[other]) / (one - other)
