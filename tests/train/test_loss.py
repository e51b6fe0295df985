"""The loss in pieces equals torch's cross-entropy over whole logits, value and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tilth.train import loss as loss_module
from tilth.train.loss import IGNORE, summed_loss


def inputs(dtype: torch.dtype, unlabelled: int = 70) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 100, 16, generator=generator, dtype=dtype).requires_grad_()
    output = torch.randn(97, 16, generator=generator, dtype=dtype).requires_grad_()
    labels = torch.randint(0, 97, (3, 100), generator=generator)
    labels[1, 20 : 20 + unlabelled] = IGNORE
    return hidden, output, labels


@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"),
    [
        (torch.float64, "fp32", 1e-12),
        (torch.float32, "fp32", 1e-5),
        (torch.float32, "bf16", 2e-2),
    ],
)
@pytest.mark.parametrize("piece", [1 << 21, 97 * 64, 97 * 100])
@pytest.mark.parametrize("unlabelled", [5, 70])
def test_pieces_equal_the_whole(
    dtype: torch.dtype, precision: Any, tolerance: float, piece: int, unlabelled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, output, labels = inputs(dtype, unlabelled)
    expected = torch.nn.functional.cross_entropy(
        (hidden @ output.T).flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    expected_gradients = torch.autograd.grad(expected / 7, (hidden, output))
    monkeypatch.setattr(loss_module, "PIECE", piece)
    loss = summed_loss(hidden, output, labels, precision)
    gradients = torch.autograd.grad(loss / 7, (hidden, output))
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    for mine, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance * theirs.abs().max().item())


def test_no_valid_label_gives_no_loss_and_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "PIECE", 97 * 64)
    hidden, output, labels = inputs(torch.float32)
    loss = summed_loss(hidden, output, torch.full_like(labels, IGNORE))
    loss.backward()
    assert loss.item() == 0 and hidden.grad is not None and not hidden.grad.any()
