"""The loss: cross-entropy summed over valid labels, to be divided by the valid labels of the WHOLE global batch.

Dividing each micro-batch by its own count and averaging weighs short rows too much: the fault of gradient
accumulation that transformers had until late 2024. So the sum is what a micro-batch gives, and the count is known
before its first forward pass.

A large vocabulary makes the logits by far the largest tensor of a step. They are therefore made, used and forgotten
in pieces that stay in the processor's cache, and the gradient is made on the way forward (the idea of Wijmans et al.
2024, "Cut your losses"). Shapes in names: R rows x tokens, D hidden_size, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tilth.core.environment import Precision
from tilth.data.batches.batch import IGNORE
from tilth.model import pieces
from tilth.model.compiled import graph_of
from tilth.model.paper import alike, on_paper
from tilth.model.precision import DTYPES


def summed_loss(
    hidden_BTD: Tensor,
    output_VD: Tensor,
    labels_BT: Tensor,
    precision: Precision = "fp32",
    *,
    bias_V: Tensor | None = None,
    softcap: float | None = None,
    compiled: bool = False,
) -> Tensor:
    """The sum of -log p(label) over valid labels, in fp32 at least (scalar, nats).

    Args:
        hidden_BTD: the model's output before the last product. output_VD: the output matrix.
        precision: of that product.
        bias_V: added to the scores. softcap: c, where scores then become c tanh(score / c).
        compiled: torch's compiler may make one graph of what a piece goes through; it does on CUDA, where that takes a
            sixth of the time.
    """
    dtype = DTYPES.get(precision, hidden_BTD.dtype)
    hidden_RD, labels_R = _labelled(hidden_BTD.flatten(0, 1), labels_BT.flatten())
    hidden_RD = hidden_RD.to(dtype)
    bias_V = None if bias_V is None else bias_V.to(dtype)
    if len(labels_R) * len(output_VD) <= pieces.PIECE:
        logits = F.linear(hidden_RD, output_VD.to(dtype), bias_V)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        logits = logits if softcap is None else (logits / softcap).tanh() * softcap
        return F.cross_entropy(logits, labels_R, ignore_index=IGNORE, reduction="sum")
    arguments = (hidden_RD, output_VD.to(dtype), bias_V, labels_R, softcap, compiled and hidden_RD.is_cuda)
    loss: Tensor = _PiecewiseLoss.apply(*arguments)  # type: ignore[no-untyped-call]
    return loss


def piece_size(hidden_RD: Tensor) -> int:
    """Logits that are held at a time. In fp16 no more than on a CPU: what a product sums over the rows of a piece must
    not be beyond fp16.
    """
    return pieces.PIECE if hidden_RD.dtype == torch.float16 else pieces.held_logits(hidden_RD.device)


_MOST = 0.9
"""From this share of labelled positions on, gathering them costs more than the scores that are saved."""


def _labelled(hidden_RD: Tensor, labels_R: Tensor) -> tuple[Tensor, Tensor]:
    """Only the positions that bear loss where many do not (questions, tokens that are not hidden): no scores are made
    of the others. On an accelerator all of them: to count them would make it wait.
    """
    if labels_R.device.type != "cpu" or on_paper(hidden_RD):
        return hidden_RD, labels_R
    places = (labels_R != IGNORE).nonzero()[:, 0]
    if len(places) > _MOST * len(labels_R):
        return hidden_RD, labels_R
    return hidden_RD.index_select(0, places), labels_R[places]


class _PiecewiseLoss(torch.autograd.Function):
    """The same number and gradients without ever holding all logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_RD: Tensor,
        output_VD: Tensor,
        bias_V: Tensor | None,
        labels_R: Tensor,
        softcap: float | None,
        compiled: bool,
    ) -> Tensor:
        piece = _graph() if compiled and not on_paper(hidden_RD) else _piece
        exact = torch.promote_types(hidden_RD.dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=hidden_RD.device)
        hidden_gradient = torch.empty_like(hidden_RD)
        # A frozen matrix needs no gradient: that is a third of the work, and as much memory as the matrix.
        trained = ctx.needs_input_grad[1]
        output_gradient = torch.zeros(output_VD.shape, dtype=exact, device=output_VD.device) if trained else None
        bias_gradient = None if bias_V is None else torch.zeros(bias_V.shape, dtype=exact, device=bias_V.device)
        rows = pieces.product_rows(piece_size(hidden_RD), len(output_VD))
        for start in alike(range(0, len(hidden_RD), rows), hidden_RD):
            hidden, labels = hidden_RD[start : start + rows], labels_R[start : start + rows]
            scores_RV = F.linear(hidden, output_VD, bias_V)
            some = pieces.passed_rows(rows, len(output_VD), hidden.device)
            for first in alike(range(0, len(labels), some), hidden_RD):
                part = scores_RV[first : first + some]
                loss, gradient = piece(part, labels[first : first + some], softcap)
                total += loss
                if bias_gradient is not None:
                    bias_gradient += gradient.sum(0, dtype=exact)
                if len(part) == len(scores_RV):
                    scores_RV = gradient.to(hidden.dtype)
                elif gradient is not part:  # in fp32 it is made in place
                    part.copy_(gradient)
            torch.mm(scores_RV, output_VD, out=hidden_gradient[start : start + rows])
            if output_gradient is not None:
                _add_product(output_gradient, scores_RV.T, hidden)
        # In fp16 they stay: a sum over all rows may be beyond it until it is divided by their count.
        if hidden_RD.dtype != torch.float16:
            output_gradient = None if output_gradient is None else output_gradient.to(output_VD.dtype)
            bias_gradient = None if bias_gradient is None else bias_gradient.to(hidden_RD.dtype)
        ctx.save_for_backward(hidden_gradient, output_gradient, bias_gradient)
        ctx.dtype = hidden_RD.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        made, (scale,) = ctx.saved_tensors, gradients
        return *(None if gradient is None else (gradient * scale).to(ctx.dtype) for gradient in made), None, None, None


def _add_product(sum_VD: Tensor, scores_VR: Tensor, hidden_RD: Tensor) -> None:
    """Adds a product in fp32 at least. On CUDA the product itself does, which saves two passes over the sum: of 124M
    parameters and 65,536 tokens a step 2.1 of 34.9 ms (H200).
    """
    if sum_VD.dtype == hidden_RD.dtype:
        sum_VD.addmm_(scores_VR, hidden_RD)
    elif hidden_RD.is_cuda and hidden_RD.dtype == torch.bfloat16 and not on_paper(hidden_RD):
        torch.ops.aten.addmm.dtype_out(sum_VD, scores_VR, hidden_RD, sum_VD.dtype, out=sum_VD)
    else:
        sum_VD += scores_VR @ hidden_RD


def _piece(logits_RV: Tensor, labels_R: Tensor, softcap: float | None) -> tuple[Tensor, Tensor]:
    """Summed loss of a piece, and its gradient by the logits, in fp32 at least: softmax - one-hot, zero where there is
    no label; times 1 - tanh² where they are capped.

    The scores are gone over as seldom as can be: what bears no label costs no pass, and nothing more of their size is
    made.
    """
    logits_RV = logits_RV.to(torch.promote_types(logits_RV.dtype, torch.float32))
    valid = (labels_R != IGNORE).to(logits_RV.dtype)[:, None]
    targets = labels_R.clamp(min=0)[:, None]
    bent = None if softcap is None else (logits_RV / softcap).tanh()
    logits_RV = logits_RV if bent is None or softcap is None else bent * softcap
    highest = logits_RV.amax(-1, keepdim=True)
    reached = logits_RV.gather(1, targets) - highest
    gradient = logits_RV.sub_(highest).exp_()
    total = gradient.sum(-1, keepdim=True)
    loss = ((total.log() - reached) * valid).sum()
    gradient.mul_(valid / total).scatter_add_(1, targets, -valid)
    return loss, gradient if bent is None else gradient.mul_(1 - bent.square())


def _whole_piece(logits_RV: Tensor, labels_R: Tensor, softcap: float | None) -> tuple[Tensor, Tensor]:
    """The same as `_piece`, for a compiler: nothing in place, and the gradient in the precision of the logits."""
    scores = logits_RV.to(torch.promote_types(logits_RV.dtype, torch.float32))
    bent = None if softcap is None else (scores / softcap).tanh()
    scores = scores if bent is None or softcap is None else bent * softcap
    valid = (labels_R != IGNORE)[:, None]
    targets = labels_R.clamp(min=0)[:, None]
    highest = scores.amax(-1, keepdim=True)
    powers = (scores - highest).exp()
    total = powers.sum(-1, keepdim=True)
    loss = ((total.log() - (scores.gather(1, targets) - highest)) * valid).sum()
    chosen = torch.arange(scores.shape[-1], device=scores.device) == targets
    gradient = (powers / total - chosen.to(scores.dtype)) * valid
    gradient = gradient if bent is None else gradient * (1 - bent.square())
    return loss, gradient.to(logits_RV.dtype)


@functools.cache
def _graph() -> Callable[[Tensor, Tensor, float | None], tuple[Tensor, Tensor]]:
    return graph_of(_whole_piece)
