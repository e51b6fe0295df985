"""Rows of whole documents: as few as best fit decreasing makes, every step once, nothing left out without a count."""

from __future__ import annotations

import bisect
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.helpers import make_stream
from tilth.core.errors import CheckpointError, DataError
from tilth.data.batches.batch import IGNORE, Batch, Int64
from tilth.data.batches.loader import Loader
from tilth.data.batches.mixture import Mixture, Ring
from tilth.data.batches.packed import PackedSampler, packed_pass, packed_rows
from tilth.data.batches.packing import Packing, PackingConfig, best_fit, pack
from tilth.data.batches.sampling import MixtureSampler, make_sampler
from tilth.data.shards import Shard, TokenStream, encoded_document, write_shard

SPLIT = PackingConfig(too_long="split")
LENGTHS = [[5, 1, 9, 2], [3, 3, 30, 8, 17], [], [9]]


def plain_best_fit(sizes: list[int], room: int) -> list[int]:
    """What is left in each row, by the definition: one piece after another, a sorted list of open rooms."""
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        place = bisect.bisect_left(rooms, size)
        left = (rooms.pop(place) if place < len(rooms) else room) - size
        bisect.insort(rooms, left)
    return rooms


@settings(deadline=None)
@given(st.integers(1, 40).flatmap(lambda room: st.tuples(st.just(room), st.lists(st.integers(1, room), min_size=1))))
def test_rows_are_those_of_best_fit_decreasing(given_sizes: tuple[int, list[int]]) -> None:
    room, sizes = given_sizes
    order, borders = best_fit(np.array(sizes, np.int64), room)
    assert sorted(order.tolist()) == list(range(len(sizes))), "each piece in one row"
    filled = [sum(sizes[n] for n in order[a:b]) for a, b in itertools.pairwise(borders.tolist())]
    assert sorted(room - size for size in filled) == plain_best_fit(sizes, room)
    assert np.array_equal(order, best_fit(np.array(sizes, np.int64), room)[0])


def rows_of(packing: Packing) -> Batch:
    numbers = np.arange(packing.rows, dtype=np.int64)
    return packed_rows(packing, numbers, numbers)


def pieces_of(batch: Batch) -> list[tuple[list[int], list[int], list[int]]]:
    """Inputs, labels and positions of each document of each row."""
    assert batch.doc_ids is not None and batch.positions is not None
    found = []
    for row in range(len(batch.input_ids)):
        for document in range(1, int(batch.doc_ids[row].max()) + 1):
            own = batch.doc_ids[row] == document
            columns = np.flatnonzero(own)
            assert (np.diff(columns) == 1).all(), "a document stands together"
            arrays = (batch.input_ids[row], batch.labels[row], batch.positions[row])
            found.append(tuple(array[own].tolist() for array in arrays))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("room", [8, 16, 64])
def test_every_token_but_the_first_of_a_document_is_predicted_once(tmp_path: Path, room: int) -> None:
    stream = make_stream(tmp_path, LENGTHS)
    packing = pack(stream, room, SPLIT)
    batch = rows_of(packing)
    predicted = batch.labels[batch.labels != IGNORE]
    firsts = stream.document_starts().tolist()
    assert sorted(predicted.tolist()) == sorted(set(range(stream.tokens)) - set(firsts))
    for inputs, labels, positions in pieces_of(batch):
        assert labels == [token + 1 for token in inputs] and positions == list(range(len(inputs)))
    assert batch.doc_ids is not None
    padding = batch.doc_ids == 0
    assert (batch.labels[padding] == IGNORE).all() and (batch.input_ids[padding] == 0).all()
    assert packing.steps == (~padding).sum() == packing.trained
    assert packing.efficiency == pytest.approx((~padding).mean())
    (one,) = [o for o in packing.left_out if o.rule == "nothing_to_predict"]
    assert one.documents.tolist() == [1], "a document of one token has none to predict"


def test_with_an_opening_every_token_is_predicted_and_the_end_before_is_read(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, LENGTHS)
    packing = pack(stream, 16, SPLIT, opening=True)
    batch = rows_of(packing)
    assert sorted(batch.labels[batch.labels != IGNORE].tolist()) == list(range(stream.tokens))
    inputs = {labels[0]: inputs[0] for inputs, labels, _ in pieces_of(batch)}
    assert all(inputs[start] == (start - 1) % stream.tokens for start in stream.document_starts().tolist())
    assert all(one.rule == "too_long" for one in packing.left_out)


def test_of_a_masked_model_every_token_is_its_own_label(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, LENGTHS)
    batch = rows_of(pack(stream, 16, SPLIT, ahead=0))
    assert not batch.causal
    assert sorted(batch.labels[batch.labels != IGNORE].tolist()) == list(range(stream.tokens))
    assert all(inputs == labels for inputs, labels, _ in pieces_of(batch))


def test_what_is_too_long_is_what_the_recipe_says(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, LENGTHS)  # documents 6 and 8 have 30 and 17 tokens

    def packed(too_long: str) -> tuple[Packing, dict[str, tuple[str, list[int], list[int]]]]:
        packing = pack(stream, 16, PackingConfig.model_validate({"too_long": too_long}))
        left = {o.rule: (o.verdict, o.documents.tolist(), o.steps.tolist()) for o in packing.left_out}
        return packing, left

    with pytest.raises(
        DataError, match=r"1 of 10 documents are too long for a row of 16; the longest, 0{30}13, needs 29"
    ):
        packed("error")
    for too_long, lost, verdict in (("split", 0, "changed"), ("truncate", 13, "changed"), ("drop", 29, "dropped")):
        packing, left = packed(too_long)
        assert left["too_long"] == (verdict, [6], [lost])
        assert packing.steps == stream.tokens - 10 - lost
        assert "too_long: 1 " in packing.describe() and f"{lost:,} tokens lost" in packing.describe()
        assert [v.rule for v in packing.verdicts()] == ["nothing_to_predict", "too_long"]
        assert [v.doc_id for v in packing.verdicts()] == [stream.doc_id(1), stream.doc_id(6)]


def masked_stream(folder: Path, documents: list[list[int]]) -> TokenStream:
    """Documents by their marks; token n of document d is 10 d + n."""
    encoded = [
        encoded_document(f"{d:032x}", np.arange(len(marks), dtype=np.uint32) + 10 * d, 1, np.array(marks, np.bool_))
        for d, marks in enumerate(documents)
    ]
    write_shard(folder / "a", encoded[:2], 1000, "tokenizer")
    plain = encoded_document(f"{99:032x}", np.arange(500, 504, dtype=np.uint32), 1)
    write_shard(folder / "b", [plain], 1000, "tokenizer")
    write_shard(folder / "c", encoded[2:], 1000, "tokenizer")
    return TokenStream([Shard(folder / name) for name in "abc"])


def test_labels_are_the_trained_tokens_and_what_has_none_is_left_out(tmp_path: Path) -> None:
    marks = [[0, 0, 1, 1], [1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 1, 0, 1]]
    stream = masked_stream(tmp_path, marks)
    packing = pack(stream, 4, PackingConfig(too_long="split"))
    labels = rows_of(packing).labels
    assert sorted(labels[labels != IGNORE].tolist()) == [2, 3, 25, 31, 33, 501, 502, 503]
    assert packing.trained == 8
    told = {(v.doc_id[-2:], v.rule, v.verdict, v.value) for v in packing.verdicts()}
    # The first token of document 1 is trained, and nothing stands before it; of document 2 one piece is left.
    assert told == {
        ("01", "nothing_trained", "dropped", "2"),
        ("02", "too_long", "changed", "0"),
        ("02", "nothing_trained", "changed", "4"),
    }
    windows = make_sampler(stream, 4, 0, same_windows=True)
    batch = windows.shares(np.arange(5))[0].ring.batch(np.arange(5), np.arange(5))
    seen = stream.take(np.flatnonzero(stream.trained(np.arange(stream.tokens))))
    assert set(batch.labels[batch.labels != IGNORE].tolist()) <= set(seen.tolist())
    assert (batch.labels == IGNORE).sum() == 20 - len(seen)


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    stream = masked_stream(tmp_path, [[0, 0, 0], [0, 0], [0, 0, 0, 0]])
    only = TokenStream([stream.shards[0], stream.shards[2]])
    with pytest.raises(DataError, match="of 3 documents none is left to train on: nothing_trained: 3") as caught:
        pack(only, 8, PackingConfig())
    assert "train_on" in caught.value.remedy


def many(folder: Path, seed: int = 1, vocab_size: int = 60_000) -> TokenStream:
    lengths = np.random.default_rng(seed).integers(1, 30, (3, 20)).tolist()
    return make_stream(folder, lengths, vocab_size)


def loader(stream: TokenStream, rows: int = 6, **options: Any) -> Loader:
    return Loader(make_sampler(stream, 16, 3, packing=SPLIT), rows, fingerprint="d", **options)


def test_an_epoch_shows_every_row_once_and_the_next_in_another_order(tmp_path: Path) -> None:
    stream = many(tmp_path)
    reader = loader(stream, rows=1)
    rows = reader.samples_per_epoch
    epochs = [[reader.next().labels.tobytes() for _ in range(rows)] for _ in range(2)]
    reader.close()
    whole = [row.tobytes() for row in rows_of(pack(stream, 16, SPLIT)).labels]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(whole) and epochs[0] != epochs[1]


@pytest.mark.parametrize("world_size", [2, 4, 5])
def test_ranks_share_the_batch_that_one_process_sees(tmp_path: Path, world_size: int) -> None:
    stream = many(tmp_path)
    alone, ranks = loader(stream), [loader(stream, rank=r, world_size=world_size) for r in range(world_size)]
    for _ in range(12):  # across the end of an epoch
        whole, parts = alone.next(), [rank.next() for rank in ranks]
        for name in ("input_ids", "labels", "sample_ids", "doc_ids", "positions"):
            assert np.array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))
    for reader in (alone, *ranks):
        reader.close()


def test_going_on_equals_not_stopping_and_another_packing_is_refused(tmp_path: Path) -> None:
    stream = many(tmp_path)
    reader = loader(stream)
    for _ in range(9):
        reader.next()
    state = json.loads(json.dumps(reader.state_dict()))
    expected = [reader.next().labels for _ in range(3)]
    reader.close()
    other = loader(stream)
    other.load_state_dict(state)
    assert all(np.array_equal(labels, other.next().labels) for labels in expected)
    other.close()
    windows = Loader(make_sampler(stream, 16, 3), 6, fingerprint="d")
    drops = Loader(make_sampler(stream, 16, 3, packing=PackingConfig(too_long="drop")), 6, fingerprint="d")
    opening = Loader(make_sampler(stream, 16, 3, packing=SPLIT, opening=True), 6, fingerprint="d")
    for here, of in ((windows, state), (drops, state), (opening, state), (other, windows.state_dict())):
        with pytest.raises(CheckpointError, match="packing"):
            here.load_state_dict(of)


def test_tokens_lead_to_the_samples_that_predict_them_and_back(tmp_path: Path) -> None:
    stream = many(tmp_path)
    sampler = make_sampler(stream, 16, 3, packing=SPLIT)
    (ring,) = sampler.rings
    borders = [*stream.document_starts().tolist(), stream.tokens]
    for epoch in (0, 2):
        numbers = np.arange(sampler.samples_per_epoch) + epoch * sampler.samples_per_epoch
        labels = ring.batch(numbers, numbers).labels
        for document in range(stream.documents):
            inside = (labels >= borders[document]) & (labels < borders[document + 1])
            samples, counts = ring.samples_of(borders[document], borders[document + 1], epoch)
            assert np.array_equal(samples, numbers[inside.any(axis=1)])
            assert np.array_equal(counts, inside.sum(axis=1)[inside.any(axis=1)])
        for number in numbers[:5]:
            found = ring.documents(np.array([number]))
            row = ring.batch(np.array([number]), np.array([number])).labels
            owners = np.searchsorted(borders, row[row != IGNORE], side="right") - 1
            assert [array.tolist() for array in found] == [a.tolist() for a in np.unique(owners, return_counts=True)]


def test_a_mixture_has_its_shares_in_tokens_though_rows_are_not_equally_full(tmp_path: Path) -> None:
    full = make_stream(tmp_path / "full", [[17] * 40])
    half = make_stream(tmp_path / "half", [[10] * 40])  # nine steps: one document a row of 16
    mixture = Mixture((Ring("full", full, 1), Ring("half", half, 3)), 1600)
    sampler = make_sampler(mixture, 16, 3, packing=SPLIT)
    assert isinstance(sampler, MixtureSampler)
    batch = Loader(sampler, 400, fingerprint="d").sampler.shares(np.arange(4000))
    tokens = [int((s.ring.batch(s.numbers[:2000], s.numbers[:2000]).labels != IGNORE).sum()) for s in batch]
    weights = [tokens[n] * len(batch[n].numbers) / min(2000, len(batch[n].numbers)) for n in range(2)]
    assert weights[1] / sum(weights) == pytest.approx(0.75, abs=1e-3)
    seen = sampler.seen(4000)
    assert [one["tokens"] for one in seen] == pytest.approx(weights, abs=1)
    assert sampler.samples_per_epoch == int(1600 * (0.25 / 16 + 0.75 / 9))
    assert sampler.order()["packing"]["too_long"] == "split"


def test_a_full_pass_predicts_every_label_once(tmp_path: Path) -> None:
    packing = pack(many(tmp_path), 16, SPLIT)
    batches = list(packed_pass(packing, 4))
    labels = np.concatenate([batch.labels.ravel() for batch in batches])
    assert len(set(labels[labels != IGNORE].tolist())) == (labels != IGNORE).sum() == packing.trained
    assert np.concatenate([batch.sample_ids for batch in batches]).tolist() == list(range(packing.rows))


@pytest.mark.slow
def test_padding_is_little_where_documents_are_short(tmp_path: Path) -> None:
    """At least twice the useful tokens of rows that are padded to the longest of their batch, on lengths as
    instructions have them.
    """
    lengths: Int64 = np.random.default_rng(0).lognormal(4.5, 1.0, 2000).astype(np.int64).clip(2, 1024)
    packing = pack(make_stream(tmp_path, [lengths.tolist()], 65_000), 1024, PackingConfig())
    batches = lengths.reshape(-1, 16)
    padded = batches.sum() / (16 * batches.max(axis=1)).sum()
    assert packing.efficiency > 0.99 and packing.efficiency > 2 * padded
    assert isinstance(make_sampler(packing.stream, 1024, 0, packing=PackingConfig()), PackedSampler)
