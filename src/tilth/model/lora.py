"""A linear layer whose own weights are frozen, with adapters beside it (LoRA, Hu et al. 2021; DoRA, Liu et al. 2024).

    LoraLinear(linear)            takes the weights over, under the same names; Conv1D layers of transformers too
    LoraPart                      what one adapter adds to one layer: A, B, and the magnitudes of DoRA

Chosen without dropout, y = W x + b + s B A x is one autograd node: it adds B (A x) into the frozen product where that
lies, keeps x and A x alone, and makes no copy of W for the way back. Plain modules read and write [rows, out] several
times more, and under autocast hold a cast copy of every frozen matrix until the backward pass.
Shapes in names: R rows x tokens, I in_features, O out_features, K rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.core.random import derive_seed
from tilth.model.dora import magnitudes, row_norms
from tilth.model.dropout import Dropout
from tilth.model.paper import in_graph
from tilth.model.quantize import NF4
from tilth.model.unread import is_unread, read


class Frozen:
    """A matrix [O, I] that bears no gradient, as the products below read it: in pieces of some rows, in any dtype."""

    def __init__(self, source: Tensor | NF4) -> None:
        self.source = source

    def pieces(self, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """(first row, some rows [o, I]), until all rows came."""
        if isinstance(self.source, NF4):
            return self.source.pieces(dtype)
        return iter([(0, self.source.to(dtype))])

    def product(self, x_RI: Tensor, bias_O: Tensor | None) -> Tensor:
        """x W' + bias [R, O]."""
        parts = []
        for start, rows_oI in self.pieces(x_RI.dtype):
            bias = None if bias_O is None else bias_O[start : start + len(rows_oI)].to(x_RI.dtype)
            parts.append(F.linear(x_RI, rows_oI, bias))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def back(self, gradient_RO: Tensor) -> Tensor:
        """The gradient by x [R, I], of that by x W'."""
        total: Tensor | None = None
        for start, rows_oI in self.pieces(gradient_RO.dtype):
            part = gradient_RO[:, start : start + len(rows_oI)]
            total = part @ rows_oI if total is None else total.addmm_(part, rows_oI)
        assert total is not None, "a matrix has rows"
        return total


class _FrozenProduct(torch.autograd.Function):
    """x W' + bias, keeping nothing but W as it is held."""

    @staticmethod
    def forward(ctx: Any, x_RI: Tensor, frozen: Frozen, bias_O: Tensor | None) -> Tensor:
        ctx.frozen = frozen
        return frozen.product(x_RI, bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.frozen.back(gradients[0]), None, None


class _LoraProduct(torch.autograd.Function):
    """x W' + bias + (x A') B', B already scaled."""

    @staticmethod
    def forward(ctx: Any, x_RI: Tensor, a_KI: Tensor, b_OK: Tensor, frozen: Frozen, bias_O: Tensor | None) -> Tensor:
        inner_RK = x_RI @ a_KI.T
        ctx.save_for_backward(x_RI, a_KI, b_OK, inner_RK)
        ctx.frozen = frozen
        return frozen.product(x_RI, bias_O).addmm_(inner_RK, b_OK.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x_RI, a_KI, b_OK, inner_RK = ctx.saved_tensors
        (gradient_RO,) = gradients
        inner = gradient_RO @ b_OK
        # The first layer reads what nothing trained was in: the largest product of the two is then not needed.
        by_x = ctx.frozen.back(gradient_RO).addmm_(inner, a_KI) if ctx.needs_input_grad[0] else None
        return by_x, inner.T @ x_RI, gradient_RO.T @ inner_RK, None, None


class LoraPart(nn.Module):
    """One adapter at one layer: lora_A [K, I], lora_B [O, K], and with DoRA magnitude [O]."""

    def __init__(self, rank: int, alpha: float, sizes: tuple[int, int], *, rslora: bool, dropout: float) -> None:
        super().__init__()
        self.rank, self.alpha, self.rslora = rank, alpha, rslora
        self.dropout = Dropout(dropout)
        inner, outer = sizes
        self.lora_A = nn.Parameter(torch.empty(rank, inner, dtype=torch.float32))
        self.lora_B = nn.Parameter(torch.empty(outer, rank, dtype=torch.float32))
        self.magnitude: nn.Parameter | None = None

    @property
    def scaling(self) -> float:
        """alpha / rank; with rsLoRA alpha / sqrt(rank)."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @torch.no_grad()
    def initialise(self, seed: int, layer: str) -> None:
        """A uniform within 1/sqrt(I) (Kaiming's with a = sqrt(5), as in PEFT), B zero; from (seed, layer) alone."""
        generator = torch.Generator().manual_seed(derive_seed(seed, f"adapter/{layer}"))
        bound = 1 / math.sqrt(self.lora_A.shape[1])
        self.lora_A.copy_(torch.rand(self.lora_A.shape, generator=generator) * (2 * bound) - bound)
        self.lora_B.zero_()

    def scaled_b(self) -> Tensor:
        """scaling * B [O, K]."""
        return self.lora_B * self.scaling


class LoraLinear(nn.Module):
    """A linear layer and its adapters, of which one or none is chosen.

    `weight` and `bias` are those of the layer that it stands for, so their names stay what they were; quantized, there
    is no `weight` but `nf4`.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        weight, bias = base.get_parameter("weight"), getattr(base, "bias", None)
        assert isinstance(weight, nn.Parameter)
        self.transposed = not isinstance(base, nn.Linear)
        """Conv1D of transformers keeps its weight as [in, out]."""
        self.weight: nn.Parameter | None = weight
        self.bias: nn.Parameter | None = bias
        self.out_features, self.in_features = reversed(weight.shape) if self.transposed else weight.shape
        self.nf4: NF4 | None = None
        self.adapters = nn.ModuleDict()
        self.chosen: str | None = None
        self._base = (base,)  # in a tuple it is no module of ours
        self._held: tuple[nn.Parameter | NF4, ...] = ()  # what a merged weight took the place of
        self._squares: Tensor | None = None

    @property
    def base(self) -> nn.Module:
        """The layer that this one stands for."""
        return self._base[0]

    @property
    def frozen(self) -> Frozen:
        """The weight as products read it, [O, I]."""
        if self.nf4 is not None:
            return Frozen(self.nf4)
        assert self.weight is not None
        return Frozen(self.weight.T if self.transposed else self.weight)

    @property
    def held(self) -> nn.Parameter | NF4:
        """The weight as it is held."""
        found = self.nf4 if self.nf4 is not None else self.weight
        assert found is not None
        return found

    @property
    def part(self) -> LoraPart | None:
        """The chosen adapter's part at this layer, unless it is merged."""
        if self.chosen is None or self.chosen not in self.adapters or self._held:
            return None
        part = self.adapters[self.chosen]
        assert isinstance(part, LoraPart)
        return part

    def forward(self, x: Tensor) -> Tensor:
        """As the layer itself, [..., in] -> [..., out], with the chosen adapter."""
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        x_RI, part = x.reshape(-1, self.in_features), self.part
        if part is None and self.weight is not None and self.weight.requires_grad:  # trained whole, by another adapter
            weight = self.weight.T if self.transposed else self.weight
            y_RO = F.linear(x_RI, weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
        elif part is None and in_graph(x):
            y_RO = self.frozen.product(x_RI, self.bias)
        elif part is None:
            y_RO = _FrozenProduct.apply(x_RI, self.frozen, self.bias)  # type: ignore[no-untyped-call]
        elif part.magnitude is None:
            y_RO = self._adapted(x_RI, part, self.bias)
        else:
            scale_O = part.magnitude / self.lengths(part)
            y_RO = self._adapted(x_RI, part, None) * scale_O.to(x.dtype)
            y_RO = y_RO if self.bias is None else y_RO + self.bias.to(x.dtype)
        y: Tensor = y_RO.view(*x.shape[:-1], self.out_features)
        return y

    def _adapted(self, x_RI: Tensor, part: LoraPart, bias_O: Tensor | None) -> Tensor:
        a_KI, b_OK = part.lora_A.to(x_RI.dtype), part.scaled_b().to(x_RI.dtype)
        y_RO: Tensor
        if in_graph(x_RI):
            return torch.addmm(self.frozen.product(x_RI, bias_O), part.dropout(x_RI) @ a_KI.T, b_OK.T)
        if part.dropout.p and self.training:
            y_RO = _FrozenProduct.apply(x_RI, self.frozen, bias_O)  # type: ignore[no-untyped-call]
            return y_RO.addmm_(part.dropout(x_RI) @ a_KI.T, b_OK.T)
        y_RO = _LoraProduct.apply(x_RI, a_KI, b_OK, self.frozen, bias_O)  # type: ignore[no-untyped-call]
        return y_RO

    @torch.no_grad()
    def lengths(self, part: LoraPart) -> Tensor:
        """Length of each row of W + s B A [O], without a gradient (DoRA, section 4.3)."""
        dtype = part.lora_A.dtype
        if self._squares is None or (self._squares.device, self._squares.dtype) != (part.lora_A.device, dtype):
            self._squares = magnitudes(self.frozen.pieces(dtype)).square()
        device = part.lora_A.device.type  # `meta`, where shapes alone are asked for, has no autocast
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):
            wa_KO = self.frozen.product(part.lora_A.detach(), None)
            return row_norms(self._squares, wa_KO.T, part.lora_A.detach(), part.scaled_b())

    @torch.no_grad()
    def merged_weight(self, part: LoraPart) -> Tensor:
        """[O, I] in the adapter's precision: W + s B A, with DoRA each row brought to its magnitude."""
        matrix = torch.cat([rows for _, rows in self.frozen.pieces(part.lora_A.dtype)])
        # With one piece of the same dtype `cat` still copies: what follows changes it in place.
        matrix.addmm_(part.scaled_b(), part.lora_A)
        if part.magnitude is not None:
            matrix.mul_((part.magnitude / self.lengths(part))[:, None])
        return matrix

    def merge(self) -> None:
        """Puts the chosen part into the weight; what was there is kept for `unmerge`."""
        part = self.part
        if part is None:
            return
        held = self.held
        matrix = self.merged_weight(part).to(held.dtype)
        self.nf4, self._held = None, (held,)
        self.weight = nn.Parameter(matrix.T.contiguous() if self.transposed else matrix, requires_grad=False)

    def unmerge(self) -> None:
        """Puts back what `merge` took out: the same tensor."""
        for held in self._held:
            if isinstance(held, NF4):
                self.weight, self.nf4 = None, held
            else:
                self.weight = held
        self._held = ()

    def add(self, name: str, part: LoraPart) -> None:
        """Puts an adapter's part beside the weight, on its device and in its precision, fp32 at least. It is not chosen
        by that.
        """
        dtype = torch.promote_types(self.held.dtype, torch.float32)
        there = all(p.device == self.held.device and p.dtype == dtype for p in part.parameters())
        # Asked to do nothing, `to` refuses tensors without memory all the same (training/meter.py).
        self.adapters[name] = part if there else part.to(self.held.device, dtype)

    def read(self, dtype: torch.dtype | None = None) -> None:
        """Reads the weight in `dtype`, left out: in its own, where it is still in its file."""
        if self.weight is not None and is_unread(self.weight):
            self.weight = nn.Parameter(read(self.weight, dtype), requires_grad=False)

    def hold(self, dtype: torch.dtype) -> None:
        """Holds the weight and the bias in `dtype`: what autocast makes of them in each product, made once."""
        self.read(dtype)
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                parameter.data = parameter.data.to(dtype)

    def quantize(self, double: bool, name: str) -> None:
        """Holds the weight in four bits from here on; what held it before, lets go of it."""
        self.read()
        if self.nf4 is None and self.weight is not None:
            self.nf4 = NF4(self.weight.T if self.transposed else self.weight, double, name)
            self.weight, self._squares = None, None
            self.base.register_parameter("weight", None)

    def unload(self) -> nn.Module:
        """The layer that this one stands for, with the weight as it is now: merged, if it is."""
        matrix = self.nf4.matrix(self.nf4.dtype) if self.nf4 is not None else None
        if matrix is not None:
            self.weight = nn.Parameter(matrix.T.contiguous() if self.transposed else matrix, requires_grad=False)
        self.base.register_parameter("weight", self.weight)
        return self.base
