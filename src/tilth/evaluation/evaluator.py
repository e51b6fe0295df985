"""A deterministic full pass over text: each token predicted once, no sampling of batches, dropout off.

A batch to which memory is refused goes through in smaller pieces (`AtOnce`): sums over its rows are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tilth.core.environment import Precision
from tilth.core.errors import DataError, first_line
from tilth.core.words import plural
from tilth.data.batches.batch import IGNORE, Batch
from tilth.data.batches.feed import Feed
from tilth.distributed.refused import OutOfMemory, give_back, is_of_memory
from tilth.distributed.runtime import Runtime
from tilth.evaluation.metrics import Metrics
from tilth.model import pieces
from tilth.model.precision import autocast
from tilth.model.wrapped import AnyModel

_ALL = 1 << 40


@dataclass
class AtOnce:
    """How many rows of a batch go through the model at once: all, until memory is refused. A pass that is given what
    another has left begins with so many, in all processes.
    """

    rows: int = _ALL


@torch.no_grad()
def evaluate(
    model: AnyModel,
    batches: Iterable[Batch],
    text_bytes: int,
    runtime: Runtime,
    precision: Precision = "fp32",
    between: Callable[[], None] = lambda: None,
    at_once: AtOnce | None = None,
    tell: Callable[[str], None] = lambda text: None,
    spare: Callable[[], bool] = lambda: False,
) -> Metrics:
    """Metrics over all batches. In a group, process r takes every world_size-th batch and the sums are added up.

    OutOfMemory, on every process, where one was refused memory for a single row.

    Args:
        text_bytes: UTF-8 bytes of the text that the batches hold.
        between: called before each process takes its next batch, as often in all of them; what it raises ends the pass.
        tell: told, by all processes, when fewer rows went through at once than at the beginning.
        spare: asked where memory is refused, before fewer rows are tried: lets go of what can be had again, if there is
            anything.
    """
    was_training = model.training
    model.eval()
    at_once = at_once or AtOnce()
    sums, before, reason, refused = torch.zeros(3, dtype=torch.float64), at_once.rows, "", False
    try:
        for number, batch in enumerate(batches):
            if number % runtime.world_size == 0:
                between()
            if number % runtime.world_size == runtime.rank and not refused:  # the others must not wait for it
                found, told = _in_pieces(model, batch, runtime.device, precision, at_once, spare)
                reason, refused = told or reason, found is None
                sums += 0.0 if found is None else found
    finally:
        model.train(was_training)
    fewer = at_once.rows < before
    loss_sum, correct, tokens, refusals, reduced = runtime.sum_floats([*sums.tolist(), float(refused), float(fewer)])
    if refusals:
        raise OutOfMemory(reason if refused else "in another process")
    if reduced:
        at_once.rows = -int(runtime.largest(-at_once.rows))
        tell(
            f"out of memory in an evaluation ({reason or 'in another process'}): it went on with at most "
            f"{plural(at_once.rows, 'row')} at once, as those after it will; but for rounding the figures are the same"
        )
    if not tokens:
        raise DataError(
            "there is nothing to evaluate: the text has no tokens", "give a larger validation split, or --data FILE"
        )
    return Metrics.from_sums(loss_sum, int(correct), int(tokens), text_bytes)


def _in_pieces(
    model: AnyModel,
    batch: Batch,
    device: torch.device,
    precision: Precision,
    at_once: AtOnce,
    spare: Callable[[], bool],
) -> tuple[Tensor | None, str]:
    """The sums of a batch, made again with half as many rows at once where memory is refused, and the allocator's words
    then; None in place of the sums where it is refused to a single row.
    """
    reason = ""
    while True:
        rows = min(at_once.rows, len(batch.input_ids))
        parts = (batch.rows(start, start + rows) for start in range(0, len(batch.input_ids), rows))
        try:
            return torch.stack([_batch_sums(model, part, device, precision) for part in parts]).sum(0), reason
        except (MemoryError, RuntimeError) as error:
            if not is_of_memory(error):
                raise
            reason = first_line(error)
        spared = spare()
        give_back(device)  # outside: no failed try is held while the next is made
        if spared:
            continue
        if rows == 1:
            return None, reason
        at_once.rows = -(-rows // 2)


def _batch_sums(model: AnyModel, batch: Batch, device: torch.device, precision: Precision) -> Tensor:
    """Summed loss, right first choices and tokens of a batch, from logits that are made in pieces, as in training."""
    feed = Feed.of(batch, device)
    hidden_RD, labels_R = feed.hidden(model, precision).flatten(0, 1), feed.labels.flatten()
    if device.type == "cpu" and len(places := (labels_R != IGNORE).nonzero()[:, 0]) < len(labels_R):
        hidden_RD, labels_R = (
            hidden_RD[places],
            labels_R[places],
        )  # no scores are made of questions: training/loss.py
    rows = piece_rows(model)
    cuts = (slice(start, start + rows) for start in range(0, len(labels_R), rows))
    sums = [piece_sums(model, hidden_RD[cut], labels_R[cut], precision) for cut in cuts]
    return torch.stack(sums).cpu().double().sum(0) if sums else torch.zeros(3, dtype=torch.float64)


def piece_rows(model: AnyModel) -> int:
    """Positions whose logits are held at a time."""
    weight = model.output_weight
    return pieces.product_rows(pieces.held_logits(weight.device), len(weight))


def piece_sums(model: AnyModel, hidden_RD: Tensor, labels_R: Tensor, precision: Precision) -> Tensor:
    """The three sums of some positions [3], in double precision where the device has it."""
    with autocast(precision, hidden_RD.device):
        logits = model.logits(hidden_RD)
    some = pieces.passed_rows(len(logits), logits.shape[-1], logits.device)
    parts = zip(torch.split(logits, some), torch.split(labels_R, some), strict=True)
    return torch.stack([_sums(*part) for part in parts]).sum(0)


def _sums(logits_RV: Tensor, labels_R: Tensor) -> Tensor:
    logits = logits_RV.float()
    losses = torch.nn.functional.cross_entropy(logits, labels_R, ignore_index=IGNORE, reduction="none")
    valid = labels_R != IGNORE
    correct = (logits.argmax(-1) == labels_R) & valid
    exact = torch.float32 if logits.device.type == "mps" else torch.float64
    return torch.stack([part.sum(dtype=exact) for part in (losses, correct, valid)])
