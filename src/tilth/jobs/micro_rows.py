"""How a batch is computed: rows that go through the model at once, and the precision; the recipe's, or what is best on
this machine.

    choose_micro_rows(recipe, …)     on a CPU the fastest by a short measurement, on CUDA the most that fit
    choose_precision(recipe, …)      what products of that size are faster in
    largest_fitting(config, …)       the most whose activations stay within a bound, by arithmetic alone

Memory and speed depend on the rows, the gradient does not but for rounding and dropout's masks.
"""

from __future__ import annotations

import math

import torch

from tilth.core.environment import Precision, total_memory_bytes
from tilth.data.loader import Loader
from tilth.jobs.recipe import Recipe
from tilth.jobs.room import least_slots
from tilth.model.precision import resolve_precision
from tilth.model.wrapped import AnyConfig, AnyModel
from tilth.train.probe import Trial, fastest, largest

_MOST = 1 << 30  # activations on a CPU: larger micro-batches gain nothing there
_CACHED = 8 << 20  # activations that stay in a processor's cache: all at once is fastest, and nothing is measured
_FEWEST_TOKENS = 512  # products of fewer rows than that are never faster
_SLOW_FLOPS = 2e10  # of one row: to compare sizes would take too long, and the products are large in any case


def choose_micro_rows(
    recipe: Recipe, config: AnyConfig, model: AnyModel, loader: Loader, device: torch.device, precision: Precision
) -> int:
    """What the recipe says, or for `auto` what is found here; at most this process's share of the global batch.

    On a CPU it is measured, unless all of the share is small or one row takes long already; on CUDA it is the most
    that fit by arithmetic and then, two passes in a row beside the optimizer's state, in truth. Elsewhere by arithmetic
    alone.

    Args:
        model: before anything is compiled, for every size would be compiled anew.
    """
    share = loader.share_rows
    if isinstance(recipe.train.micro_batch, int):
        return min(recipe.train.micro_batch, share)
    rows = largest_fitting(config, share, device)
    trial = Trial(model, device, precision, loader.peek, _optimizer_bytes(recipe, model))
    if device.type == "cuda":
        rows = largest(rows, trial.fits)
        torch.cuda.reset_peak_memory_stats(device)  # what is told of the run is not the trial's
    elif device.type == "cpu" and _worth_measuring(config, model, share):
        rows = fastest(_sizes(share, rows, config.context_length), trial.seconds) or rows
    return rows


def choose_precision(recipe: Recipe, config: AnyConfig, loader: Loader, device: torch.device) -> Precision:
    """What the recipe says, or for `auto` what products as large as this run's are faster in."""
    asked, share = recipe.train.micro_batch, loader.share_rows
    rows = min(asked, share) if isinstance(asked, int) else largest_fitting(config, share, device)
    shape = (rows * config.context_length, config.hidden_size, config.mlp_size)
    return resolve_precision(recipe.train.precision, device, *shape)


def largest_fitting(config: AnyConfig, share: int, device: torch.device) -> int:
    """The most rows whose activations stay within 1 GiB on a CPU, within a quarter of the memory on CUDA, in equal
    pieces of the share. The logits do not count: they are never held whole.
    """
    if device.type == "cuda":
        bound = torch.cuda.get_device_properties(device).total_memory // 4
    else:
        bound = min(_MOST, (total_memory_bytes() or 4 * _MOST) // 4)
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
