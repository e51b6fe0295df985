"""How well a model answers questions whose answers are known.

Pair                                  a question, its answer, and what it is about
without_copies(pairs, trained)        those whose answer is nothing like one that was trained
drawn(pairs, most)                    some of them, always the same
answer_batches(encoded, rows)         conversations as batches in which answers alone bear loss
overlap(pairs, written)               mean ROUGE-L, and what it would be if the answers had been dealt at random
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tilth.core.random import derive_seed
from tilth.data.batches.batch import IGNORE, Batch
from tilth.evaluation.rouge import rouge_l, words_of
from tilth.tokenizer.chat import EncodedChat

LIKE = 0.8
"""The share of words in common (Dice) from which on one answer is a copy of another."""


class Pair(NamedTuple):
    """A question with its answer.

    Attributes:
        place: its locator.
        kind: which form of question it is: answers are compared with others of their form.
        group: what it must not be parted from.
    """

    place: str
    kind: str
    group: str
    question: str
    answer: str


def without_copies(pairs: Sequence[Pair], trained: Sequence[Pair]) -> list[Pair]:
    """The pairs whose answer has less than `LIKE` of its words in common with every trained answer."""
    bags = [frozenset(words_of(answer)) for answer in sorted({pair.answer for pair in trained})]
    sizes = np.array([len(bag) for bag in bags])
    places: defaultdict[str, list[int]] = defaultdict(list)
    for number, bag in enumerate(bags):
        for word in bag:
            places[word].append(number)
    where = {word: np.array(numbers) for word, numbers in places.items()}
    return [pair for pair in pairs if not _has_copy(frozenset(words_of(pair.answer)), where, sizes)]


def _has_copy(bag: frozenset[str], where: dict[str, np.ndarray], sizes: np.ndarray) -> bool:
    common = np.zeros(len(sizes), np.int64)
    for word in bag & where.keys():
        common[where[word]] += 1
    return bool((2 * common >= LIKE * (len(bag) + sizes)).any())


def drawn(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """At most `most` of the pairs, by a hash of their places."""
    return sorted(pairs, key=lambda pair: derive_seed(0, f"drawn/{pair.place}"))[:most]


def answer_batches(encoded: Sequence[EncodedChat], context_length: int, rows: int) -> Iterator[Batch]:
    """Conversations of at most a context's tokens, one a row, the shortest first; those that are longer are cut.

    Rows are filled up on the right with id 0, which causal attention keeps from all before it.
    """
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number].ids))
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        width = min(context_length, max(len(encoded[number].ids) - 1 for number in some))
        inputs, labels = (np.full((len(some), width), fill, np.int64) for fill in (0, IGNORE))
        for row, number in enumerate(some):
            ids = encoded[number].ids[: width + 1].astype(np.int64)
            inputs[row, : len(ids) - 1] = ids[:-1]
            labels[row, : len(ids) - 1] = np.where(encoded[number].trained[1 : len(ids)], ids[1:], IGNORE)
        yield Batch(inputs, labels, np.array(some))


def overlap(pairs: Sequence[Pair], written: Sequence[str]) -> tuple[float, float]:
    """Mean ROUGE-L of what was written with the answers; and with those of other questions of the same kind, each
    compared with the answer to the next: what the form alone is worth.
    """
    own = [rouge_l(pair.answer, text) for pair, text in zip(pairs, written, strict=True)]
    kinds: defaultdict[str, list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        kinds[pair.kind].append(number)
    other = [
        rouge_l(pairs[following].answer, written[number])
        for numbers in kinds.values()
        for number, following in zip(numbers, [*numbers[1:], numbers[0]], strict=True)
    ]
    return _mean(own), _mean(other)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
