"""The products of a few rows with a weight, as this processor does them fastest: what a token costs is reading weights.

    product(linear, rows)      x [rows, in] -> [rows, out]
    with_weight(weight, bias, rows)
    together(linears, rows)    of several for the same x
    into(linears, places)      the same, written into `places`

Weights in bfloat16 go through kernels of tilth's own (`native.py`). Those in fp32 go through torch: MKL reads a weight
at a half to a quarter of the memory's rate where few rows are multiplied on a processor of AMD's; the same product cut
into batches goes another way through it. Which way is taken depends on the processor, the number of rows and the shape,
and never on a clock: the same text is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.core.environment import processor_vendor
from tilth.generate.native import kernels
from tilth.model.layers import is_linear

Change = Callable[[Tensor], Tensor]
"""[B, in] -> [B, out]; what it gave may be written over by its next call."""
_PIECES = 4
_FEW = 4  # rows: so few are columns beside the weight, more are rows before its transpose (docs/speed.md: the times)
_MOST = 64
_WORTH_IT = 1 << 17  # numbers of a weight: less lies in the cache whatever way is taken


def product(linear: nn.Module, rows: int) -> Change:
    """The product with a linear layer's weight, and its bias added; a layer that is no plain one is called as it is."""
    if not is_linear(linear):
        return linear
    return with_weight(linear.weight, linear.bias, rows)


def together(linears: Sequence[nn.Module], rows: int) -> Callable[[Tensor], Sequence[Tensor]]:
    """The products of several linear layers with the same x."""
    if not _halves(linears):
        each = [product(linear, rows) for linear in linears]
        return lambda x: [change(x) for change in each]
    places = [torch.empty(rows, linear.out_features) for linear in linears]
    write = into(linears, places)

    def change(x: Tensor) -> list[Tensor]:
        write(x)
        return places

    return change


def into(linears: Sequence[nn.Module], places: Sequence[Tensor]) -> Callable[[Tensor], None]:
    """A function that writes the products of x [B, in] into `places` [B, out], parts of a larger tensor."""
    if _halves(linears):
        return _written([(linear.weight, linear.bias) for linear in linears], places)
    steps = [_into(linear, place) for linear, place in zip(linears, places, strict=True)]

    def write(x: Tensor) -> None:
        for step in steps:
            step(x)

    return write


def _halves(linears: Sequence[nn.Module]) -> TypeGuard[Sequence[nn.Linear]]:
    return all(is_linear(linear) and linear.weight.dtype == torch.bfloat16 for linear in linears)


def _written(weights: Sequence[tuple[Tensor, Tensor | None]], places: Sequence[Tensor]) -> Callable[[Tensor], None]:
    found = kernels()
    assert found is not None, "a model in bfloat16 is read otherwise where there are no kernels"
    whole = [(weight.detach(), None if bias is None else bias.detach().float()) for weight, bias in weights]
    return found.products(whole, places)


def _into(linear: nn.Module, place: Tensor) -> Callable[[Tensor], object]:
    if not is_linear(linear):
        return lambda x: place.copy_(linear(x))
    weight: Tensor = linear.weight
    bias: Tensor | None = linear.bias
    pieces, turned = _in_pieces(weight, bias, len(place)), weight.t()
    if pieces is not None:
        return lambda x: place.copy_(pieces(x))
    if bias is None:
        return lambda x: torch.mm(x, turned, out=place)
    return lambda x: torch.addmm(bias, x, turned, out=place)


def with_weight(weight: Tensor, bias: Tensor | None, rows: int) -> Change:
    """The product with a weight [out, in], and a bias added."""
    if weight.dtype == torch.bfloat16:
        place = torch.empty(rows, len(weight))
        write = _written([(weight, bias)], [place])

        def change(x: Tensor) -> Tensor:
            write(x)
            return place

        return change
    return _in_pieces(weight, bias, rows) or partial(F.linear, weight=weight, bias=bias)


def _in_pieces(weight: Tensor, bias: Tensor | None, rows: int) -> Change | None:
    """The product in batches, where that is better; what is over when the weight is cut is a product of its own."""
    small = weight.numel() < _WORTH_IT or not weight.is_contiguous()
    if rows > _MOST or small or not _better_in_pieces():
        return None
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    even = len(weight) // _PIECES * _PIECES
    way = _by_columns if rows <= _FEW else _by_rows
    cut = way(weight[:even].view(_PIECES, -1, weight.shape[1]), None if bias is None else bias[:even], rows)
    if even == len(weight):
        return cut
    rest = partial(F.linear, weight=weight[even:], bias=None if bias is None else bias[even:])
    return lambda x: torch.cat((cut(x), rest(x)), 1)


@cache
def _better_in_pieces() -> bool:
    return processor_vendor() == "AuthenticAMD" and bool(torch._C.has_mkl)


def _by_columns(cut_PQI: Tensor, bias: Tensor | None, rows: int) -> Change:
    pieces, width = cut_PQI.shape[0], cut_PQI.shape[0] * cut_PQI.shape[1]
    if bias is None:
        return lambda x: torch.bmm(cut_PQI, x.t().expand(pieces, -1, -1)).view(width, rows).t()
    added = bias.view(pieces, -1, 1)
    return lambda x: torch.baddbmm(added, cut_PQI, x.t().expand(pieces, -1, -1)).view(width, rows).t()


def _by_rows(cut_PQI: Tensor, bias: Tensor | None, rows: int) -> Change:
    pieces, turned = cut_PQI.shape[0], cut_PQI.transpose(1, 2)
    if bias is None:
        return lambda x: torch.bmm(x.expand(pieces, -1, -1), turned).transpose(0, 1).reshape(rows, -1)
    added = bias.view(pieces, 1, -1)
    return lambda x: torch.baddbmm(added, x.expand(pieces, -1, -1), turned).transpose(0, 1).reshape(rows, -1)
