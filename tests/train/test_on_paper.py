"""A step on paper: the code that trains runs there whole, and holds what it holds in truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tilth.data.batch import IGNORE, Batch
from tilth.data.feed import Feed
from tilth.model.config import ModelConfig
from tilth.model.transformer import Transformer
from tilth.train.config import TrainConfig
from tilth.train.footprint import Footprint, Plan, footprint
from tilth.train.loss import PIECE

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def found(vocab: int, rows: int = 4, labelled: bool = True, dropout: float = 0.0) -> Footprint:
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "context_length": 64}
    config = ModelConfig(**shape, vocab_size=vocab, dropout=dropout)
    ids = np.zeros((rows, 64), np.int64)
    labels = ids if labelled else np.full_like(ids, IGNORE)
    batch = Batch(ids, labels, np.arange(rows))
    train = TrainConfig(steps=1, optimizer={"name": "adamw"})
    return footprint(Plan(lambda: Transformer(config), lambda: Feed.of(batch, CPU), train, "fp32", CPU, True))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("vocab", [300, 2 * PIECE // 256])
def test_a_step_on_a_cpu_runs_on_paper(vocab: int, dropout: float) -> None:
    """With small logits, and with large ones in pieces."""
    model = Transformer(ModelConfig(num_hidden_layers=2, num_attention_heads=2, hidden_size=32, vocab_size=vocab))
    took, more = found(vocab, dropout=dropout), found(vocab, rows=8, dropout=dropout)
    weights = took.stays["weights"]
    assert took.stays["optimizer"] >= 2 * weights and took.step.total > 4 * weights
    assert 0 < weights <= 4 * sum(parameter.numel() for parameter in model.parameters())
    assert more.stays["weights"] == weights and more.step.total > took.step.total


def test_every_position_is_taken_to_have_a_label() -> None:
    """Of which the paper knows nothing: the most that it can be."""
    assert found(300).step.total == found(300, labelled=False).step.total
