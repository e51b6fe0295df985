"""Figures of a full pass against a plain computation, window by window, without the loader and the evaluator."""

from __future__ import annotations

import functools
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.generate.helpers import random_model
from tilth.core.errors import DataError
from tilth.data.batches.batch import IGNORE, Batch
from tilth.data.batches.loader import evaluation_batches
from tilth.data.shards import Shard, TokenStream, encoded_document, write_shard
from tilth.distributed.refused import OutOfMemory
from tilth.distributed.runtime import Runtime
from tilth.evaluation.evaluator import AtOnce, evaluate
from tilth.evaluation.metrics import Metrics
from tilth.model import pieces
from tilth.model.transformer import Transformer

END, CONTEXT = 256, 12
CPU = Runtime(torch.device("cpu"))
LENGTHS = [40, 1, 13, 25, 2]


def write_stream(folder: Path, lengths: list[int], shards: int = 1) -> tuple[TokenStream, list[list[int]]]:
    """Documents of random bytes (each with its end), spread over some shards."""
    draw = np.random.default_rng(2)
    documents = [[*draw.integers(0, 256, length - 1).tolist(), END] for length in lengths]
    made = []
    for number in range(shards):
        mine = documents[number * len(documents) // shards : (number + 1) * len(documents) // shards]
        encoded = [encoded_document(f"{n:032x}", np.array(ids, np.uint32), len(ids) - 1) for n, ids in enumerate(mine)]
        write_shard(folder / str(number), encoded, 257, "tokenizer")
        made.append(Shard(folder / str(number)))
    return TokenStream(made), documents


def measured(model: Transformer, stream: TokenStream, rows: int = 4, isolate: bool = False, **runtime: Any) -> Metrics:
    batches = evaluation_batches(stream, CONTEXT, rows, END, isolate)
    return evaluate(model, batches, stream.text_bytes, Runtime(torch.device("cpu"), **runtime))


@torch.no_grad()
def plain_sums(model: Transformer, inputs: list[int], labels: list[int]) -> tuple[float, int]:
    """Summed loss and right first choices of one row by itself, with softmax written out."""
    logits = model.logits(model(torch.tensor([inputs])))[0].double()
    chances = logits.exp() / logits.exp().sum(-1, keepdim=True)
    loss = sum(-math.log(chances[place, label]) for place, label in enumerate(labels))
    return loss, int((logits.argmax(-1) == torch.tensor(labels)).sum())


def plain_metrics(model: Transformer, documents: list[list[int]], isolate: bool) -> Metrics:
    """All tokens in windows of `CONTEXT`, each predicted from the one before; isolated: from its own document alone."""
    tokens = [token for document in documents for token in document]
    owners = [number for number, document in enumerate(documents) for _ in document]
    before = [END, *tokens[:-1]]
    loss, right = 0.0, 0
    for start in range(0, len(tokens), CONTEXT):
        window = range(start, min(start + CONTEXT, len(tokens)))
        owned = [[n for n in window if owners[n] == owner] for owner in dict.fromkeys(owners[n] for n in window)]
        for places in owned if isolate else [list(window)]:
            part = plain_sums(model, [before[n] for n in places], [tokens[n] for n in places])
            loss, right = loss + part[0], right + part[1]
    text_bytes = sum(len(document) - 1 for document in documents)
    return Metrics.from_sums(loss, right, len(tokens), text_bytes)


def assert_equal(ours: Metrics, theirs: Metrics) -> None:
    assert ours.tokens == theirs.tokens and ours.accuracy == theirs.accuracy
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert ours.perplexity == pytest.approx(theirs.perplexity, rel=1e-5)
    assert (ours.bits_per_byte is None) == (theirs.bits_per_byte is None)
    assert ours.bits_per_byte is None or ours.bits_per_byte == pytest.approx(theirs.bits_per_byte, rel=1e-6)


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("lengths", [LENGTHS, [CONTEXT * 3], [5], [1], [1] * 30, [CONTEXT, CONTEXT - 1]])
@pytest.mark.parametrize("changes", [{}, {"position": "learned", "norm": "layernorm"}])
def test_the_figures_are_those_of_a_plain_computation(
    tmp_path: Path, isolate: bool, lengths: list[int], changes: dict[str, Any]
) -> None:
    model = random_model(CONTEXT, scale=5.0, **changes)
    stream, documents = write_stream(tmp_path, lengths)
    assert_equal(measured(model, stream, isolate=isolate), plain_metrics(model, documents, isolate))


def test_isolating_documents_matters(tmp_path: Path) -> None:
    model = random_model(CONTEXT, scale=5.0)
    stream, _ = write_stream(tmp_path, LENGTHS)
    assert abs(measured(model, stream).loss - measured(model, stream, isolate=True).loss) > 1e-3


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 1000])
def test_the_size_of_batches_does_not_matter(tmp_path: Path, rows: int, isolate: bool) -> None:
    model = random_model(CONTEXT, scale=5.0)
    stream, _ = write_stream(tmp_path, LENGTHS)
    assert_equal(measured(model, stream, rows, isolate), measured(model, stream, 4, isolate))


def test_how_the_text_lies_in_shards_does_not_matter(tmp_path: Path) -> None:
    model = random_model(CONTEXT, scale=5.0)
    one, _ = write_stream(tmp_path / "one", LENGTHS)
    four, _ = write_stream(tmp_path / "four", LENGTHS, shards=4)
    assert_equal(measured(model, four), measured(model, one))


@pytest.mark.parametrize("world_size", [2, 3, 9])
def test_the_sums_of_all_processes_are_those_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    """Each process's own sums, before they are added up: together they are the whole, and no batch is counted twice."""
    model = random_model(CONTEXT, scale=5.0)
    stream, _ = write_stream(tmp_path, LENGTHS)
    sums: list[torch.Tensor] = []
    some = torch.tensor(
        [1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64
    )  # of another process, to which nothing was refused
    monkeypatch.setattr(Runtime, "sum", lambda self, tensor: (sums.append(tensor.clone()), tensor + some)[1])
    for rank in range(world_size):
        measured(model, stream, rows=1, rank=rank, world_size=world_size)
    monkeypatch.undo()
    loss, right, tokens, *_ = torch.stack(sums).sum(0).tolist()
    assert_equal(Metrics.from_sums(loss, int(right), int(tokens), stream.text_bytes), measured(model, stream))


def test_what_bears_no_label_counts_nothing_however_scores_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions of a conversation: rows of which some positions are trained, and one of which none is."""
    model, draw = random_model(CONTEXT, scale=5.0), np.random.default_rng(5)
    ids = draw.integers(0, 256, (9, CONTEXT + 1))
    labels = np.where(draw.random((9, CONTEXT)) < 0.4, ids[:, 1:], IGNORE)
    labels[8] = IGNORE
    whole = Batch(ids[:, :-1].copy(), labels, np.arange(9))
    rows = [whole.rows(n, n + 1) for n in range(9)]
    loss, right = 0.0, 0
    for row in rows[:8]:
        with torch.no_grad():
            logits = model.logits(model(torch.from_numpy(row.input_ids)))[0].double()
        for place in np.flatnonzero(row.labels[0] != IGNORE):
            label = int(row.labels[0, place])
            loss -= float(logits[place].log_softmax(-1)[label])
            right += int(logits[place].argmax()) == label
    expected = Metrics.from_sums(loss, right, int((labels != IGNORE).sum()), 100)
    for piece, together in ((1 << 21, 256), (257 * 3, 7), (1, 2)):
        monkeypatch.setattr(pieces, "PIECE", piece)
        monkeypatch.setattr(pieces, "ROWS", together)
        assert_equal(evaluate(model, rows, 100, CPU), expected)
        assert_equal(evaluate(model, [whole], 100, CPU), expected)


def test_dropout_is_off_and_the_model_left_as_it_was(tmp_path: Path) -> None:
    model = random_model(CONTEXT, scale=5.0, dropout=0.5)
    stream, documents = write_stream(tmp_path, LENGTHS)
    expected = plain_metrics(model, documents, isolate=False)
    model.train()
    state = torch.get_rng_state()
    assert_equal(measured(model, stream), expected)
    assert model.training and torch.equal(torch.get_rng_state(), state)
    model.eval()
    measured(model, stream)
    assert not model.training


def test_what_comes_between_batches_may_end_the_pass(tmp_path: Path) -> None:
    model, calls = random_model(CONTEXT), list[int]()
    stream, _ = write_stream(tmp_path, LENGTHS)
    batches = list(evaluation_batches(stream, CONTEXT, 1, END, False))

    def between() -> None:
        calls.append(len(calls))
        if len(calls) == 3:
            raise InterruptedError

    model.train()
    with pytest.raises(InterruptedError):
        evaluate(model, batches, 1, CPU, between=between)
    assert len(batches) > 5 and len(calls) == 3 and model.training


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_processes_are_asked_between_batches_as_often(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, draw = random_model(CONTEXT), np.random.default_rng(5)
    ids = draw.integers(0, 256, (7, CONTEXT))
    rows = [Batch(ids[n : n + 1], ids[n : n + 1], np.arange(1)) for n in range(7)]
    monkeypatch.setattr(Runtime, "sum", lambda _, tensor: tensor)
    asked = list[int]()
    for rank in range(world_size):
        here = Runtime(torch.device("cpu"), rank, world_size)
        evaluate(model, rows, 1, here, between=functools.partial(asked.append, rank))
    assert [asked.count(rank) for rank in range(world_size)] == [-(-7 // world_size)] * world_size


class Short:
    """A model on a machine that refuses memory to more than so many rows at once."""

    def __init__(self, model: Transformer, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries: list[int] = []
        self.room, self.held, self.alive = room, list[weakref.ref[torch.Tensor]](), list[bool]()
        forward = model.forward

        def refuses(input_ids: torch.Tensor, *rest: Any) -> torch.Tensor:
            self.tries.append(len(input_ids))
            self.alive += [one() is not None for one in self.held]
            if len(input_ids) > self.room:
                held = torch.empty(4)
                self.held.append(weakref.ref(held))
                raise RuntimeError(
                    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory\nmore"
                )
            return forward(input_ids, *rest)

        monkeypatch.setattr(model, "forward", refuses)


@pytest.mark.parametrize("isolate", [False, True])
def test_where_memory_is_refused_fewer_rows_go_through_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolate: bool
) -> None:
    model = random_model(CONTEXT, scale=5.0)
    stream, _ = write_stream(tmp_path, LENGTHS)
    whole = measured(model, stream, 4, isolate)
    machine, told, at_once = Short(model, 1, monkeypatch), list[str](), AtOnce()
    for _ in range(2):
        batches = evaluation_batches(stream, CONTEXT, 4, END, isolate)
        assert_equal(evaluate(model, batches, stream.text_bytes, CPU, at_once=at_once, tell=told.append), whole)
    assert machine.tries == [4, 2] + [1] * 14, "no piece counts twice, and the next pass begins with what fits"
    assert not any(machine.alive), "no failed try is held while the next is made"
    assert told == [
        "out of memory in an evaluation ([enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate "
        "memory): it went on with at most 1 row at once, as those after it will; but for rounding the figures are the "
        "same"
    ]


def test_what_can_be_spared_goes_before_fewer_rows_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(CONTEXT, scale=5.0)
    stream, _ = write_stream(tmp_path, LENGTHS)
    whole = measured(model, stream, 4)
    machine, asked, told = Short(model, 0, monkeypatch), list[int](), list[str]()

    def spare() -> bool:
        asked.append(machine.tries[-1])
        machine.room = 2
        return len(asked) == 1

    batches = evaluation_batches(stream, CONTEXT, 4, END, False)
    assert_equal(evaluate(model, batches, stream.text_bytes, CPU, tell=told.append, spare=spare), whole)
    assert machine.tries[:3] == [4, 4, 2] and set(machine.tries[3:]) <= {1, 2} and asked == [4, 4] and len(told) == 1


def test_what_is_refused_a_single_row_ends_it_in_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(CONTEXT)
    stream, _ = write_stream(tmp_path, LENGTHS)
    Short(model, 0, monkeypatch)
    with pytest.raises(OutOfMemory, match="enforce fail at alloc_cpu"):
        measured(model, stream)
    asked = list[int]()
    other = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    monkeypatch.setattr(Runtime, "sum", lambda _, tensor: tensor + other)
    batches = list(evaluation_batches(stream, CONTEXT, 1, END, False))
    with pytest.raises(OutOfMemory, match="enforce fail at alloc_cpu"):
        evaluate(model, batches, 1, Runtime(CPU.device, 0, 2), between=lambda: asked.append(1))
    assert len(asked) == -(-len(batches) // 2), "as often as the others, which must not wait"
    monkeypatch.undo()
    refused = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    monkeypatch.setattr(Runtime, "sum", lambda _, tensor: tensor + refused)
    with pytest.raises(OutOfMemory, match="in another process"):
        evaluate(model, batches, 1, Runtime(CPU.device, 1, 2))


def test_another_error_of_an_evaluation_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(CONTEXT)
    stream, _ = write_stream(tmp_path, LENGTHS)
    monkeypatch.setattr(model, "logits", lambda hidden: hidden @ torch.ones(3, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measured(model, stream)


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(DataError, match="no tokens"):
        evaluate(random_model(CONTEXT), [], 0, CPU)


def test_bits_per_byte_by_hand() -> None:
    # 10 tokens of 2 bits each over 5 bytes of text: 4 bits a byte.
    metrics = Metrics.from_sums(10 * 2 * math.log(2), 3, 10, 5)
    assert metrics.bits_per_byte == pytest.approx(4.0)
    assert metrics.loss == pytest.approx(2 * math.log(2)) and metrics.perplexity == pytest.approx(4.0)
    assert metrics.accuracy == 0.3 and metrics.tokens == 10
    assert math.isfinite(Metrics.from_sums(1e6, 0, 1, 1).perplexity), "a lost model is no reason to crash"
    assert Metrics.from_sums(1.0, 0, 1, 0).bits_per_byte is None


def test_a_model_that_knows_nothing_needs_eight_bits_a_byte(tmp_path: Path) -> None:
    """With all weights zero each of 257 ids is as likely; the ends of documents cost, and have no byte."""
    model = random_model(CONTEXT, scale=0.0)
    stream, documents = write_stream(tmp_path, LENGTHS)
    metrics = measured(model, stream)
    tokens = sum(map(len, documents))
    assert metrics.loss == pytest.approx(math.log(257), rel=1e-6)
    assert metrics.bits_per_byte == pytest.approx(math.log2(257) * tokens / (tokens - len(documents)), rel=1e-6)
