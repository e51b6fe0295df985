"""Muon: momentum whose matrices are made orthogonal before they are applied; AdamW for all that is no hidden matrix.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", with the scale of Liu et al.
2025, "Muon is scalable for LLM training", section 2.2. Matrices of one shape are orthogonalised in one batch: on a CPU
the products are small, and one call for each of them would cost more than the work.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: all singular values go to about 0.7 ... 1.2 in five steps
_STEPS = 5


class Muon(torch.optim.Optimizer):
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
    """The nearest (half-)orthogonal matrices, roughly: five Newton-Schulz steps in bf16, fp32 where the input is
    fp64.
    """
    a, b, c = _COEFFICIENTS
    x: Tensor = matrices_BMN.to(torch.bfloat16 if matrices_BMN.dtype != torch.float64 else torch.float64)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
