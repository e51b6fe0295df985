"""The products of a few rows with a weight, as this processor does them fastest: what a token costs is reading weights.

    product(linear, rows)      x [rows, in] -> [rows, out]
    with_weight(weight, bias, rows)
    together(linears, rows)    of several for the same x
    into(linears, places)      the same, written into `places`

Weights in bfloat16 go through kernels of tilth's own (`native.py`). Those in fp32 go through torch: MKL reads a weight
at a half to a quarter of the memory's rate where few rows are multiplied on a processor of AMD's; the same product cut
into batches goes another way through it. Which way is taken depends on the processor, the number of rows and the shape,
and never on a clock: the same text is written twice. An adapter's small matrices are multiplied in fp32 by torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.core.environment import processor_vendor
from tilth.generate.native import kernels
from tilth.generate.widened import widened
from tilth.model.layers import is_linear
from tilth.model.lora import LoraLinear

Change = Callable[[Tensor], Tensor]
"""[B, in] -> [B, out]; what it gave may be written over by its next call."""
_PIECES = 4
_FEW = 4  # rows: so few are columns beside the weight, more are rows before its transpose (docs/speed.md: the times)
_MOST = 64
_WORTH_IT = 1 << 17  # numbers of a weight: less lies in the cache whatever way is taken


class _Parts(NamedTuple):
    """A layer as it is read here: a weight, and what an adapter beside it adds to the product y of x, where y lies."""

    weight: Tensor
    bias: Tensor | None
    add: Callable[[Tensor, Tensor], object] | None = None


def _parts(linear: nn.Module) -> _Parts | None:
    """None where it is called as it is: in four bits, or none of ours."""
    if is_linear(linear):
        return _Parts(linear.weight, linear.bias)
    if not isinstance(linear, LoraLinear) or linear.weight is None or linear.transposed:
        return None
    weight, bias, part = linear.weight, linear.bias, linear.part
    if part is None:
        return _Parts(weight, bias)
    a_IK, b_KO = part.lora_A.detach().float().t(), (part.lora_B.detach().float() * part.scaling).t()
    if part.magnitude is None:
        return _Parts(weight, bias, lambda x, y: y.addmm_(x @ a_IK, b_KO))
    scale_O, bias_O = _lengthening(linear), 0.0 if bias is None else bias.detach().float()
    return _Parts(weight, None, lambda x, y: y.addmm_(x @ a_IK, b_KO).mul_(scale_O).add_(bias_O))


@torch.no_grad()
def _lengthening(linear: LoraLinear) -> Tensor:
    """What DoRA multiplies each output with [O]."""
    wide = widened(linear)
    assert wide.part is not None and wide.part.magnitude is not None
    return wide.part.magnitude / wide.lengths(wide.part)


def product(linear: nn.Module, rows: int) -> Change:
    """The product with a linear layer's weight, its bias and what the chosen adapter gives added."""
    parts = _parts(linear)
    if parts is None:
        return linear
    change, add = with_weight(parts.weight, parts.bias, rows), parts.add
    if add is None:
        return change

    def adapted(x: Tensor) -> Tensor:
        y = change(x)
        add(x, y)
        return y

    return adapted


def together(linears: Sequence[nn.Module], rows: int) -> Callable[[Tensor], Sequence[Tensor]]:
    """The products of several linear layers with the same x."""
    halves = _halves(linears)
    if halves is None:
        each = [product(linear, rows) for linear in linears]
        return lambda x: [change(x) for change in each]
    places = [_place(rows, parts.weight) for parts in halves]
    write = _all_written(halves, places)

    def change(x: Tensor) -> list[Tensor]:
        write(x)
        return places

    return change


def into(linears: Sequence[nn.Module], places: Sequence[Tensor]) -> Callable[[Tensor], object]:
    """A function that writes the products of x [B, in] into `places` [B, out], parts of a larger tensor."""
    halves = _halves(linears)
    if halves is not None:
        return _all_written(halves, places)
    return _in_turn([_into(linear, place) for linear, place in zip(linears, places, strict=True)])


def _halves(linears: Sequence[nn.Module]) -> list[_Parts] | None:
    """What kernels read at once; None where one of them is not in bfloat16."""
    weights = [getattr(linear, "weight", None) for linear in linears]
    if not all(isinstance(weight, Tensor) and weight.dtype == torch.bfloat16 for weight in weights):
        return None
    found = [parts for linear in linears if (parts := _parts(linear)) is not None]
    return found if len(found) == len(linears) else None


def _all_written(halves: Sequence[_Parts], places: Sequence[Tensor]) -> Callable[[Tensor], object]:
    write = _written([(parts.weight, parts.bias) for parts in halves], places)
    adapted = [(parts.add, place) for parts, place in zip(halves, places, strict=True) if parts.add]
    return _in_turn([write, *(_added(add, place) for add, place in adapted)]) if adapted else write


def _added(add: Callable[[Tensor, Tensor], object], y: Tensor) -> Callable[[Tensor], object]:
    return lambda x: add(x, y)


def _in_turn(steps: Sequence[Callable[[Tensor], object]]) -> Callable[[Tensor], object]:
    def write(x: Tensor) -> None:
        for step in steps:
            step(x)

    return write


def _written(weights: Sequence[tuple[Tensor, Tensor | None]], places: Sequence[Tensor]) -> Callable[[Tensor], object]:
    found = kernels()
    assert found is not None, "a model in bfloat16 is read otherwise where there are no kernels"
    whole = [(weight.detach(), None if bias is None else bias.detach().float()) for weight, bias in weights]
    return found.products(whole, places)


def _place(rows: int, weight: Tensor) -> Tensor:
    return torch.empty(rows, len(weight), dtype=torch.float32, device="cpu")


def _into(linear: nn.Module, place: Tensor) -> Callable[[Tensor], object]:
    if not is_linear(linear) or linear.weight.dtype != torch.float32:
        change = product(linear, len(place))
        return lambda x: place.copy_(change(x))
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
        place = _place(rows, weight)
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
