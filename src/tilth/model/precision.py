"""In which precision the products run: chosen by measurement where the recipe says `auto`.

Weights, gradients and optimizer state are always fp32 (fp64 in tests); bf16 and fp16 are autocast's. fp16 scales the
loss.
"""

from __future__ import annotations

import contextlib
import time

import torch

from tilth.core.environment import Precision

DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SIDE = 4096
"""Of the product that is timed, at the most: larger ones tell no more, and take memory that may not be there."""


def resolve_precision(wanted: Precision, device: torch.device, rows: int, width: int, inner: int) -> Precision:
    """The precision to run in. `auto`: bf16 where a product of the model's own shape (of `_SIDE` a side at the most) is
    at least 1.3 times faster in it, else fp32.

    Args:
        rows, width, inner: the product [rows, width] x [width, inner], as the model's MLP does it.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type != "cpu":
        return "fp32"
    fp32, bf16 = (_product_seconds(rows, width, inner, dtype) for dtype in (torch.float32, torch.bfloat16))
    return "bf16" if fp32 > 1.3 * bf16 else "fp32"


def slowdown(precision: Precision, device: torch.device, rows: int, width: int, inner: int) -> float | None:
    """How many times as long as in fp32 that product takes on a CPU in the half precision that is asked for; None where
    none is. Without a unit for it, it is emulated, and several times slower.
    """
    if precision not in DTYPES or device.type != "cpu":
        return None
    return _product_seconds(rows, width, inner, DTYPES[precision]) / _product_seconds(rows, width, inner, torch.float32)


def _product_seconds(rows: int, width: int, inner: int, dtype: torch.dtype) -> float:
    # What autocast really does for a linear layer: the weight is cast from fp32 each time.
    rows, width, inner = (min(side, _SIDE) for side in (rows, width, inner))
    x, weight = torch.ones(rows, width, dtype=dtype), torch.ones(inner, width)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight.to(dtype))
        best = min(best, time.perf_counter() - start)
    return best


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context in which forward passes run."""
    if precision not in DTYPES:
        return contextlib.nullcontext()
    return torch.autocast(device.type, DTYPES[precision])


def make_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """A loss scaler; it does nothing unless the precision is fp16."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
