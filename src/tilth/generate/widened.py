"""A model held in bfloat16, as it computes in fp32: for a CPU whose products are no faster in bfloat16.

    widened(module)          a copy of a module whose weights are fp32
    read_widened(model)      the model, of whose parts there is such a copy while each of them is called
    fast_in_bfloat16()       whether this processor needs none of that

torch multiplies in bfloat16 five times slower than in fp32 where a processor has no instructions for it. A prompt has
many rows, to which the copies add little; they are one block's at most.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from tilth.core.environment import processor_features, processor_vendor
from tilth.model.transformer import Transformer

M = TypeVar("M", bound=nn.Module)


@cache
def fast_in_bfloat16() -> bool:
    """By what the processor is, not by a clock: the same text is written twice. An Intel Xeon with avx512_bf16 alone is
    slower in bfloat16, an AMD EPYC twice as fast (docs/speed.md).
    """
    features = processor_features()
    return "amx_bf16" in features or ("avx512_bf16" in features and processor_vendor() == "AuthenticAMD")


@torch.no_grad()
def widened(module: M) -> M:
    """A copy of the module whose parameters are fp32; those that are so already are shared."""
    wide = copy.copy(module)
    wide._parameters = {
        name: None if p is None else nn.Parameter(p.detach().float(), requires_grad=False)
        for name, p in module._parameters.items()
    }
    wide._modules = {name: None if part is None else widened(part) for name, part in module._modules.items()}
    return wide


def read_widened(model: Transformer) -> Transformer:
    """The same model on the same weights, whose `forward` computes in fp32; the cache that it fills stays bfloat16."""
    shell = copy.copy(model)
    parts: dict[str, nn.Module | None] = {
        name: _Looked(part) if isinstance(part, nn.Embedding) else part and _Widened(part)
        for name, part in model._modules.items()
    }
    shell._modules = {**parts, "layers": nn.ModuleList(_Widened(block) for block in model.layers)}
    return shell


class _Widened(nn.Module):
    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of = of

    def forward(self, *given: object) -> object:
        return widened(self.of)(*given)


class _Looked(nn.Module):
    """An embedding: its rows alone are widened."""

    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of = of

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.of(ids)
        return found.float()
