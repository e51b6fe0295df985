"""Whole documents in rows of the model's context: which document stands where, as an index over the shards.

    PackingConfig       what a recipe says of documents that are too long
    pack(stream, …)     -> Packing: the rows, what was left out and why, how much of the rows is text
    best_fit(sizes, …)  best-fit decreasing: each piece into the fullest row that has room for it

A packed document stands alone, wherever its row puts it: it sees nothing of its neighbours, and its positions begin at
0. What a row holds of it are its steps from a token to the next: n tokens are n - 1 steps, which read tokens 0..n-2 and
predict 1..n-1. Its first token is read and never predicted: nothing stands before it, unless its tokens begin with one
that says so (bos). With `opening` (plain text without such a token, where end-of-text ends every document) the
end-of-text before a document is read first, as in windows: then its first token is predicted too. For a masked model
(`ahead` 0) a step is one token.

A document that is split is several, each of which stands alone, and each step is in one of them.

Best fit puts the largest first (Johnson 1973: at most 11/9 of the rows that the best packing has, and some). Sizes
are small integers, so rows are kept by the room that they have left, and all pieces of a size that one such group takes
are put there at once: a million documents take about a second. The plan is made anew at each start; it depends on the
tokens, the context and the options alone, and holds 16 bytes a document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tilth.core.config import Config
from tilth.core.errors import DataError
from tilth.data.batches.batch import Ahead, Int64
from tilth.data.document import Verdict
from tilth.data.shards import TokenStream

PACKING_VERSION = 1
"""Changes when the same documents come into other rows: a run never goes on in another order."""

TOO_LONG, NO_STEP, UNTRAINED = "too_long", "nothing_to_predict", "nothing_trained"
_LONGER = 16
"""Times the context: what is beyond that is split, not read whole."""
Bool = npt.NDArray[np.bool_]


class PackingConfig(Config):
    """Whole documents are put together into rows of `model.context_length`, as many as fit."""

    too_long: Literal["error", "split", "drop", "truncate"] = "error"
    """What becomes of a document that no row can hold: an error that names it; several documents; nothing; its
    beginning. Each is counted."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What packing did not take as it was.

    Attributes:
        rule: `too_long`, `nothing_to_predict` (it has no step) or `nothing_trained` (none that bears loss).
        verdict: whether the document went, or is there in another form.
        documents: their numbers in the stream, int64 [n].
        steps: how many were lost of each, int64 [n].
        detail: in words.
    """

    rule: str
    verdict: Literal["changed", "dropped"]
    documents: Int64
    steps: Int64
    detail: str


@dataclass(frozen=True, slots=True)
class Packing:
    """Rows of pieces of documents, as an index over a stream.

    Attributes:
        begins: the first place of the stream that each piece reads, int64 [P], row by row.
        lengths: steps of each, int64 [P]; of a row they add up to the context at most.
        borders: row r has the pieces borders[r] to borders[r + 1], int64 [R + 1].
        trained: labels that bear loss, in all rows.
        left_out: what was not taken as it was.
    """

    stream: TokenStream
    context_length: int
    config: PackingConfig
    ahead: Ahead
    opening: bool
    begins: Int64
    lengths: Int64
    borders: Int64
    trained: int
    left_out: tuple[LeftOut, ...]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.borders) - 1

    @property
    def pieces(self) -> int:
        """Documents in the rows; one that was split counts as several."""
        return len(self.begins)

    @property
    def steps(self) -> int:
        """Positions of the rows that are no padding."""
        return int(self.lengths.sum())

    @property
    def efficiency(self) -> float:
        """The share of the rows that is no padding."""
        return self.steps / (self.rows * self.context_length)

    def verdicts(self) -> Iterator[Verdict]:
        """A row of a ledger for each document that was not taken as it was; `value` is how many steps it lost."""
        for one in self.left_out:
            for number, steps in zip(one.documents.tolist(), one.steps.tolist(), strict=True):
                yield Verdict(self.stream.doc_id(number), "pack", one.rule, one.verdict, str(steps), one.detail)

    def describe(self) -> str:
        """What came of it, on a line."""
        said = f"{self.pieces:,} documents in {self.rows:,} rows of {self.context_length:,}, {self.efficiency:.1%} full"
        return "; ".join([said, *([_listed(self.left_out)] if self.left_out else [])])


def pack(
    stream: TokenStream,
    context_length: int,
    config: PackingConfig,
    *,
    ahead: Ahead = 1,
    opening: bool = False,
    longest: int | None = None,
) -> Packing:
    """The rows of a stream.

    Args:
        ahead: 1, a position predicts the next token; 0, tokens themselves are the labels (masked models).
        opening: a document first reads the end-of-text that stands before it; all of the stream must end with one.
        longest: the tokens that the model is made for, where they are limited: longer rows are then no remedy.

    Raises:
        DataError: no document is left, or one is too long and the recipe calls that an error.
    """
    assert not (opening and (stream.has_mask or not ahead)), "conversations end as their template says"
    found = _Pieces.of_documents(stream, ahead, opening)
    left_out = [*found.drop(found.lengths <= 0, NO_STEP, "with no token to predict")]
    left_out += found.fit(config.too_long, context_length, longest)
    trained = found.trained(ahead)
    left_out += found.drop(trained == 0, UNTRAINED, "with no token that is trained")
    if not len(found.begins):
        why = "there was none"
        if left_out:
            why = f"{_listed(left_out)} (the first: {_name(stream, int(left_out[-1].documents[0]))})"
        raise DataError(
            f"of {stream.documents:,} documents none is left to train on: {why}",
            _to_have_some(stream, context_length, left_out, longest),
        )
    order, borders = best_fit(found.lengths, context_length)
    begins, lengths, labels = found.begins[order], found.lengths[order], int(trained.sum())
    return Packing(stream, context_length, config, ahead, opening, begins, lengths, borders, labels, tuple(left_out))


def _to_have_some(stream: TokenStream, room: int, left_out: Sequence[LeftOut], longest: int | None) -> str:
    rules = {one.rule for one in left_out}
    more = f"model.context_length above {room}"
    if longest is not None and room >= longest:
        more = f"a checkpoint that is made for more than {room} tokens; or, without one, model.context_length and "
        more += f"model.max_position_embeddings above {room}"
    ways = [f"data.packing.too_long: split, or {more}"] if TOO_LONG in rules else []
    if UNTRAINED in rules and stream.has_mask:
        ways.append("look at which tokens are trained (data.chat.train_on; without data.chat answers alone are)")
    return "; or ".join(ways) or "give more text under data.sources"


def _name(stream: TokenStream, number: int) -> str:
    doc_id = stream.doc_id(number)
    return stream.names([doc_id])[doc_id]


def _listed(left_out: Sequence[LeftOut]) -> str:
    return "; ".join(f"{o.rule}: {len(o.documents):,} {o.detail}, {int(o.steps.sum()):,} tokens lost" for o in left_out)


class _Pieces:
    """Pieces of documents on their way into rows: where each begins, its steps, and its document's number."""

    def __init__(self, stream: TokenStream, begins: Int64, lengths: Int64, numbers: Int64) -> None:
        self.stream, self.begins, self.lengths, self.numbers = stream, begins, lengths, numbers

    @classmethod
    def of_documents(cls, stream: TokenStream, ahead: Ahead, opening: bool) -> _Pieces:
        """Every document, whole."""
        starts, early = stream.document_starts(), int(opening)
        tokens = np.diff(starts, append=stream.tokens)
        return cls(stream, starts - early, tokens - ahead + early, np.arange(len(starts)))

    def trained(self, ahead: Ahead) -> Int64:
        """Labels of each piece that bear loss."""
        if not self.stream.has_mask:
            return self.lengths
        return self.stream.count_trained(self.begins + ahead, self.begins + ahead + self.lengths)

    def drop(self, which: Bool, rule: str, detail: str) -> list[LeftOut]:
        """Takes pieces out. A document of which others stay is not dropped, but changed."""
        gone, steps = self.numbers[which], np.maximum(self.lengths[which], 0)
        self.begins, self.lengths, self.numbers = (a[~which] for a in (self.begins, self.lengths, self.numbers))
        documents, place = np.unique(gone, return_inverse=True)
        lost = np.bincount(place, weights=steps, minlength=len(documents)).astype(np.int64)
        partly = np.isin(documents, self.numbers)
        found = [
            LeftOut(rule, "dropped", documents[~partly], lost[~partly], detail),
            LeftOut(rule, "changed", documents[partly], lost[partly], f"of which pieces are {detail}"),
        ]
        return [one for one in found if len(one.documents)]

    def fit(self, too_long: str, room: int, longest: int | None) -> list[LeftOut]:
        """Makes every piece fit into a row."""
        long = self.lengths > room
        numbers, over = self.numbers[long], self.lengths[long] - room
        if not len(numbers):
            return []
        if too_long == "error":
            raise self._does_not_fit(numbers, over, room, longest)
        if too_long == "drop":
            return self.drop(long, TOO_LONG, "longer than a row")
        if too_long == "truncate":
            self.lengths = np.minimum(self.lengths, room)
            return [LeftOut(TOO_LONG, "changed", numbers, over, "cut at the length of a row")]
        self._split(room)
        return [LeftOut(TOO_LONG, "changed", numbers, np.zeros_like(over), "split into several")]

    def _split(self, room: int) -> None:
        counts = -(-self.lengths // room)
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        offsets = (np.arange(len(firsts)) - firsts) * room
        self.lengths = np.minimum(np.repeat(self.lengths, counts) - offsets, room)
        self.begins, self.numbers = np.repeat(self.begins, counts) + offsets, np.repeat(self.numbers, counts)

    def _does_not_fit(self, numbers: Int64, over: Int64, room: int, longest: int | None) -> DataError:
        worst = int(over.argmax())
        needed = room + int(over[worst])
        name = _name(self.stream, int(numbers[worst]))
        # Nobody wants what would leave nothing, or a context that no model has.
        ways = "split, truncate or drop" if 2 * len(numbers) < self.stream.documents else "split"
        longer = f", or model.context_length to {needed}" if needed <= min(_LONGER * room, longest or needed) else ""
        return DataError(
            f"{len(numbers):,} of {self.stream.documents:,} documents are too long for a row of {room:,}; the longest, "
            f"{name}, needs {needed:,}",
            f"set data.packing.too_long to {ways}{longer}",
        )


def best_fit(sizes: Int64, room: int) -> tuple[Int64, Int64]:
    """Best-fit decreasing: the pieces, largest first, each into the row with the least room that is enough for it.

    Args:
        sizes: 1 to `room` each, int64 [n].

    Returns:
        the pieces row by row [n], and row r's place among them: borders[r] to borders[r + 1].
    """
    by_size = np.argsort(-sizes, kind="stable")
    rooms = _Rooms(room)
    row_of: list[int] = []
    for size, count in zip(*(each[::-1].tolist() for each in np.unique(sizes, return_counts=True)), strict=True):
        while count:
            placed = rooms.place(size, count)
            row_of += placed
            count -= len(placed)
    rows = np.array(row_of, np.int64)
    borders = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=rooms.rows))])
    return by_size[np.argsort(rows, kind="stable")], borders.astype(np.int64)


class _Rooms:
    """Open rows by the room that is left in them, and which rooms there are as the bits of one number."""

    def __init__(self, room: int) -> None:
        self._room, self.rows, self._there = room, 0, 0
        self._open: list[list[int]] = [[] for _ in range(room + 1)]

    def place(self, size: int, count: int) -> list[int]:
        """Puts up to `count` pieces of a size into the tightest rows that are equally tight (new ones where none has
        room); the row of each. A row that took one is then tighter than the others, so it takes all that it can.
        """
        space = self._tightest(size)
        if space is None:
            space = self._room
            self._add(space, range(self.rows, self.rows + -(-count // (space // size))))
            self.rows = self._open[space][-1] + 1
        each = space // size
        wanted = -(-count // each)
        chosen = self._open[space][-wanted:]
        del self._open[space][-wanted:]
        if not self._open[space]:
            self._there &= ~(1 << space)
        placed = [row for row in chosen for _ in range(each)][:count]
        last = len(placed) - each * (len(chosen) - 1)
        self._add(space - each * size, chosen[:-1])
        self._add(space - last * size, chosen[-1:])
        return placed

    def _tightest(self, size: int) -> int | None:
        """The least room of an open row that is enough."""
        fitting = self._there >> size
        return size + (fitting & -fitting).bit_length() - 1 if fitting else None

    def _add(self, space: int, rows: Sequence[int]) -> None:
        if rows and space:
            self._open[space] += rows
            self._there |= 1 << space
