"""The loss: cross-entropy summed over valid labels, to be divided by the valid labels of the WHOLE global batch.

Dividing each micro-batch by its own count and averaging weighs short rows too much: the fault of gradient accumulation that transformers
had until late 2024. So the sum is what a micro-batch gives, and the count is known before its first forward pass.
Shapes in names: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100


def summed_loss(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """The sum of -log p(label) over valid labels, in fp32 at least (scalar, nats)."""
    logits = logits_BTV if logits_BTV.dtype == torch.float64 else logits_BTV.float()
    return F.cross_entropy(logits.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORE, reduction="sum")
