"""torch's AdamW and SGD as they are, but for one thing: they do not load torch's compiler.

torch asks its compiler to leave parts of an optimizer alone, and imports it for that: a second of every start, and of
computer algebra among other things, in runs that compile nothing. The functions inside are called here as they stand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

_ADAMW_STEP = inspect.unwrap(torch.optim.AdamW.step)
_SGD_STEP = inspect.unwrap(torch.optim.SGD.step)


class Optimizer(torch.optim.Optimizer):
    """What is common to the optimizers of a run."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class AdamW(Optimizer, torch.optim.AdamW):
    """torch.optim.AdamW."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        return _ADAMW_STEP(self, closure)


class SGD(Optimizer, torch.optim.SGD):
    """torch.optim.SGD."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        return _SGD_STEP(self, closure)
