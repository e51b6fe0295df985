"""Dropout that is drawn for each row of the global batch, and fast on a CPU.

    with drawing(seed, first_row, rows): model(...)     masks follow from (seed, place in the model, row)

torch draws a mask of one number after another: on a CPU ten times slower than what dropout does with it, and other
masks for every cut into micro-batches. Here 16 random bits decide each element (numpy's PCG64, four elements to a
draw), and a row's bits stand at a place of the stream that its number gives. So the same rows lose the same elements in
micro-batches of any size and over any number of processes, and a forward pass that is done again, for activation
checkpointing, draws the same. Measured on one thread of 2 (6.3 M elements, fp32): 66 ms by torch, 9 ms so.

Outside of `drawing`, and on other devices than the CPU, it is torch's own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.core.random import derive_seed
from tilth.model.paper import on_paper

_LEVELS = 1 << 16
_PER_DRAW = 4  # elements that 64 bits decide


@dataclass(frozen=True, slots=True)
class _Draws:
    seed: int
    first_row: int
    rows: int


_now: _Draws | None = None


@contextlib.contextmanager
def drawing(seed: int, first_row: int, rows: int) -> Iterator[None]:
    """Within it, dropout is drawn from `seed` for rows `first_row`, … of the global batch.

    Args:
        rows: how many rows go through the model. What is dropped from is theirs in equal parts, one after the other;
            what is not (positions, in classes of transformers', belong to all rows) torch draws for.
    """
    global _now
    before, _now = _now, _Draws(seed, first_row, rows)
    try:
        yield
    finally:
        _now = before


class Dropout(nn.Module):
    """Sets elements to zero with probability p (to 1/65,536) and scales the others so that the mean stays.

    Attributes:
        site: the place in the model, from which its draws follow; empty: torch draws.
        kept: what stays (1, else 0; uint8), where that was drawn beforehand: a compiled graph cannot draw.
    """

    def __init__(self, p: float, site: str = "") -> None:
        super().__init__()
        self.p, self.site = p, site
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.p or not self.training:
            return x
        scale = 1 / (1 - self._drops / _LEVELS)
        if self.kept is not None:
            return self.kept.to(x.dtype) * x * scale
        if x.device.type != "cpu" or _now is None or not self.site or x.numel() % _now.rows:
            return F.dropout(x, self.p)
        kept: Tensor = _Masked.apply(x, _kept(x, self._drops, self.site, _now), scale)  # type: ignore[no-untyped-call]
        return kept

    def draw(self, shape: torch.Size, beside: Tensor) -> None:
        """Sets `kept` for what has this shape, where `forward` would not leave it to torch.

        Args:
            beside: what is on the same device, or on paper.
        """
        if self.p and self.training and beside.device.type == "cpu" and _now is not None and self.site:
            self.kept = _stays(_numbers(shape, beside, self.site, _now), self._drops).view(shape)

    @property
    def _drops(self) -> int:
        return min(round(self.p * _LEVELS), _LEVELS - 1)  # all of them would leave nothing to scale


def name_sites(model: nn.Module) -> None:
    """Gives every Dropout its path in the model as `site`."""
    for path, module in model.named_modules():
        if isinstance(module, Dropout):
            module.site = path


def _kept(x: Tensor, drops: int, site: str, draws: _Draws) -> Tensor:
    """1 for what stays of `x`, else 0 (uint8); `drops` of 65,536 go."""
    return _stays(_numbers(x.shape, x, site, draws), drops).view(x.shape)


def _numbers(shape: torch.Size, beside: Tensor, site: str, draws: _Draws) -> Tensor:
    return torch.empty(shape, dtype=torch.int16) if on_paper(beside) else _drawn(shape, site, draws)


def _stays(numbers: Tensor, drops: int) -> Tensor:
    return (numbers >= drops - _LEVELS // 2).view(torch.uint8)


def _drawn(shape: torch.Size, site: str, draws: _Draws) -> Tensor:
    """16 random bits for each element, int16 [rows, elements of a row]."""
    of_row = math.prod(shape) // draws.rows
    needed = -(-of_row // _PER_DRAW)
    bits = np.random.PCG64DXSM(derive_seed(draws.seed, site))
    bits.advance(draws.first_row * needed)
    return torch.from_numpy(bits.random_raw(draws.rows * needed).view(np.int16).reshape(draws.rows, -1)[:, :of_row])


class _Masked(torch.autograd.Function):
    """x * kept * scale, keeping one byte for each element and no product: torch multiplies by bytes slowly."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return kept.to(x.dtype).mul_(x).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (kept,), (gradient,) = ctx.saved_tensors, gradients
        return kept.to(gradient.dtype).mul_(gradient).mul_(ctx.scale), None, None
