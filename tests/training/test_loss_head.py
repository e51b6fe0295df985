"""Output bias and soft cap in the loss: whole and in pieces, against logits written out."""

from __future__ import annotations

import pytest
import torch

from tilth.data.batches.batch import IGNORE
from tilth.model import pieces
from tilth.training.loss import summed_loss


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("piece", [1 << 21, 100])
def test_bias_and_soft_cap_equal_the_written_formula(
    softcap: float | None, biased: bool, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", piece)
    generator = torch.Generator().manual_seed(1)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    hidden, output, bias = leaf(3, 50, 8), leaf(11, 8), leaf(11)
    labels = torch.randint(0, 11, (3, 50), generator=generator)
    labels[:, ::3] = IGNORE
    leaves = [hidden, output, *([bias] if biased else [])]
    found = summed_loss(hidden, output, labels, bias_V=bias if biased else None, softcap=softcap)
    logits = hidden @ output.T + (bias if biased else 0)
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    valid = labels != IGNORE
    chosen = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    expected = -(chosen * valid).sum()
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found * 3, leaves), torch.autograd.grad(expected * 3, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
