"""The loss in pieces equals torch's cross-entropy over whole logits, value and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tilth.data.batches.batch import IGNORE
from tilth.model import pieces
from tilth.training.loss import _piece, _whole_piece, summed_loss


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
    monkeypatch.setattr(pieces, "PIECE", piece)
    loss = summed_loss(hidden, output, labels, precision)
    gradients = torch.autograd.grad(loss / 7, (hidden, output))
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    for mine, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance * theirs.abs().max().item())


def test_no_valid_label_gives_no_loss_and_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 97 * 64)
    hidden, output, labels = inputs(torch.float32)
    loss = summed_loss(hidden, output, torch.full_like(labels, IGNORE))
    loss.backward()
    assert loss.item() == 0 and hidden.grad is not None and not hidden.grad.any()


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_what_a_compiler_is_given_is_the_same(softcap: float | None) -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 90, generator=draw) * 4
    labels = torch.randint(0, 90, (40,), generator=draw)
    labels[::7] = IGNORE
    for kind, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 4e-3)):
        loss, gradient = _piece(scores.to(kind, copy=True), labels, softcap)
        again, same = _whole_piece(scores.to(kind), labels, softcap)
        torch.testing.assert_close(again, loss)
        assert same.dtype == kind and gradient.dtype == torch.float32
        torch.testing.assert_close(same.float(), gradient, atol=tolerance, rtol=0)


def test_in_fp16_a_gradient_may_be_larger_than_fp16_until_it_is_divided() -> None:
    """Half of the labels are one: its row of the matrix gathers what 20,000 rows leave, beyond 65,504."""
    draw = torch.Generator().manual_seed(0)
    hidden = (4 + torch.randn(1, 45_000, 4, generator=draw) * 0.1).requires_grad_()
    output = torch.zeros(200, 4).requires_grad_()
    labels = torch.randint(1, 200, (1, 45_000), generator=draw)
    labels[0, ::2] = 0
    (summed_loss(hidden, output, labels, "fp16") / labels.numel()).backward()
    exact = output.detach().clone().requires_grad_()
    torch.nn.functional.cross_entropy(hidden[0].detach() @ exact.T, labels[0]).backward()
    assert output.grad is not None and exact.grad is not None
    torch.testing.assert_close(output.grad, exact.grad, atol=5e-3, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_products_are_summed_in_fp32(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 97 * 64)
    monkeypatch.setattr(pieces, "LARGE_PIECE", 97 * 64)
    monkeypatch.setattr(pieces, "ROWS", 64)
    hidden, output, labels = (tensor.detach().to("cuda") for tensor in inputs(torch.float64))
    exact, narrow = output.bfloat16().double().requires_grad_(), output.float().requires_grad_()
    whole = torch.nn.functional.cross_entropy(
        (hidden.bfloat16().double() @ exact.T).flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    loss = summed_loss(hidden.float(), narrow, labels, "bf16", compiled=compiled)
    assert loss.item() == pytest.approx(whole.item(), rel=5e-3)
    (expected,), (gradient,) = torch.autograd.grad(whole, [exact]), torch.autograd.grad(loss, [narrow])
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=2e-2 * expected.abs().max().item())
