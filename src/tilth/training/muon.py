"""Muon: momentum whose matrices are made orthogonal before they are applied; AdamW for all that is no hidden matrix.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", with the scale of Liu et al.
2025, "Muon is scalable for LLM training", section 2.2. Matrices of one shape are orthogonalised in one batch: on a CPU
the products are small, and one call for each of them would cost more than the work.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from tilth.core.environment import processor_features
from tilth.training.torch_optim import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: all singular values go to about 0.7 ... 1.2 in five steps
_STEPS = 5
_LONG = 2  # times as long as wide: from here on it is less work to take the steps on the smaller side's square


class Muon(Optimizer):
    """Orthogonalised Nesterov momentum for groups with `muon: true` (2-D parameters), fused AdamW for the others.

    An orthogonalised update is scaled to entries of about 0.2 in root mean square, as AdamW's are: one learning rate,
    one weight decay fit both.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, momentum: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None, "the trainer gives no closure"
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not group["muon"]:
                self._adamw(parameters, group)
                continue
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in parameters:
                by_shape[parameter.shape].append(parameter)
            for equal in by_shape.values():
                self._muon(equal, group)

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = torch.stack([p.grad for p in parameters if p.grad is not None])
        buffers = [self._state(p, "momentum_buffer") for p in parameters]
        torch._foreach_lerp_(buffers, list(gradients), 1 - group["momentum"])
        directions = gradients.lerp_(torch.stack(buffers), group["momentum"])
        updates = orthogonalise(directions).to(parameters[0].dtype)
        scale = 0.2 * math.sqrt(max(parameters[0].shape))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(updates), alpha=-group["lr"] * scale)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [self._state(p, "exp_avg") for p in parameters],
            [self._state(p, "exp_avg_sq") for p in parameters],
            [],
            [self._state(p, "step") for p in parameters],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _state(self, parameter: Tensor, slot: str) -> Tensor:
        """A slot of a parameter's state; zero at first."""
        state = self.state[parameter]
        if slot not in state:
            counter = slot == "step"
            state[slot] = parameter.new_zeros((), dtype=torch.float32) if counter else torch.zeros_like(parameter)
        value: Tensor = state[slot]
        return value


def orthogonalise(matrices_BMN: Tensor) -> Tensor:
    """The nearest (half-)orthogonal matrices, roughly: five Newton-Schulz steps.

    In bf16 where products are fastest in it; else in fp32 (fp64 where the input is), which on a CPU without a unit for
    bf16 matrices is 1.3 to 1.7 times faster.
    """
    a, b, c = _COEFFICIENTS
    x: Tensor = matrices_BMN.to(_dtype(matrices_BMN))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT.contiguous()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # In bf16 what is small against the largest singular value would be lost in the squares.
    if x.shape[-1] >= _LONG * x.shape[-2] and x.dtype != torch.bfloat16:
        x = torch.bmm(_five_steps(torch.bmm(x, x.mT)), x)
        return x.mT if tall else x
    for _ in range(_STEPS):  # x <- a x + (b G + c G G) x, with G = x x'
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _five_steps(gram_BMM: Tensor) -> Tensor:
    """What the steps multiply x with, from x x' alone.

    A step is x <- P x with P = a I + b G + c G G; then G, which is x x', becomes P G P, and all of it is products of
    the smaller side: for matrices four times as long as wide half of the work.
    """
    a, b, c = _COEFFICIENTS
    gram, product = gram_BMM, None
    for step in range(_STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else torch.bmm(factor, product)
        if step < _STEPS - 1:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
    assert product is not None
    return product


@functools.cache
def _has_bf16_unit() -> bool:
    return "amx_bf16" in processor_features()


def _dtype(matrices: Tensor) -> torch.dtype:
    if matrices.dtype == torch.float64:
        return torch.float64
    return torch.bfloat16 if matrices.device.type != "cpu" or _has_bf16_unit() else torch.float32
