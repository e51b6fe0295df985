"""From a numpy batch to what the model takes, on its device. The only module of this package that imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from tilth.core.environment import Precision
from tilth.data.batches.batch import Batch
from tilth.model.attention import document_mask
from tilth.model.paper import on_paper
from tilth.model.precision import autocast
from tilth.model.wrapped import AnyModel


@dataclass(frozen=True, slots=True)
class Feed:
    """A batch as tensors: `labels` [B, T] int64, and the arguments of `Transformer.forward`.

    `mask` is None where a position sees all those before it. `causal` is false where it sees those after it too; the
    mask then says so, also to a model that is causal without one.
    """

    input_ids: Tensor
    labels: Tensor
    positions: Tensor | None
    mask: Tensor | None
    causal: bool = True

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> Feed:
        """The tensors share the batch's memory where the device is the CPU."""
        return cls.on(
            moved(batch.input_ids, device),
            moved(batch.labels, device),
            None if batch.positions is None else moved(batch.positions, device),
            None if batch.doc_ids is None else moved(batch.doc_ids, device),
            causal=batch.causal,
        )

    @classmethod
    def on(
        cls, input_ids: Tensor, labels: Tensor, positions: Tensor | None, doc_ids: Tensor | None, *, causal: bool
    ) -> Feed:
        """Of a batch's tensors where they are: nothing is moved."""
        mask = _mask(input_ids, doc_ids, causal)
        return cls(input_ids, labels, positions, mask, causal)

    def hidden(self, model: AnyModel, precision: Precision) -> Tensor:
        """The model's hidden states [B, T, D], products in `precision`."""
        with autocast(precision, self.input_ids.device):
            return model(self.input_ids, self.positions, self.mask)  # type: ignore[no-any-return]


def moved(numbers: npt.NDArray[Any], device: torch.device) -> Tensor:
    """As a tensor on `device`; it shares the memory of `numbers` where that is the CPU."""
    tensor = torch.from_numpy(numbers)
    if device.type == "cuda" and not on_paper(torch.empty(0, device=device)):
        return tensor.pin_memory().to(device, non_blocking=True)  # nobody waits until it is there
    return tensor.to(device)


def _mask(input_ids_BT: Tensor, doc_ids_BT: Tensor | None, causal: bool) -> Tensor | None:
    """[B, 1, T, T] boolean, true where a query may look; [1, 1, T, T] where that is the same in all rows; None: at all
    before it.
    """
    if doc_ids_BT is None:
        length = input_ids_BT.shape[1]
        return None if causal else torch.ones(1, 1, length, length, dtype=torch.bool, device=input_ids_BT.device)
    if causal:
        return document_mask(doc_ids_BT)
    same_BTT: Tensor = doc_ids_BT[:, :, None] == doc_ids_BT[:, None, :]
    return same_BTT[:, None]
