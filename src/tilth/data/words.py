"""Words of many texts at once, as hashes: what deduplication and decontamination compare.

    find_words(texts) -> Words        words of a batch: 64-bit hashes, and where each stands in its text
    ngrams(words, n) -> Ngrams        hashes of every n words in a row
    hash_spans(values, starts, ends)  the hash that both are made of

A word is a run of letters, digits and combining marks; in scripts that write no spaces (Han, kana, Thai …) every letter
is one. Case, accents and compatibility forms do not count, nor does what stands between words: `Café,` and `cafe`
are the same word. All is done with tables over code points and sums over arrays, without a Python object per word.

The hash of a word c_0 … c_k is mix(Σ c_i · B^i mod 2^64), c_i its letters as they count and B odd: a prefix sum over
the batch gives all words at once (Karp and Rabin 1987), and mix is the finaliser of splitmix64 (Steele et al. 2014).
Equal words have equal hashes always; other words collide as random 64-bit numbers do, unless they were made for it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex  # type: ignore[import-untyped]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

BATCH_CHARACTERS = 1 << 17
"""Text that is turned into arrays at a time, about 40 bytes for a character: what a processor's cache holds."""

_CODES = 0x110000
_BASE = 0x9E3779B97F4A7C15  # odd: it has an inverse mod 2^64
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_GAP, _LETTER, _ALONE = 0, 1, 2
_ALONE_SCRIPTS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}&&[\p{L}\p{N}]]+", regex.V1
)
_LETTERS = regex.compile(r"[\p{L}\p{N}\p{M}]+")


class Words(NamedTuple):
    """The words of D texts, N in all.

    Attributes:
        hashes: uint64 [N].
        offsets: int64 [D + 1]: text d has the words offsets[d] to offsets[d + 1].
        starts, ends: int64 [N]: characters of the word's own text.
    """

    hashes: U64
    offsets: I64
    starts: I64
    ends: I64


class Ngrams(NamedTuple):
    """Runs of n words: `hashes` [M], of text d those from offsets[d] to offsets[d + 1], in the order of the text."""

    hashes: U64
    offsets: I64


def batches(texts: Iterable[str], characters: int = BATCH_CHARACTERS) -> Iterator[list[str]]:
    """Texts in lists of about so many characters, in order."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= characters:
            yield held
            held, size = [], 0
    if held:
        yield held


def find_words(texts: Sequence[str]) -> Words:
    """The words of a batch of texts; lone surrogates count as gaps."""
    plain = [text.isascii() for text in texts]
    if all(plain):
        return _of_ascii(texts)
    if not any(plain):
        return _of_any(texts)
    ascii_texts, others = ([t for t, p in zip(texts, plain, strict=True) if p is kind] for kind in (True, False))
    return _interleaved(_of_ascii(ascii_texts), _of_any(others), plain)


def _of_ascii(texts: Sequence[str]) -> Words:
    """Of texts in ASCII: several times faster, for no letter is a word alone, and bytes are looked up in C."""
    data = _joined(texts).encode("ascii")
    kinds, letters = _ascii_tables()
    kind = np.frombuffer(data.translate(kinds), np.uint8)
    borders = np.flatnonzero(kind[1:] != kind[:-1]) + 1
    values = np.frombuffer(data.translate(letters), np.uint8).astype(np.uint64)
    return _words(values, borders[::2], borders[1::2], texts)


def _of_any(texts: Sequence[str]) -> Words:
    codes = np.frombuffer(_joined(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds, letters = _tables()
    kind = kinds[codes]
    edge = np.zeros(1, np.uint8)
    before, after = np.concatenate([edge, kind[:-1]]), np.concatenate([kind[1:], edge])
    inside, alone = kind != _GAP, kind == _ALONE
    starts = np.flatnonzero(inside & ((before != _LETTER) | alone))
    ends = np.flatnonzero(inside & ((after != _LETTER) | alone)) + 1
    return _words(letters[codes].astype(np.uint64), starts, ends, texts)


def _joined(texts: Sequence[str]) -> str:
    return "\n".join(["", *texts, ""])


def _words(values: U64, starts: I64, ends: I64, texts: Sequence[str]) -> Words:
    """The words that lie from `starts` to `ends` of the joined texts, whose letters count as `values`."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    text_starts = np.concatenate([[0], np.cumsum(lengths + 1)]) + 1
    offsets = np.searchsorted(starts, text_starts).astype(np.int64)
    own = np.repeat(text_starts[:-1], np.diff(offsets))
    return Words(hash_spans(values, starts, ends), offsets, starts - own, ends - own)


def _interleaved(first: Words, second: Words, of_first: Sequence[bool]) -> Words:
    """The words of both in the order of the texts: text d is the next of `first` where of_first[d]."""
    texts_of_first = np.array(of_first)
    numbers = [np.flatnonzero(texts_of_first), np.flatnonzero(~texts_of_first)]
    counts = np.zeros(len(of_first), np.int64)
    for own, found in zip(numbers, (first, second), strict=True):
        counts[own] = np.diff(found.offsets)
    owners = [np.repeat(own, counts[own]) for own in numbers]
    order = np.argsort(np.concatenate(owners), kind="stable")
    hashes, starts, ends = (
        np.concatenate([getattr(first, name), getattr(second, name)])[order] for name in ("hashes", "starts", "ends")
    )
    return Words(hashes, np.concatenate([[0], np.cumsum(counts)]), starts, ends)


def hash_spans(values: U64, starts: I64, ends: I64) -> U64:
    """A hash of each span of a sequence of numbers: equal spans have equal hashes."""
    power, inverse = _powers(len(values))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.multiply(values, power, out=sums[1:])
    np.cumsum(sums, out=sums)
    return mix((sums[ends] - sums[starts]) * inverse[starts])


def ngrams(words: Words, n: int) -> Ngrams:
    """Hashes of all runs of n words within a text; a text of fewer words (but not none) gives one run of them all."""
    hashes, offsets = words.hashes, words.offsets
    factors = mix(np.arange(1, n + 1, dtype=np.uint64)) | np.uint64(1)
    lengths = np.diff(offsets)
    padded = np.concatenate([hashes, np.zeros(n, np.uint64)])
    # A word's place is in a text's last n - 1: the run that starts there would go over the end. Short texts keep one.
    counts = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1))
    out = np.concatenate([[0], np.cumsum(counts)])
    at = np.arange(out[-1]) + np.repeat(offsets[:-1] - out[:-1], counts)
    room = np.repeat(np.minimum(lengths, n), counts)  # words that the run has
    total = np.zeros(len(at), np.uint64)
    for place in range(n):
        total += np.where(place < room, padded[at + place], np.uint64(0)) * factors[place]
    return Ngrams(mix(total + room.astype(np.uint64)), out.astype(np.int64))


def mix(values: U64) -> U64:
    """splitmix64's finaliser: a bijection of 64-bit numbers after which every bit depends on all."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: U64 = mixed ^ (mixed >> np.uint64(31))
    return result


@cache
def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32]]:
    """For each code point: gap, letter, or a letter that is a word alone; and as what it counts, the same for letters
    that differ by case, accent or compatibility form only.
    """
    # All planes that hold letters or marks; the others are empty or private.
    plane = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200)]))
    classes = np.zeros(_CODES, np.uint8)
    for pattern, kind in ((_LETTERS, _LETTER), (_ALONE_SCRIPTS, _ALONE)):
        for match in pattern.finditer(plane):
            first, last = ord(plane[match.start()]), ord(plane[match.end() - 1])
            classes[first : last + 1] = kind
    classes[0xD800:0xE000] = _GAP
    folded = np.arange(_CODES, dtype=np.uint32)
    codes = [*range(0x80, 0xAC00), *range(0xD7A4, 0xD800), *range(0xF900, 0x10000), *range(0x1D400, 0x1D800)]
    # All at once; the separator is no letter, so that none is treated as the end of a word.
    plain = unicodedata.normalize("NFKD", "\0".join(map(chr, codes))).lower().split("\0")
    folded[codes] = [ord(letters[0]) for letters in plain]
    folded[ord("A") : ord("Z") + 1] += np.uint32(32)
    folded[ord("ς")] = ord("σ")
    return classes, folded


@cache
def _ascii_tables() -> tuple[bytes, bytes]:
    """The same of ASCII, for `bytes.translate`; without the work that all of Unicode takes."""
    kinds = bytes(_LETTER if chr(code).isalnum() and code < 0x80 else _GAP for code in range(256))
    return kinds, bytes(range(256)).lower()


_held_powers: list[tuple[U64, U64]] = []


def _powers(length: int) -> tuple[U64, U64]:
    """B^i and B^-i mod 2^64 for i below `length`; kept, and made longer when they must be."""
    if not _held_powers or len(_held_powers[0][0]) < length:
        size = max(length, BATCH_CHARACTERS)
        _held_powers[:] = [(_geometric(_BASE, size), _geometric(_BASE_INVERSE, size))]
    power, inverse = _held_powers[0]
    return power[:length], inverse[:length]


def _geometric(base: int, size: int) -> U64:
    factors = np.full(size, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)
