"""The facts of documents, compared with a plain loop over them, wherever pieces begin and end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilth.data.shards import Shard, TokenStream, encoded_document, write_shard
from tilth.jobs.preflight import tokens as module
from tilth.jobs.preflight.tokens import SplitFacts, read_split

VOCAB, END = 300, 7
Document = tuple[list[int], list[bool] | None]


def stream_of(folder: Path, *shards: list[Document]) -> TokenStream:
    made = []
    for number, documents in enumerate(shards):
        pieces = [
            encoded_document(f"{n:032x}", np.array(ids, np.uint32), 1, None if marks is None else np.array(marks))
            for n, (ids, marks) in enumerate(documents)
        ]
        write_shard(folder / str(number), pieces, VOCAB, "x")
        made.append(Shard(folder / str(number)))
    return TokenStream(made)


def drawn(seed: int, documents: int) -> list[Document]:
    """Questions and answers of few ids, most of which end."""
    draw = np.random.default_rng(seed)
    found: list[Document] = []
    for _ in range(documents):
        ids, marks = list[int](), list[bool]()
        for _ in range(draw.integers(1, 4)):
            question, answer = (draw.integers(0, 9, draw.integers(0, 12)).tolist() for _ in range(2))
            answer += [END] if draw.random() < 0.8 else [1]
            ids += question + answer
            marks += [False] * len(question) + [draw.random() < 0.9] * len(answer)
        found.append((ids, marks))
    return found


def plainly(documents: list[Document], whole: bool) -> dict[str, Any]:
    """The same by a loop."""
    rows, bare = [], 0
    for ids, marks in documents:
        trained = [True] * len(ids) if marks is None else marks
        pairs = list(zip(ids, trained, [*trained[1:], False], strict=True))
        stretches_without = [own and not after and token != END for token, own, after in pairs]
        before = [False, *trained[:-1]]
        begun = [token for token, own, earlier in zip(ids, trained, before, strict=True) if own and not earlier]
        bare += 0 if whole or marks is None else begun.count(END)
        ended = any(own and token == END for token, own, _ in pairs)
        rows.append((len(ids), sum(trained), not ended if whole else any(stretches_without) or not any(trained)))
    counts = Counter(tuple(ids) for ids, _ in documents)
    return {
        "lengths": [row[0] for row in rows],
        "trained": [row[1] for row in rows],
        "endless": [row[2] for row in rows],
        "bare": bare,
        "duplicates": sum(n - 1 for n in counts.values()),
        "used": dict(Counter(token for ids, _ in documents for token in ids)),
    }


def same(facts: SplitFacts, expected: dict[str, Any]) -> None:
    for name in ("lengths", "trained", "endless"):
        assert getattr(facts, name).tolist() == expected[name], name
    assert (facts.duplicates, facts.bare) == (expected["duplicates"], expected["bare"])
    assert {int(n): int(facts.used[n]) for n in np.flatnonzero(facts.used)} == expected["used"]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 40, 1 << 20])
@pytest.mark.parametrize("whole", [False, True])
def test_facts_are_those_of_a_plain_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, whole: bool
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    documents = drawn(at_once, 60)
    documents += documents[:5]
    facts = read_split(stream_of(tmp_path, documents[:30], documents[30:]), VOCAB, {END}, whole=whole)
    expected = plainly(documents, whole)
    assert expected["duplicates"] >= 5 and 0 < sum(expected["endless"]) < len(documents), "or it would show nothing"
    same(facts, expected)
    assert facts.read == facts.tokens and facts.largest_id == 8


def test_text_without_marks_is_trained_whole_and_must_end(tmp_path: Path) -> None:
    documents: list[Document] = [([1, 2, END], None), ([3, END, 4], None), ([END], None)]
    facts = read_split(stream_of(tmp_path, documents), VOCAB, {END})
    assert facts.trained.tolist() == facts.lengths.tolist() == [3, 3, 1]
    assert facts.endless.tolist() == [False, True, False]


def test_equal_tokens_in_another_order_or_number_are_another_document(tmp_path: Path) -> None:
    documents: list[Document] = [([1, 2, 3], None), ([3, 2, 1], None), ([1, 2], None), ([0, 1, 2, 3], None)]
    documents += [([0] * n, None) for n in (1, 2, 3)]
    assert read_split(stream_of(tmp_path, documents), VOCAB, {END}).duplicates == 0


def test_what_two_splits_have_in_common_is_found(tmp_path: Path) -> None:
    one: list[Document] = [([1, 2, 3], None), ([4, 5], None)]
    other: list[Document] = [([9], None), ([4, 5], None), ([4, 5, 6], None)]
    facts = [read_split(stream_of(tmp_path / str(n), part), VOCAB, {END}) for n, part in enumerate((one, other))]
    assert facts[1].in_common_with(facts[0]).tolist() == [False, True, False]


def test_an_id_beyond_the_vocabulary_is_seen(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, [([1, 250, 2], None)])
    assert read_split(stream, 100, {END}).largest_id == 250


def test_of_the_largest_splits_the_first_shards_are_read_and_that_is_known(tmp_path: Path) -> None:
    documents = drawn(3, 40)
    facts = read_split(stream_of(tmp_path, documents[:20], documents[20:]), VOCAB, {END}, most=10)
    same(facts, plainly(documents[:20], False))
    assert facts.documents == 40 and facts.read < facts.tokens


def test_an_empty_split_has_no_facts(tmp_path: Path) -> None:
    facts = read_split(TokenStream([]), VOCAB, {END})
    assert facts.documents == facts.tokens == facts.read == facts.duplicates == 0 and facts.largest_id == -1
