"""Tensors that have a shape and no numbers: what runs on them is counted (train/meter.py), not computed."""

from __future__ import annotations

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def on_paper(tensor: Tensor) -> bool:
    """Whether the numbers of a tensor cannot be asked for. Code that goes by them goes by the largest case then."""
    return isinstance(tensor, FakeTensor)
