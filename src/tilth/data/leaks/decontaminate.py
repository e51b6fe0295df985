"""Which documents hold text that a model will be measured by: evaluation items, and what the split holds out.

    item_grams(texts, config) -> Grams         the n-grams of items, which an Index is made of
    Index(...).find(texts) -> Hits             where documents hold n-grams of items
    widened(hits, documents, margin) -> Hits   with what would be cut out with each (cutting.py)
    evidence(hits, common) -> Hits             those that are more than what many documents hold
    passages(hits, index, needed) -> Passages  which items stand in which documents, and where

The rule. Words are those of `words.py`: case, accents, punctuation and line ends do not count, nor what pages and PDFs
put into words (`readings.py`). Where a document holds
n-grams of one item no more than `GAP` words apart, they make a passage; it covers the words of the document that lie in
them, an n-gram that comes again in the passage not counted. An item is in a document when one passage covers at least
`share` of the item's words, or `words` of them. Words covered, and not n-grams: one word that was replaced breaks n
n-grams, but leaves all other words of a longer run covered.

Short items, of less than four n-grams' words, are compared by runs of `shortest` words, or one replaced word would hide
them. Those of fewer than twice `shortest` must be covered whole: half of them is a common phrase. Items of fewer than
`shortest` words are not looked for: every text would hold them.

An index takes 12 bytes for each word of the items (a 64-bit hash, a 32-bit owner), and 2 to 4 for the bits that most
words of a document are turned away by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from tilth.core.config import Config
from tilth.data import words
from tilth.data.document import Document
from tilth.data.duplicates.runs import Piece
from tilth.data.leaks import readings
from tilth.data.leaks.cutting import edges
from tilth.data.leaks.readings import Readings
from tilth.data.sources import SourceConfig
from tilth.data.words import I64, U64, Words

U32 = npt.NDArray[np.uint32]
BITS = npt.NDArray[np.uint8]

GAP = 50
"""Words of a document that may lie between two n-grams of a passage."""
OWNERS = 16
"""Items that an n-gram is counted for, the first ones: what a hundred items share makes no hundred findings."""
_LONG = 4  # n-grams: an item of fewer words is short
_BITS_AN_ENTRY = 16  # of the filter: one other n-gram in 16 passes it, and is then looked up
_SECOND = 1 << 31  # words: no reading has so many, and 32 bits hold the places of both
_HITS_AT_ONCE = 100_000


def _as_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class DecontaminateConfig(Config):
    """Which documents go because they hold what the model will be measured by."""

    against: list[Annotated[SourceConfig, BeforeValidator(_as_source)]] = []
    """Files of evaluation items: paths, or sources with `field`, `template` or `map`, each document of which is an
    item."""
    validation: bool = True
    """Whether training documents go that hold text of the validation and test splits."""
    ngram: int = Field(default=13, ge=4, le=50)
    """Words in a row that are compared as one, of longer items; 13 as Brown et al. 2020 (appendix C)."""
    share: float = Field(default=0.5, gt=0, le=1)
    """The share of an item's words that a document holds it by."""
    words: int = Field(default=50, ge=1)
    """So many words of it are enough, however long the item."""
    shortest: int = Field(default=8, ge=1)
    """Items of fewer words are not looked for (and counted), short ones by so many words in a row; 8 as Brown et al."""
    action: Literal["auto", "drop", "cut"] = "auto"
    """`drop`: the training document goes; `cut`: the passage goes, and what stands around it. `auto`: a document that
    holds an evaluation item goes, for its answer may stand anywhere in it; one that holds held-out text goes where that
    is half of it or more, with what would go with it, and else loses the passage."""
    margin: int = Field(default=200, ge=0)
    """Characters on each side of a passage that go with it (`cut`); of a source file whole blocks go instead, each
    from the margin to the next."""
    common: int = Field(default=10, ge=1)
    """N-grams of held-out text that stand in more training documents than this are no evidence (licences, menus), nor
    are others most of whose words stand in one of them."""
    most_of_training: float = Field(default=0.5, gt=0, le=1)
    """The run stops when held-out text would cost more than this share of the training documents (and at least 20)."""


class Grams(NamedTuple):
    """N-grams of items: `hashes` [G], sorted, and the item that each is of, `owners` [G]."""

    hashes: U64
    owners: U32


class Hits(NamedTuple):
    """Where documents hold n-grams of items [H].

    Attributes:
        rows: the document.
        places: its word that the n-gram begins with.
        widths: words of the n-gram.
        starts, ends: its characters.
        grams: the first place of the n-gram in the index.
        lows, highs: the characters that go where it is cut out: its own, until `widened` says otherwise.
    """

    rows: I64
    places: I64
    widths: I64
    starts: I64
    ends: I64
    grams: I64
    lows: I64
    highs: I64

    def where(self, chosen: Any) -> Hits:
        """Some of them."""
        return Hits(*(column[chosen] for column in self))


class Passages(NamedTuple):
    """Items that stand in documents [P], sorted by row and item.

    Attributes:
        rows, items: which item stands in which document.
        covered: words of the item.
        starts, ends: characters of the document.
        lows, highs: those that go where it is cut out.
    """

    rows: I64
    items: I64
    covered: I64
    starts: I64
    ends: I64
    lows: I64
    highs: I64

    def where(self, chosen: Any) -> Passages:
        """Some of them."""
        return Passages(*(column[chosen] for column in self))

    def worst(self) -> Passages:
        """Of each document the passage that covers most; of equal ones that of the first item."""
        ordered = self.where(np.lexsort((self.items, -self.covered, self.rows)))
        return ordered.where(np.unique(ordered.rows, return_index=True)[1])


def find_grams(found: Words, length: int) -> tuple[I64, U64]:
    """Every run of so many words within a text: its first word, and its hash."""
    counts = np.maximum(np.diff(found.offsets) - length + 1, 0)
    before = np.cumsum(counts) - counts
    at = np.arange(counts.sum()) + np.repeat(found.offsets[:-1] - before, counts)
    return at, words.hash_spans(found.hashes, at, at + length)


def item_grams(texts: Sequence[str], first: int, ngram: int, shortest: int) -> tuple[Grams, I64, I64]:
    """The n-grams of items, sorted; how many words of each item they cover (all, but where it repeats itself), and how
    many words make an n-gram of it. Both readings of an item are its n-grams; its size is that of the last, where words
    are whole.

    Args:
        first: the number of the first item.
    """
    read = readings.read(texts)
    found = words.find_words(read.texts)
    sizes = np.diff(found.offsets)[read.last]
    widths = gram_widths(sizes, ngram, shortest)
    hashes, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for width in np.unique(widths[widths > 0]).tolist():
        at, own_hashes = find_grams(found, width)
        number = np.searchsorted(found.offsets, at, side="right") - 1
        own = read.rows[number]
        wanted = np.flatnonzero(widths[own] == width)
        at, own_hashes, own = at[wanted], own_hashes[wanted], own[wanted]
        once = np.flatnonzero(read.last[own] == number[wanted])  # in one reading: no word counts twice
        covered = _covered(*_fresh(own[once], own_hashes[once], at[once], np.full(len(once), width)), len(texts))
        sizes = np.where(widths == width, covered, sizes)
        hashes.append(own_hashes)
        owners.append(own)
    return sorted_grams(np.concatenate(hashes), np.concatenate(owners) + first), sizes, widths


def gram_widths(sizes: I64, ngram: int, shortest: int) -> I64:
    """How many words make an n-gram of items of so many words; 0 where an item is not looked for."""
    widths = np.where(sizes < _LONG * ngram, min(shortest, ngram), ngram)
    return np.where(sizes >= shortest, widths, 0)


def sorted_grams(hashes: U64, owners: I64 | U32) -> Grams:
    """N-grams in the order of an index, each of an item once."""
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order].astype(np.uint32)
    fresh = np.ones(len(hashes), bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return Grams(hashes[fresh], owners[fresh])


def capped(piece: Piece, first_items: I64) -> Grams:
    """A merged piece of several runs, items numbered through, `OWNERS` of each n-gram."""
    starts = piece.firsts
    place = np.arange(len(piece.keys)) - np.repeat(starts[:-1], np.diff(starts))
    kept = place < OWNERS
    owners = piece.columns[0].astype(np.int64) + first_items[piece.runs]
    return Grams(piece.keys[kept], owners[kept].astype(np.uint32))


def empty_filter(entries: int) -> BITS:
    """A filter for so many n-grams: a bit for each value of the upper bits of a hash."""
    bits = max(16, (entries * _BITS_AN_ENTRY - 1).bit_length())
    return np.zeros(1 << (min(bits, 33) - 3), np.uint8)


def fill_filter(bits: BITS, hashes: U64) -> None:
    """Sets the bits of hashes."""
    slots = _slots(bits, hashes)
    np.bitwise_or.at(bits, slots >> np.uint64(3), np.uint8(1) << (slots & np.uint64(7)).astype(np.uint8))


def _slots(bits: BITS, hashes: U64) -> U64:
    return hashes >> np.uint64(64 - (len(bits) * 8 - 1).bit_length())


class Index:
    """The n-grams of all items.

    Args:
        grams: sorted by hash, then by owner.
        bits: the filter.
        sizes: words of each item [items].
        widths: words of an n-gram of each item [items].
    """

    def __init__(self, grams: Grams, bits: BITS, sizes: I64, widths: I64) -> None:
        self.grams, self.sizes, self._bits = grams, sizes, bits
        self._widths = np.unique(widths[widths > 0]).tolist()

    def find(self, texts: Sequence[str]) -> Hits:
        """Where texts hold n-grams of items; the places of second readings come `_SECOND` later."""
        found, row = [], 0
        for batch in words.batches(texts):
            read = readings.read(batch)
            of_batch = words.find_words(read.texts)
            for width in self._widths:
                found.append(self._of_width(of_batch, read, width, row))
            row += len(batch)
        return Hits(*_end_to_end(found, len(Hits._fields)))

    def _of_width(self, found: Words, read: Readings, width: int, first_row: int) -> Hits:
        at, hashes = find_grams(found, width)
        slots = _slots(self._bits, hashes)
        maybe = np.flatnonzero((self._bits[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)) & 1)
        wanted = hashes[maybe]
        low = np.searchsorted(self.grams.hashes, wanted)
        there = low < len(self.grams.hashes)
        there[there] = self.grams.hashes[low[there]] == wanted[there]
        at, low = at[maybe[there]], low[there]
        numbers = np.searchsorted(found.offsets, at, side="right") - 1
        rows, widths = read.rows[numbers], np.full(len(at), width)
        places = at - found.offsets[numbers] + np.where(numbers < read.first, 0, _SECOND)
        starts, ends = read.places(numbers, found.starts[at], found.ends[at + width - 1])
        return Hits(first_row + rows, places, widths, starts, ends, low, starts, ends)


def widened(hits: Hits, documents: Sequence[Document], margin: int) -> Hits:
    """Hits with what goes with each of them where it is cut out.

    Args:
        documents: in which they were found.
    """
    lows, highs = hits.starts.copy(), hits.ends.copy()
    order = np.argsort(hits.rows, kind="stable")
    rows, firsts = np.unique(hits.rows[order], return_index=True)
    for row, own in zip(rows.tolist(), np.split(order, firsts)[1:], strict=True):
        lows[own], highs[own] = edges(documents[row], hits.starts[own], hits.ends[own], margin)
    return hits._replace(lows=lows, highs=highs)


def evidence(hits: Hits, common: I64) -> Hits:
    """Hits without those of common n-grams, and of n-grams more than half of whose words lie in common ones: `what is
    this question asking for what are` is no more a leak than the first eight of these words.

    Args:
        common: their first places in the index, sorted.
    """
    is_common = np.isin(hits.grams, common)
    starts = (hits.rows << 32) + hits.places
    inside = _overlap(starts, hits.widths, starts[is_common], hits.widths[is_common])
    return hits.where(~is_common & (2 * inside <= hits.widths))


def _overlap(starts: I64, widths: I64, cover_starts: I64, cover_widths: I64) -> I64:
    """How much of each span the union of some covers lies over."""
    if not len(cover_starts):
        return np.zeros(len(starts), np.int64)
    order = np.argsort(cover_starts)
    low, high = cover_starts[order], np.maximum.accumulate((cover_starts + cover_widths)[order])
    opens = np.flatnonzero(np.concatenate([[True], low[1:] > high[:-1]]))
    low, high = low[opens], high[np.append(opens[1:], len(high)) - 1]
    before = np.concatenate([[0], np.cumsum(high - low)])

    def covered(at: I64) -> I64:
        count = np.searchsorted(low, at, side="right")
        beyond = np.maximum(high[np.maximum(count - 1, 0)] - at, 0)
        return np.asarray(before[count] - np.where(count > 0, beyond, 0), np.int64)

    return covered(starts + widths) - covered(starts)


def needed(sizes: I64, share: float, most: int, shortest: int) -> I64:
    """How many words of each item make a document hold it."""
    long = np.minimum(np.ceil(sizes * share), most)
    return np.where(sizes < 2 * shortest, sizes, long).astype(np.int64)


def passages(hits: Hits, index: Index, least: I64, gap: int) -> Passages:
    """The items that stand in documents.

    Args:
        hits: rows in any order.
        least: words of each item that are needed [items].
        gap: the farthest that the first words of two n-grams of a passage may be apart.
    """
    found = [_passages(chunk, index, least, gap) for chunk in _chunks(hits)]
    return Passages(*_end_to_end(found, len(Passages._fields)))


def _end_to_end(tables: Sequence[tuple[I64, ...]], columns: int) -> list[I64]:
    """Columns of several tables, one after another."""
    empty = np.empty(0, np.int64)
    return [np.concatenate([empty, *(table[n] for table in tables)]) for n in range(columns)]


def _chunks(hits: Hits) -> Iterator[Hits]:
    """Hits in pieces of whole rows, so that what they are spread out to stays bounded."""
    ordered = hits.where(np.argsort(hits.rows, kind="stable"))
    start, total = 0, len(ordered.rows)
    while start < total:
        row = ordered.rows[min(start + _HITS_AT_ONCE, total) - 1]
        stop = int(np.searchsorted(ordered.rows, row, side="right"))  # a document with more goes alone
        yield ordered.where(slice(start, stop))
        start = stop


def _passages(hits: Hits, index: Index, least: I64, gap: int) -> Passages:
    high = np.searchsorted(index.grams.hashes, index.grams.hashes[hits.grams], side="right")
    counts = high - hits.grams
    spread = hits.where(np.repeat(np.arange(len(counts)), counts))
    entry = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    items = index.grams.owners[spread.grams + entry].astype(np.int64)
    order = np.lexsort((spread.places, items, spread.rows))
    spread, items = spread.where(order), items[order]
    opens = np.ones(len(items), bool)
    same = (spread.rows[1:] == spread.rows[:-1]) & (items[1:] == items[:-1])
    opens[1:] = ~(same & (np.diff(spread.places) <= gap))
    number, firsts = np.cumsum(opens) - 1, np.flatnonzero(opens)
    covered = _covered(*_fresh(number, spread.grams, spread.places, spread.widths), len(firsts))
    found = Passages(
        rows=spread.rows[firsts],
        items=items[firsts],
        covered=np.minimum(covered, index.sizes[items[firsts]]),
        starts=spread.starts[firsts],
        ends=np.maximum.reduceat(spread.ends, firsts),
        lows=np.minimum.reduceat(spread.lows, firsts),
        highs=np.maximum.reduceat(spread.highs, firsts),
    )
    return found.where(found.covered >= least[found.items])


def _fresh(number: I64, grams: I64 | U64, places: I64, widths: I64) -> tuple[I64, I64, I64]:
    """Number, place and width of n-grams, given in the order of places; of one that comes again only the first."""
    order = np.lexsort((grams, number))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(number[order]) != 0) | (grams[order][1:] != grams[order][:-1])
    kept = np.sort(order[first])
    return number[kept], places[kept], widths[kept]


def _covered(number: I64, places: I64, widths: I64, total: int) -> I64:
    """Words that the n-grams of each number cover."""
    following = np.full(len(places), np.iinfo(np.int64).max)
    same = number[1:] == number[:-1]
    following[:-1][same] = np.diff(places)[same]
    covered = np.bincount(number, np.minimum(widths, following), total)
    return np.asarray(covered, np.int64)
