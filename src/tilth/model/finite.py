"""Whether weights are numbers: one that is not makes everything that is computed with it none.

is_finite(tensor)             by one sum, which costs a fraction of reading the tensor
no_number(file, name)         what to say of a tensor that is not
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tilth.core.errors import CheckpointError


def is_finite(tensor: Tensor) -> bool:
    """Whether it holds no NaN and no infinity."""
    if not tensor.is_floating_point():
        return True
    if tensor.element_size() < 2:  # of eight bits, which torch does not add up
        tensor = tensor.to(torch.float32)
    # A sum of finite numbers may overflow: it can only clear them. To look at each takes forty times as long.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def no_number(file: Path, name: str) -> CheckpointError:
    """Of a file, or of a folder where it is not known in which of its files the tensor is."""
    return CheckpointError(
        f"{file}: {name} holds what is no finite number (NaN or infinity)",
        "the file is damaged, or the training that wrote it went astray: get it again, or use another checkpoint",
    )
