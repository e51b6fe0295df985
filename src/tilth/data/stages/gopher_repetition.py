"""`gopher_repetition`: does it repeat itself? Rae et al. 2021 (arXiv:2112.11446), appendix A.1.1, table A1.

    duplicate_paragraphs             0.30   share of the paragraphs that stood before
    duplicate_paragraph_characters   0.20   their share of the characters
    duplicate_lines                  0.30
    duplicate_line_characters        0.20
    top_2_gram … top_4_gram          0.20, 0.18, 0.16   the n-gram that stands most often: length times how often
    duplicate_5_grams … _10_grams    0.15, 0.14 … 0.10  characters of n-grams that stood before

They are tried in this order, the first that is broken drops the document, and shares are of all its characters. Words
are tokens (`english_tokens.py`). Of n-grams that stand equally often the first counts, and where duplicate n-grams
overlap, each character counts once: text is walked through from its start, and a duplicate is stepped over. That is
how datatrove reads the table, which leaves both open.

An n-gram stands twice only where the (n - 1)-gram that begins it does: each length looks at what the one before left, a
few per cent of the text. The walk is done only where even all duplicate n-grams together would break the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tilth.core.config import Config
from tilth.data.stages.base import Kind, Result
from tilth.data.stages.english_tokens import find_tokens, token_hashes
from tilth.data.stages.limits import Array, FirstBroken, Limit, in_pieces
from tilth.data.words import I64, U64, mix

_BASE = np.uint64(0xD1342543DE82EF95)  # odd: a polynomial in it loses nothing mod 2^64
_TOP, _DUPLICATE = range(2, 5), range(5, 11)


class GopherRepetitionOptions(Config):
    """Options of `gopher_repetition`: the greatest shares; null switches a rule off."""

    duplicate_paragraphs: Limit = 0.30
    """Of paragraphs: those that stood before."""
    duplicate_paragraph_characters: Limit = 0.20
    """Of characters: those in paragraphs that stood before."""
    duplicate_lines: Limit = 0.30
    """Of lines: those that stood before."""
    duplicate_line_characters: Limit = 0.20
    """Of characters: those in lines that stood before."""
    top_2_gram: Limit = 0.20
    """Of characters: those of the most frequent run of 2 words."""
    top_3_gram: Limit = 0.18
    """Of characters: those of the most frequent run of 3 words."""
    top_4_gram: Limit = 0.16
    """Of characters: those of the most frequent run of 4 words."""
    duplicate_5_grams: Limit = 0.15
    """Of characters: those in runs of 5 words that stood before."""
    duplicate_6_grams: Limit = 0.14
    """Of characters: those in runs of 6 words that stood before."""
    duplicate_7_grams: Limit = 0.13
    """Of characters: those in runs of 7 words that stood before."""
    duplicate_8_grams: Limit = 0.12
    """Of characters: those in runs of 8 words that stood before."""
    duplicate_9_grams: Limit = 0.11
    """Of characters: those in runs of 9 words that stood before."""
    duplicate_10_grams: Limit = 0.10
    """Of characters: those in runs of 10 words that stood before."""


def repetition(texts: Sequence[str], options: GopherRepetitionOptions) -> list[Result]:
    """Drops what repeats itself; value: the share that broke the rule."""
    found = FirstBroken("gopher_repetition", texts)
    paragraphs = [_repeats(_paragraphs(text), len(text)) for text in texts]
    lines = [_repeats(_lines(text), len(text)) for text in texts]
    for name, shares in (("paragraph", np.array(paragraphs)), ("line", np.array(lines))):
        for rule, values in ((f"duplicate_{name}s", shares[:, 0]), (f"duplicate_{name}_characters", shares[:, 1])):
            found.above(rule, values, getattr(options, rule))
    left = np.flatnonzero(found.alive)
    if len(left):
        _ngram_rules(found, left, [texts[d] for d in left.tolist()], options)
    return found.results()


def _paragraphs(text: str) -> list[str]:
    """What stands between blank lines; of an odd number of line feeds one is left over in front."""
    return [piece.lstrip("\n") for piece in text.strip().split("\n\n") if piece]


def _lines(text: str) -> list[str]:
    """What stands between line feeds, however many; one at the start or the end parts the text from nothing."""
    lines = text.split("\n")
    return [*lines[:1], *filter(None, lines[1:-1]), *lines[1:][-1:]]


def _repeats(pieces: list[str], characters: int) -> tuple[float, float]:
    """The share of pieces that stood before, and that of their characters."""
    different = set(pieces)
    if len(different) == len(pieces):
        return 0.0, 0.0
    again = sum(map(len, pieces)) - sum(map(len, different))
    return (len(pieces) - len(different)) / len(pieces), again / characters


class _Repeated(NamedTuple):
    """The runs of words that stand more than once in their text, in order: R of them, in G groups of equal ones.

    Attributes:
        at: [R] the token that each begins with.
        hashes: [R].
        group: [R] the number of its group.
        first: bool [R]: it stands before all others of its group.
        counts: [G] how often it stands.
    """

    at: I64
    hashes: U64
    group: I64
    first: Array
    counts: I64


def _ngram_rules(found: FirstBroken, which: I64, texts: Sequence[str], options: GopherRepetitionOptions) -> None:
    """The rules over n-grams of the texts that are left; `which`: their numbers among all."""
    tokens = find_tokens(texts)
    offsets, hashes = tokens.offsets, token_hashes(tokens)
    text_of = np.repeat(np.arange(len(texts)), np.diff(offsets))
    reach = np.concatenate([[0], np.cumsum(tokens.ends - tokens.starts)])  # characters of tokens before each
    size = np.array([max(1, len(text)) for text in texts])
    at, runs = np.arange(len(hashes)), hashes + mix(text_of.astype(np.uint64))
    for n in range(2, _DUPLICATE.stop):
        fits = (at + n <= offsets[text_of[at] + 1]) & found.alive[which[text_of[at]]]
        at = at[fits]
        left = _repeated(at, runs[fits] * _BASE + hashes[at + n - 1])
        rule = f"top_{n}_gram" if n in _TOP else f"duplicate_{n}_grams"
        limit = getattr(options, rule)
        if limit is not None:
            values = np.zeros(len(found.alive))
            measured = (
                _top(left, n, offsets, text_of, reach)
                if n in _TOP
                else (_duplicate(left, n, text_of, reach, limit * size))
            )
            values[which] = measured / size
            found.above(rule, values, limit)
        at, runs = left.at, left.hashes


def _repeated(at: I64, hashes: U64) -> _Repeated:
    """Of the runs that begin at `at`, those that stand more than once."""
    maybe = np.flatnonzero(_may_repeat(hashes))
    order = maybe[np.argsort(hashes[maybe])]
    sorted_ = hashes[order]
    same = np.concatenate([[False], sorted_[1:] == sorted_[:-1]]) if len(order) else np.zeros(0, np.bool_)
    opens = np.flatnonzero(~same)
    counts = np.diff(np.concatenate([opens, [len(order)]]))
    earliest = np.minimum.reduceat(order, opens) if len(opens) else order
    several = counts > 1
    number = np.cumsum(several) - 1
    row_group = np.repeat(np.where(several, number, -1), counts)
    rows = order[row_group >= 0]
    by_place = np.argsort(rows)
    rows, group = rows[by_place], row_group[row_group >= 0][by_place]
    return _Repeated(at[rows], hashes[rows], group, rows == earliest[several][group], counts[several])


def _may_repeat(hashes: U64) -> Array:
    """Which hashes share their top bits with another: all that stand twice, and a few more. Sorting them costs more."""
    bits = max(8, len(hashes).bit_length() + 2)  # four buckets or more for a hash
    buckets = (hashes >> np.uint64(64 - bits)).astype(np.int64)
    taken: Array = np.bincount(buckets, minlength=1)[buckets] > 1
    return taken


def _top(left: _Repeated, n: int, offsets: I64, text_of: I64, reach: I64) -> Array:
    """For each text, the characters of its most frequent n-gram, spaces included, times how often it stands."""
    enough = np.diff(offsets) >= n
    start = np.where(enough, offsets[:-1], 0)
    often = np.ones(len(enough), np.int64)
    if len(left.at):
        begin = left.at[left.first]
        count = left.counts[left.group[left.first]]
        best = np.zeros(len(enough), np.int64)
        np.maximum.at(best, text_of[begin], (count << 32) - begin)  # more often, then earlier
        several = best > 0
        often[several] = (best[several] + (1 << 32) - 1) >> 32
        start[several] = (often[several] << 32) - best[several]
    end = np.minimum(start + n, len(reach) - 1)
    characters: Array = np.where(enough, (reach[end] - reach[start] + n - 1) * often, 0)
    return characters


def _duplicate(left: _Repeated, n: int, text_of: I64, reach: I64, limit: Array) -> Array:
    """For each text, the characters of n-grams that stood before; 0 where they cannot be more than `limit`."""
    again = left.at[~left.first]
    until = np.minimum(again + n, np.concatenate([again[1:], [len(text_of)]]))
    texts = len(limit)
    covered = np.bincount(text_of[again], reach[until] - reach[again], texts)[:texts]
    values = np.zeros(texts)
    edges = np.searchsorted(text_of[left.at], np.arange(texts + 1))
    for d in np.flatnonzero(covered > limit).tolist():
        own = slice(edges[d], edges[d + 1])
        values[d] = _walk(left.at[own], left.group[own], n, reach)
    return values


def _walk(at: I64, group: I64, n: int, reach: I64) -> int:
    """The characters of duplicate n-grams, each stepped over when it is met."""
    seen: set[int] = set()
    characters = free = 0
    for place, number, length in zip(at.tolist(), group.tolist(), (reach[at + n] - reach[at]).tolist(), strict=True):
        if place < free:
            continue
        if number in seen:
            characters += length
            free = place + n
        seen.add(number)
    return characters


GOPHER_REPETITION = Kind(GopherRepetitionOptions, in_pieces(repetition))
