"""A packed row is worth what its documents are worth alone: loss and gradients, in fp64; and who sees whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tilth.data.batches.batch import IGNORE, Batch
from tilth.data.batches.feed import Feed
from tilth.data.batches.packed import packed_rows
from tilth.data.batches.packing import PackingConfig, pack
from tilth.data.shards import Shard, TokenStream, encoded_document, write_shard
from tilth.model.config import ModelConfig
from tilth.model.transformer import Transformer, build
from tilth.training.loss import summed_loss

ROOM = 16
LENGTHS = [17, 9, 1, 9, 2, 5, 3, 1, 6]
"""A row that one document fills, one that two fill to its end, one with padding; documents of one and two tokens."""
STYLES: dict[str, dict[str, Any]] = {
    "rotary": {"position": "rotary", "norm": "rmsnorm", "num_key_value_heads": 1},
    "learned": {"position": "learned", "norm": "layernorm", "bias": True, "num_key_value_heads": 2},
}


def documents(folder: Path) -> tuple[TokenStream, list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
    """A stream with a loss mask, and its documents' tokens and marks."""
    generator = np.random.default_rng(0)
    tokens = [generator.integers(0, 50, length).astype(np.uint32) for length in LENGTHS]
    marks = [np.array(generator.integers(0, 3, length) > 0) for length in LENGTHS]
    for own in marks:
        own[-1] = True
    rows = [encoded_document(f"{n:032x}", t, 1, m) for n, (t, m) in enumerate(zip(tokens, marks, strict=True))]
    write_shard(folder / "s", rows, 50, "tokenizer")
    return TokenStream([Shard(folder / "s")]), tokens, marks


def model_of(style: str) -> Transformer:
    config = ModelConfig(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=16,
        context_length=ROOM,
        vocab_size=50,
        dropout=0.0,
        initializer_range=0.3,
        **STYLES[style],
    )
    return build(config, 1).double()


def loss_of(model: Transformer, batch: Batch) -> torch.Tensor:
    feed = Feed.of(batch, torch.device("cpu"))
    return summed_loss(feed.hidden(model, "fp32"), model.output_weight, feed.labels, "fp32")


def alone(tokens: np.ndarray[Any, Any], marks: np.ndarray[Any, Any]) -> Batch:
    """A document as a row of its own, without padding, isolation or positions."""
    ids = tokens.astype(np.int64)[None]
    labels = np.where(marks, ids, IGNORE)[:, 1:]
    return Batch(ids[:, :-1], labels, np.zeros(1, np.int64))


def gradients(model: Transformer) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("style", STYLES)
def test_a_packed_row_is_the_sum_of_its_documents(tmp_path: Path, style: str) -> None:
    stream, tokens, marks = documents(tmp_path)
    packing = pack(stream, ROOM, PackingConfig())
    rows = np.arange(packing.rows)
    batch, model = packed_rows(packing, rows, rows), model_of(style)
    assert batch.doc_ids is not None
    assert (batch.doc_ids[:, -1] > 0).tolist() == [True, True, False], "two rows are full, one has padding"
    assert batch.valid_labels == sum(int(own[1:].sum()) for own in marks)
    packed = loss_of(model, batch)
    packed.backward()  # type: ignore[no-untyped-call]
    of_rows = gradients(model)
    total = 0.0
    for own, trained in zip(tokens, marks, strict=True):
        if len(own) > 1:
            loss = loss_of(model, alone(own, trained))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
    of_documents = gradients(model)
    assert packed.dtype == torch.float64 and packed.item() == pytest.approx(total, abs=1e-9)
    assert of_rows.keys() == of_documents.keys()
    for name, gradient in of_rows.items():
        assert torch.allclose(gradient, of_documents[name], rtol=0, atol=1e-9), name
    # Negative control: without the documents' borders it is another loss.
    crossed = Batch(batch.input_ids, batch.labels, batch.sample_ids, None, None)
    assert abs(loss_of(model, crossed).item() - total) > 1e-3


@pytest.mark.parametrize("isolate", [False, True])
def test_a_masked_model_looks_both_ways_and_into_no_other_document(isolate: bool) -> None:
    doc_ids = np.array([[1, 1, 1, 2, 2, 0]], np.int32)
    ids = np.array([[4, 5, 6, 7, 8, 0]])
    positions = np.array([[0, 1, 2, 0, 1, 0]])
    isolated = (doc_ids, positions) if isolate else (None, None)
    model = model_of("rotary")

    def hidden(changed: int) -> torch.Tensor:
        other = ids.copy()
        other[0, changed] = 40
        batch = Batch(other, ids, np.zeros(1, np.int64), *isolated, causal=False)
        with torch.no_grad():
            return Feed.of(batch, torch.device("cpu")).hidden(model, "fp32")[0]

    with torch.no_grad():
        same = Feed.of(Batch(ids, ids, np.zeros(1, np.int64), *isolated, causal=False), torch.device("cpu"))
        before = same.hidden(model, "fp32")[0]
    assert not same.causal
    for changed in range(6):
        moved = (hidden(changed) - before).abs().amax(-1) > 1e-12
        expected = doc_ids[0] == doc_ids[0, changed] if isolate else np.ones(6, bool)
        assert np.array_equal(moved.numpy(), expected)
