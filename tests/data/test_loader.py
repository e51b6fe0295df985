"""The order is computed, whole, the same for every world size, and goes on from a few integers."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.helpers import make_stream
from tilth.core.errors import CheckpointError, DataError, IntegrityError
from tilth.data.batches.batch import IGNORE, make_batch
from tilth.data.batches.loader import Loader, evaluation_batches
from tilth.data.batches.sampling import make_sampler
from tilth.data.shards import TokenStream


@pytest.fixture
def stream(tmp_path: Path) -> TokenStream:
    return make_stream(tmp_path, [[40, 30, 7], [90, 1, 33]])  # 201 tokens, each of another value


def loader(stream: TokenStream, rows: int = 6, **options: object) -> Loader:
    return Loader(make_sampler(stream, 8, seed=3), rows, fingerprint="d", **options)  # type: ignore[arg-type]


def test_an_epoch_shows_every_window_once_and_the_next_is_another(stream: TokenStream) -> None:
    reader = loader(stream, rows=5)
    assert reader.samples_per_epoch == 25
    epochs = [[reader.next() for _ in range(5)] for _ in range(2)]
    reader.close()
    seen = [np.concatenate([batch.input_ids.ravel() for batch in epoch]) for epoch in epochs]
    for tokens in seen:
        assert len(tokens) == 200 == len(set(tokens.tolist())), "200 of 201 tokens, each once"
    assert not np.array_equal(*seen)


def test_labels_are_the_next_tokens(stream: TokenStream) -> None:
    reader = loader(stream)
    batch = reader.next()
    reader.close()
    assert np.array_equal(batch.labels, (batch.input_ids + 1) % 201)
    assert batch.input_ids.shape == (6, 8) and batch.sample_ids.tolist() == list(range(6))


@pytest.mark.parametrize("world_size", [2, 3, 4, 5, 6])
def test_ranks_share_the_batch_that_one_process_sees(stream: TokenStream, world_size: int) -> None:
    alone = loader(stream)
    ranks = [loader(stream, rank=r, world_size=world_size) for r in range(world_size)]
    for _ in range(9):  # across the end of an epoch
        whole, parts = alone.next(), [rank.next() for rank in ranks]
        assert {len(p.input_ids) for p in parts} <= {6 // world_size, -(-6 // world_size)}, "nearly even shares"
        assert np.array_equal(whole.input_ids, np.concatenate([p.input_ids for p in parts]))
        assert np.array_equal(whole.sample_ids, np.concatenate([p.sample_ids for p in parts]))
    for reader in (alone, *ranks):
        reader.close()


@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_going_on_equals_not_stopping(stream: TokenStream, taken: int) -> None:
    reader = loader(stream)
    for _ in range(taken):
        reader.next()
    state = json.loads(json.dumps(reader.state_dict()))
    expected = [reader.next().input_ids for _ in range(4)]
    reader.close()
    other = loader(stream)
    other.next()  # whatever it did before
    other.load_state_dict(state)
    assert all(np.array_equal(batch, other.next().input_ids) for batch in expected)
    other.close()


def test_a_state_of_other_data_or_order_is_refused(stream: TokenStream) -> None:
    reader = loader(stream)
    for key, value in {"dataset": "e", "seed": 4, "context_length": 9, "order_version": 0}.items():
        with pytest.raises(CheckpointError, match=f"{key} {value} -> "):
            reader.load_state_dict({**reader.state_dict(), key: value})


def test_nothing_is_drawn_from_global_generators_and_the_thread_ends(stream: TokenStream) -> None:
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    reader = loader(stream)
    for _ in range(10):
        reader.next()
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index]
    assert any(thread.name == "tilth-loader" for thread in threading.enumerate())
    reader.close()
    assert not any(thread.name == "tilth-loader" for thread in threading.enumerate())


def test_a_fault_in_the_thread_reaches_the_reader(stream: TokenStream) -> None:
    path = stream.shards[1].folder / "tokens.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    reader = loader(stream, rows=24)
    with pytest.raises(IntegrityError, match="SHA-256"):
        reader.next()
    reader.close()


def test_isolated_documents(stream: TokenStream) -> None:
    # Documents start at 0, 40, 70, 77, 167, 168. The row reads 66..78 and predicts 67..79.
    batch = make_batch(stream, np.array([66]), 12, np.array([0]), isolate=True)
    assert batch.labels[0].tolist() == list(range(67, 79))
    assert batch.doc_ids is not None and batch.positions is not None
    # Token 69 ends a document; as input it opens the next one, whose first token, 70, it predicts.
    assert batch.doc_ids[0].tolist() == [1] * 3 + [2] * 7 + [3] * 2
    assert batch.positions[0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 0, 1]


def test_the_ring_closes_between_documents(tmp_path: Path) -> None:
    one = make_stream(tmp_path, [[50]])
    batch = make_batch(one, np.array([45]), 10, np.array([0]), isolate=True)
    assert batch.labels[0].tolist() == [46, 47, 48, 49, 0, 1, 2, 3, 4, 5]
    assert batch.doc_ids is not None and batch.doc_ids[0].tolist() == [1] * 4 + [2] * 6


@pytest.mark.parametrize("isolate", [False, True])
def test_an_evaluation_predicts_every_token_once(stream: TokenStream, isolate: bool) -> None:
    batches = list(evaluation_batches(stream, 8, 4, end_of_text=999, isolate=isolate))
    labels = np.concatenate([batch.labels.ravel() for batch in batches])
    assert labels[labels != IGNORE].tolist() == list(range(201))
    inputs = np.concatenate([batch.input_ids.ravel() for batch in batches])
    assert inputs[:201].tolist() == [999, *range(200)]
    assert all((batch.labels[batch.labels != IGNORE] < 201).all() for batch in batches)


def test_too_little_text_says_what_to_do(tmp_path: Path) -> None:
    short = make_stream(tmp_path, [[8]])
    with pytest.raises(DataError, match="has 8 tokens; one sample needs 9") as caught:
        make_sampler(short, 8, seed=1)
    assert "context_length" in caught.value.remedy
