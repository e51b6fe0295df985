"""A deterministic full pass over text: each token predicted once, no sampling of batches, dropout off."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from tilth.core.errors import DataError
from tilth.data.feed import Feed
from tilth.data.loader import IGNORE, Batch
from tilth.distributed.runtime import Runtime
from tilth.evaluate.metrics import Metrics
from tilth.model.precision import Precision
from tilth.model.transformer import Transformer


@torch.no_grad()
def evaluate(
    model: Transformer, batches: Iterable[Batch], text_bytes: int, runtime: Runtime, precision: Precision = "fp32"
) -> Metrics:
    """Metrics over all batches. In a group, process r takes every world_size-th batch and the sums are added up.

    Args:
        text_bytes: UTF-8 bytes of the text that the batches hold.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64)
    for number, batch in enumerate(batches):
        if number % runtime.world_size == runtime.rank:
            sums += _batch_sums(model, batch, runtime.device, precision)
    model.train(was_training)
    sums = runtime.sum(sums.to(runtime.device)).cpu()
    loss_sum, correct, tokens = sums.tolist()
    if not tokens:
        raise DataError(
            "there is nothing to evaluate: the text has no tokens", "give a larger validation split, or --data FILE"
        )
    return Metrics.from_sums(loss_sum, int(correct), int(tokens), text_bytes)


def _batch_sums(model: Transformer, batch: Batch, device: torch.device, precision: Precision) -> torch.Tensor:
    feed = Feed.of(batch, device)
    logits, labels = feed.logits(model, precision), feed.labels
    valid = labels != IGNORE
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    correct = (logits.argmax(-1) == labels) & valid
    return torch.stack([losses.double().sum(), correct.sum().double(), valid.sum().double()]).cpu()
