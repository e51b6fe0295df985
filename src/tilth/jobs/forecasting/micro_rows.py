"""How a batch is computed: rows that go through the model at once, and the precision; the recipe's, or what is best on
this machine.

    choose_micro_rows(recipe, …)     on a CPU the fastest by a short measurement, on CUDA the most that fit
    choose_precision(recipe, …)      what products of that size are faster in
    largest_fitting(recipe, …)       the most that fit by the forecast of memory (forecast_run.py)
    most_within(room, …)             of anything that takes more the more there is of it
    fits_by_far(recipe, …)           whether a forecast is not needed
    check_one_row(recipe, …)         that one does

Memory and speed depend on the rows, the gradient does not but for rounding and dropout's masks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch

from tilth.core.environment import Precision
from tilth.core.errors import RecipeError
from tilth.data.batches.loader import Loader
from tilth.jobs.forecasting.forecast_run import memory_forecast
from tilth.jobs.forecasting.paper_run import NoForecastError
from tilth.jobs.forecasting.room import gib, has, least_bytes, least_slots, room_for, smaller
from tilth.jobs.recipe import Recipe
from tilth.model.precision import resolve_precision
from tilth.model.wrapped import AnyConfig, AnyModel
from tilth.model.wrapped_config import WrappedConfig
from tilth.training.probe import Trial, fastest, largest

_MOST = 1 << 30  # activations on a CPU: larger micro-batches gain nothing there
FILLED = 0.9  # of the memory: the forecast may be wrong, and others need some
_CACHED = 8 << 20  # activations that stay in a processor's cache: all at once is fastest, and nothing is measured
_FEWEST_TOKENS = 512  # of a pass; measured on one thread, 4 layers of 128: 64 take 1.9 times as long each, 256 1.1
_FEWEST_ELSEWHERE = 4096  # the same of a GPU
_PAIR_BYTES = 8  # of two positions, at least: a score or a mask, where a kernel does not do without
_SCORE_BYTES = 16  # of two positions, a layer and a head: a score, its softmax, what is dropped of it and the mask
_PROCESS = 512 << 20  # at the most, without model and data
_OF_ROWS = ("activations", "working", "loss")
_SLOW_FLOPS = 2e10  # of one row: to compare sizes would take too long, and the products are large in any case


def choose_micro_rows(
    recipe: Recipe, config: AnyConfig, model: AnyModel, loader: Loader, device: torch.device, precision: Precision
) -> int:
    """What the recipe says, or for `auto` what is found here; at most this process's share of the global batch.

    On a CPU it is measured, unless all of the share is small or one row takes long already; on CUDA it is the most
    that fit by the forecast and then, two passes in a row beside the optimizer's state, in truth. Elsewhere by the
    forecast alone.

    Args:
        model: as it will train.
    """
    share = loader.share_rows
    if isinstance(recipe.train.micro_batch, int):
        return min(recipe.train.micro_batch, share)
    rows = largest_fitting(recipe, config, share, device, precision)
    trial = Trial(model, device, precision, loader.peek, _optimizer_bytes(recipe, model))
    if device.type == "cuda":
        rows = largest(rows, trial.fits)
        torch.cuda.reset_peak_memory_stats(device)  # what is told of the run is not the trial's
    elif device.type == "cpu" and _worth_measuring(config, model, share):
        rows = fastest(_sizes(share, rows, config.context_length), trial.seconds) or rows
    return rows


def choose_precision(recipe: Recipe, config: AnyConfig, share: int, device: torch.device) -> Precision:
    """What the recipe says, or for `auto` what products as large as this run's are faster in."""
    asked = recipe.train.micro_batch
    rows = min(asked, share) if isinstance(asked, int) else _within_bound(recipe, config, share, device)
    shape = (rows * config.context_length, config.hidden_size, config.mlp_size)
    return resolve_precision(recipe.train.precision, device, *shape)


def planned_rows(recipe: Recipe, config: AnyConfig, share: int, device: torch.device, precision: Precision) -> int:
    """What `choose_micro_rows` begins from, without a model: the run itself may find fewer to be faster."""
    asked = recipe.train.micro_batch
    return min(asked, share) if isinstance(asked, int) else largest_fitting(recipe, config, share, device, precision)


def largest_fitting(recipe: Recipe, config: AnyConfig, share: int, device: torch.device, precision: Precision) -> int:
    """The most rows of which a step still fits by its forecast, in equal pieces of the share; on a CPU at most those
    whose activations stay within 1 GiB. An evaluation has rows of its own.
    """
    room, bounded = room_for(recipe, device), _within_bound(recipe, config, share, device)
    if room is None:
        return bounded
    if device.type != "cuda" and fits_by_far(recipe, config, bounded, room):
        return bounded
    rows = share if device.type == "cuda" else bounded
    forecast = functools.partial(
        memory_forecast, recipe, config, device=device, precision=precision, rows=share, held_out=0
    )
    try:
        return _even(share, most_within(int(FILLED * room), 1, rows, lambda tried: forecast(tried).total))
    except NoForecastError:
        return bounded


def check_one_row(recipe: Recipe, config: AnyConfig, device: torch.device, precision: Precision) -> None:
    """RecipeError where not even a row fits by the forecast: the system would rather end the process than refuse."""
    room = room_for(recipe, device)
    if room is None or fits_by_far(recipe, config, 1, room):
        return
    try:
        found = memory_forecast(recipe, config, 1, device, precision=precision, held_out=0)
    except NoForecastError:
        return
    if found.total <= room:
        return
    part, most = max(found.parts.items(), key=lambda one: one[1])
    again = "" if recipe.train.activation_checkpointing == "full" else " or train.activation_checkpointing: full"
    fewer = f"set a smaller model.context_length{again}, or " if part in _OF_ROWS else ""
    raise RecipeError(
        f"model.context_length {config.context_length:,}: training takes {gib(found.total)} by its forecast with a "
        f"single row at once ({part}: {gib(most)}), and {has(recipe, device)}",
        fewer + smaller(recipe, device),
    )


def most_within(room: int, least: int, most: int, size: Callable[[int], int]) -> int:
    """The largest number, so much at most and `least` in any case, of which the size is within the room. Sizes are
    asked for at the crossings of lines through those that are known, for each takes a second or two.
    """
    size = functools.cache(size)
    if least == most or size(most) <= room:
        return most
    if size(least) > room:
        return least
    fits, not_any_more, questions = least, most, 0
    while fits + 1 < not_any_more:
        each, questions = (size(not_any_more) - size(fits)) / (not_any_more - fits), questions + 1
        crossing = fits + int((room - size(fits)) / each)
        if questions > 3 and questions % 2:  # sizes are bent
            crossing = (fits + not_any_more) // 2
        tried = min(max(crossing, fits + 1), not_any_more - 1)
        fits, not_any_more = (tried, not_any_more) if size(tried) <= room else (fits, tried)
    return fits


def fewest_rows(config: AnyConfig, share: int, device: torch.device) -> int:
    """So many that a pass is worth its calls; of these `micro_batch: auto` takes no fewer while other things help."""
    tokens = _FEWEST_TOKENS if device.type == "cpu" else _FEWEST_ELSEWHERE
    return min(share, math.ceil(tokens / config.context_length))


def fits_by_far(recipe: Recipe, config: AnyConfig, rows: int, room: int) -> bool:
    """Whether so many rows take less than half of the room by a rough count, so that nobody needs a forecast, which
    takes a second or two.
    """
    pairs = _PAIR_BYTES * config.context_length**2
    if isinstance(config, WrappedConfig):
        pairs += _kept_scores(config, max(1, config.hidden_size // 64))
    elif config.attention_drop:
        pairs += _kept_scores(config, config.num_attention_heads)
    return _PROCESS + least_bytes(recipe, config) + rows * (_row_bytes(config) + pairs) < room // 2


def _kept_scores(config: AnyConfig, heads: int) -> int:
    """Of a row, where attention keeps its scores for the way back: dropout goes over them, or a class that is not
    tilth's may.
    """
    return _SCORE_BYTES * config.num_hidden_layers * heads * config.context_length**2


def _within_bound(recipe: Recipe, config: AnyConfig, share: int, device: torch.device) -> int:
    """By activations alone. The logits do not count: they are never held whole."""
    room = room_for(recipe, device)
    bound = _MOST if room is None else room // 4 if device.type == "cuda" else min(_MOST, room // 4)
    return _even(share, max(1, bound // _row_bytes(config)))


def _row_bytes(config: AnyConfig) -> int:
    """Activations of a row, held for the backward pass."""
    return config.context_length * config.num_hidden_layers * (14 * config.hidden_size + 3 * config.mlp_size) * 4


def _even(share: int, most: int) -> int:
    """Rows of a piece, where the share is cut into as few as there must be, of equal size."""
    return math.ceil(share / math.ceil(share / most))


def _worth_measuring(config: AnyConfig, model: AnyModel, share: int) -> bool:
    row_flops = 6 * config.context_length * sum(parameter.numel() for parameter in model.parameters())
    return share * _row_bytes(config) > _CACHED and row_flops < _SLOW_FLOPS


def _sizes(share: int, most: int, context: int) -> list[int]:
    """The share, half of it, a quarter …, as far as they fit and are not too few; rising."""
    pieces = {math.ceil(share / 2**power) for power in range(share.bit_length() + 1)}
    sizes = sorted({size for size in pieces if size <= most} | {most})
    return [size for size in sizes if size * context >= _FEWEST_TOKENS] or sizes[-1:]


def _optimizer_bytes(recipe: Recipe, model: AnyModel) -> int:
    return 4 * least_slots(recipe) * sum(p.numel() for p in model.parameters() if p.requires_grad)
