"""From a numpy batch to what the model takes, on its device. The only module of this package that imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tilth.core.environment import Precision
from tilth.data.loader import Batch
from tilth.model.attention import document_mask
from tilth.model.precision import autocast
from tilth.model.wrapped import AnyModel


@dataclass(frozen=True, slots=True)
class Feed:
    """A batch as tensors: `labels` [B, T] int64, and the arguments of `Transformer.forward`."""

    input_ids: Tensor
    labels: Tensor
    positions: Tensor | None
    mask: Tensor | None

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> Feed:
        """The tensors share the batch's memory where the device is the CPU."""
        isolated = batch.doc_ids is not None and batch.positions is not None
        return cls(
            torch.from_numpy(batch.input_ids).to(device),
            torch.from_numpy(batch.labels).to(device),
            torch.from_numpy(batch.positions).to(device) if isolated else None,
            document_mask(torch.from_numpy(batch.doc_ids).to(device)) if isolated else None,
        )

    def hidden(self, model: AnyModel, precision: Precision) -> Tensor:
        """The model's hidden states [B, T, D], products in `precision`."""
        with autocast(precision, self.input_ids.device):
            return model(self.input_ids, self.positions, self.mask)  # type: ignore[no-any-return]
