"""Training and evaluation hold as many logits at a time as the device has room for, by one rule."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tilth.evaluation.evaluator import piece_rows
from tilth.model.pieces import LARGE_PIECE, PIECE, held_logits
from tilth.training.loss import piece_size

GIB, VOCABULARY = 1 << 30, 50_000


class Matrix(list[None]):
    """An output matrix on a device that this machine may lack."""

    def __init__(self, device: torch.device) -> None:
        super().__init__([None] * VOCABULARY)
        self.device = device


@pytest.mark.parametrize(("memory", "bytes_held"), [(80 * GIB, 1 << 30), (8 * GIB, 256 << 20), (2 * GIB, 64 << 20)])
def test_on_cuda_at_most_a_32nd_of_the_memory(monkeypatch: pytest.MonkeyPatch, memory: int, bytes_held: int) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory))
    device = torch.device("cuda")
    assert held_logits(device) * 4 == bytes_held <= LARGE_PIECE * 4

    def tensor(dtype: torch.dtype) -> Any:
        return SimpleNamespace(device=device, dtype=dtype, is_cuda=True)

    assert piece_size(tensor(torch.bfloat16)) * 4 == bytes_held, "in training"
    assert piece_size(tensor(torch.float16)) == PIECE, "a sum over its rows must not be beyond fp16"
    model: Any = SimpleNamespace(output_weight=Matrix(device))
    assert piece_rows(model) == max(256, bytes_held // 4 // VOCABULARY), "in evaluation"
