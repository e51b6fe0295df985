"""Words of many texts at once, as hashes: what deduplication and decontamination compare.

    find_words(texts) -> Words        words of a batch: 64-bit hashes, and where each stands in its text
    hash_words(texts) -> Hashes       the hashes alone
    ngrams(words, n) -> Hashes        hashes of every n words in a row
    hash_spans(values, starts, ends)  the hash that both are made of

A word is a run of letters, digits and combining marks; in scripts that write no spaces (Han, kana, Thai …) every letter
is one. Case, accents and compatibility forms do not count, nor does what stands between words: `Café,` and `cafe` are
the same word, whether the accent is part of the letter or stands behind it, and so are `ﬁne` and `fine`. (Not so Korean
syllables and their parts, nor a few letters of Burmese and Tibetan.) All is done with tables over code points and sums
over arrays, without a Python object per word.

The hash of numbers v_0 … v_k is mix(Σ v_i · B^i mod 2^64), B odd: a prefix sum over the batch gives all spans at once
(Karp and Rabin 1987), and mix is the finaliser of splitmix64 (Steele et al. 2014). The numbers of a word are its
letters as they count: eight at a time, in the bytes of one number, where all are ASCII, so that most words are one
number; else one by one, above 2^32, so that no word is taken for one of the first kind. Equal words have equal hashes
always; other words collide as random 64-bit numbers do, unless they were made for it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import regex  # type: ignore[import-untyped]

U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
AnyText = TypeVar("AnyText", str, bytes)

BATCH_CHARACTERS = 1 << 17
"""Text that is turned into arrays at a time, about 40 bytes for a character: what a processor's cache holds."""

_CODES = 0x110000
_BASE = 0x9E3779B97F4A7C15  # odd: it has an inverse mod 2^64
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_GAP, _LETTER, _ALONE, _ACCENT = 0, 1, 2, 3  # the first two as truth is stored
_ALONE_SCRIPTS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}&&[\p{L}\p{N}]]+", regex.V1
)
_LETTERS = regex.compile(r"[\p{L}\p{N}\p{M}]+")
_ACCENTS = {*range(1, 9), *range(10, 37), *range(200, 241)}
"""Combining classes (Unicode 15, 5.7.4) of marks that do not count: nuktas, voicing, Hebrew and Arabic points, what is
written above and below. Viramas (9) and vowel signs (84 to 132) do, as letters would."""
_FOLDED = (range(0x80, 0xAC00), range(0xD7A4, 0xD800), range(0xE000, 0x30000))  # without Korean syllables
_BLOCK_BITS = 12
_LOWER = np.uint64(0x2020202020202020)
_FIRST = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)  # so many bytes of a number


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


class Hashes(NamedTuple):
    """Words, or runs of n words: `hashes` [M], of text d those from offsets[d] to offsets[d + 1], in its order."""

    hashes: U64
    offsets: I64


def batches(texts: Iterable[AnyText], characters: int = BATCH_CHARACTERS) -> Iterator[list[AnyText]]:
    """Texts in lists of about so many characters (of bytes: bytes), in order."""
    held: list[AnyText] = []
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
    data = _joined(texts)
    hashes, starts, ends = _found(data)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    if not data.isascii():
        within = np.concatenate(
            [[0], np.cumsum(np.frombuffer(data, np.uint8) & 0xC0 == 0x80)]
        )  # a character, not first
        starts, ends = starts - within[starts], ends - within[ends]
    text_starts = _text_starts(lengths)
    offsets = np.searchsorted(starts, text_starts).astype(np.int64)
    own = np.repeat(text_starts[:-1], np.diff(offsets))
    return Words(hashes, offsets, starts - own, ends - own)


def hash_words(texts: Sequence[str | bytes]) -> Hashes:
    """Hashes of the words of a batch of texts, which may be given as UTF-8."""
    encoded = [text if isinstance(text, bytes) else _encoded(text) for text in texts]
    hashes, starts, _ = _found(_joined(encoded))
    text_starts = _text_starts(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    return Hashes(hashes, np.searchsorted(starts, text_starts).astype(np.int64))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _joined(texts: Sequence[str | bytes]) -> bytes:
    return b"\n".join([b"", *(text if isinstance(text, bytes) else _encoded(text) for text in texts), b""])


def _text_starts(lengths: I64) -> I64:
    return np.concatenate([[0], np.cumsum(lengths + 1)]) + 1


def _found(data: bytes) -> tuple[U64, I64, I64]:
    """The words of UTF-8: their hashes, and the bytes from and to which they stand."""
    raw = np.frombuffer(data, np.uint8)
    kind = _ascii_kinds(raw)
    if data.isascii():
        starts, ends = _runs(kind)
        return _hash_ascii(data, starts, ends), starts, ends
    leads = np.flatnonzero(raw >= 0xC0)
    codes, sizes = _decoded(raw, leads)
    kinds, letters = _table().look_up(codes)
    kinds = _filled(kind, leads, sizes, kinds)
    starts, ends = _borders(kind, leads, sizes, kinds == _ALONE)
    hashes = _hash_ascii(data, starts, ends)
    others = np.unique(np.searchsorted(starts, leads[kinds != _GAP], side="right") - 1)
    hashes[others] = _hash_others(raw, leads, letters, starts[others], ends[others])
    return hashes, starts, ends


def _runs(kind: U8) -> tuple[I64, I64]:
    """From where to where words go, where no letter is a word alone."""
    borders = np.flatnonzero(kind[1:] != kind[:-1]) + 1
    return borders[::2], borders[1::2]


def _decoded(raw: U8, leads: I64) -> tuple[I64, I64]:
    """The code points of several bytes that begin at `leads`, and how many bytes each takes."""
    first = raw[leads].astype(np.int64)
    sizes = 2 + (first >= 0xE0) + (first >= 0xF0)
    codes = first & np.array([0, 0, 0x1F, 0x0F, 0x07])[sizes]
    for place in (1, 2, 3):
        own = sizes > place
        codes[own] = codes[own] << 6 | raw[leads[own] + place] & 0x3F
    return codes, sizes


def _filled(kind: U8, leads: I64, sizes: I64, kinds: U8) -> U8:
    """The kinds of the characters that begin at `leads`; accents are part of the word that they stand in, if they do.

    Args:
        kind: of each byte; those of ASCII characters are there, the others are filled in.
        kinds: of these, before.
    """
    for place in range(4):
        own = sizes > place
        kind[leads[own] + place] = kinds[own]
    accents = np.flatnonzero(kinds == _ACCENT)
    if len(accents):
        before = kind[leads[accents] - 1]
        first = before != _ACCENT  # of several, one behind the other
        kinds = kinds.copy()
        kinds[accents] = (before[first] == _LETTER)[np.cumsum(first) - 1]
        for place in range(4):
            reach = accents[sizes[accents] > place]
            kind[leads[reach] + place] = kinds[reach]
    return kinds


def _borders(kind: U8, leads: I64, sizes: I64, alone: npt.NDArray[np.bool_]) -> tuple[I64, I64]:
    """From where to where words go; of the characters that begin at `leads`, some are words alone."""
    if not alone.any():
        return _runs(kind)
    own_starts, own_sizes = leads[alone], sizes[alone]
    for place in range(4):
        kind[own_starts[own_sizes > place] + place] = _GAP  # between the words of letters
    starts, ends = _runs(kind)
    at = np.searchsorted(starts, own_starts)
    return np.insert(starts, at, own_starts), np.insert(ends, at, own_starts + own_sizes)


def _hash_ascii(data: bytes, starts: I64, ends: I64) -> U64:
    """Hashes of words of ASCII letters and digits, whatever their case, that lie in `data`."""
    lengths = ends - starts
    padded = data + b"\0" * 8
    hashes = mix(_eight(padded, starts, lengths))
    long = np.flatnonzero(lengths > 8)
    if len(long):
        counts = (lengths[long] + 7) >> 3
        stops = np.cumsum(counts)
        place = np.arange(stops[-1]) - np.repeat(stops - counts, counts) << 3
        eights = _eight(padded, np.repeat(starts[long], counts) + place, np.repeat(lengths[long], counts) - place)
        hashes[long] = hash_spans(eights, stops - counts, stops)
    return hashes


def _eight(padded: bytes, starts: I64, lengths: I64) -> U64:
    """The first eight letters of words of so many as one number each, in lower case."""
    overlapping = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))
    letters: U64 = overlapping[starts]
    letters |= _LOWER  # of letters and digits the bit makes small letters and digits
    letters &= _FIRST[np.minimum(lengths, 8)]
    return letters


def _hash_others(raw: U8, leads: I64, letters: U32, starts: I64, ends: I64) -> U64:
    """Hashes of words in which other letters than ASCII's stand; those that count as ASCII as `_hash_ascii` has them.

    Args:
        letters: as what the characters count that begin at `leads`.
    """
    sizes = ends - starts
    stops = np.cumsum(sizes)
    at = np.arange(int(sizes.sum())) + np.repeat(starts - (stops - sizes), sizes)
    begins = raw[at] & 0xC0 != 0x80
    before = np.concatenate([[0], np.cumsum(begins)])
    starts, ends, at = before[stops - sizes], before[stops], at[begins]
    counted = (raw[at] | 0x20).astype(np.uint64)
    several = raw[at] >= 0xC0
    counted[several] = letters[np.searchsorted(leads, at[several])]
    counted, starts, ends = _spelled_out(counted, starts, ends)
    beyond = np.concatenate([[0], np.cumsum(counted >= 0x80)])
    plain = beyond[ends] == beyond[starts]
    hashes = hash_spans(counted + np.uint64(1 << 32), starts, ends)
    hashes[plain] = _hash_ascii(counted.astype(np.uint8).tobytes(), starts[plain], ends[plain])
    return hashes


def _spelled_out(counted: U64, starts: I64, ends: I64) -> tuple[U64, I64, I64]:
    """Letters without what does not count (0), and with all that one character stands for."""
    several = np.flatnonzero(counted >= _CODES)
    if not len(several) and counted.all():
        return counted, starts, ends
    spelled = [_table().spellings[number - _CODES] for number in counted[several].tolist()]
    widths = (counted > 0).astype(np.int64)
    widths[several] = [len(letters) for letters in spelled]
    before = np.concatenate([[0], np.cumsum(widths)])
    out = np.repeat(counted, widths)
    for start, letters in zip(before[several].tolist(), spelled, strict=True):
        out[start : start + len(letters)] = letters
    return out, before[starts], before[ends]


def hash_spans(values: U64, starts: I64, ends: I64) -> U64:
    """A hash of each span of a sequence of numbers: equal spans have equal hashes."""
    power, inverse = _powers(len(values))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.multiply(values, power, out=sums[1:])
    np.cumsum(sums, out=sums)
    return mix((sums[ends] - sums[starts]) * inverse[starts])


def ngrams(words: Words | Hashes, n: int) -> Hashes:
    """Hashes of all runs of n words within a text; a text of fewer words (but not none) gives one run of them all."""
    hashes, offsets = words.hashes, words.offsets
    factors = mix(np.arange(1, n + 1, dtype=np.uint64)) | np.uint64(1)
    lengths = np.diff(offsets)
    padded = np.concatenate([hashes, np.zeros(n, np.uint64)])
    total, term = np.full(len(hashes), n, np.uint64), np.empty(len(hashes), np.uint64)
    for place in range(n):
        total += np.multiply(padded[place : place + len(hashes)], factors[place], out=term)
    # A word's place is in a text's last n - 1: the run that starts there would go over the end. Short texts keep one.
    counts = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1))
    out = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    runs = total[np.arange(out[-1]) + np.repeat(offsets[:-1] - out[:-1], counts)]
    short = np.flatnonzero((lengths > 0) & (lengths < n))
    runs[out[short]] = _short_runs(padded, offsets[short], lengths[short], factors)
    return Hashes(mix(runs), out)


def _short_runs(padded: U64, starts: I64, lengths: I64, factors: U64) -> U64:
    """What stands for whole texts of fewer words than a run has: their words alone, and how many they are."""
    total = lengths.astype(np.uint64)
    for place, factor in enumerate(factors):
        total += np.where(place < lengths, padded[starts + place], np.uint64(0)) * factor
    return total


def mix(values: U64) -> U64:
    """splitmix64's finaliser: a bijection of 64-bit numbers after which every bit depends on all."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    shifted = mixed >> np.uint64(30)
    for factor, shift in ((0xBF58476D1CE4E5B9, 27), (0x94D049BB133111EB, 31)):
        mixed ^= shifted
        mixed *= np.uint64(factor)
        np.right_shift(mixed, np.uint64(shift), out=shifted)
    mixed ^= shifted
    return mixed


class _Table:
    """For each code point: gap, letter, a letter that is a word alone, or an accent; and as what it counts, the same
    for letters that differ by case, accent or compatibility form only: 0 for an accent, and for what stands for several
    letters its place in `spellings`, above all code points. Made block by block, as they are met: most texts hold few.
    """

    def __init__(self) -> None:
        self.kinds = np.zeros(_CODES, np.uint8)
        self.letters = np.arange(_CODES, dtype=np.uint32)
        self.spellings: list[list[int]] = []
        self._made = np.zeros(_CODES >> _BLOCK_BITS, np.bool_)

    def look_up(self, codes: I64) -> tuple[U8, U32]:
        """The kind of each code point, and as what it counts."""
        met = np.zeros_like(self._made)
        met[codes >> _BLOCK_BITS] = True
        for block in np.flatnonzero(met & ~self._made).tolist():
            self._make(range(block << _BLOCK_BITS, (block + 1) << _BLOCK_BITS))
            self._made[block] = True
        return self.kinds[codes], self.letters[codes]

    def _make(self, block: range) -> None:
        known = [code for code in block if not 0xD800 <= code < 0xE000]  # lone surrogates are gaps
        text = "".join(map(chr, known))
        for pattern, kind in ((_LETTERS, _LETTER), (_ALONE_SCRIPTS, _ALONE)):
            for match in pattern.finditer(text):
                self.kinds[block.start + match.start() : block.start + match.end()] = kind
        folded = [code for some in _FOLDED for code in range(max(some.start, block.start), min(some.stop, block.stop))]
        # All at once; the separator is no letter, so that none is treated as the end of a word.
        plain = unicodedata.normalize("NFKD", "\0".join(map(chr, folded))).lower().split("\0") if folded else []
        for code, letters in zip(folded, plain, strict=True):
            if self.kinds[code] and (letters != chr(code) or unicodedata.combining(letters)):
                self._count_as(code, [ord(letter) for letter in letters.replace("ς", "σ") if _counts(letter)])
        if block.start == 0:
            self.letters[ord("A") : ord("Z") + 1] += np.uint32(32)
            self.letters[ord("ς")] = ord("σ")

    def _count_as(self, code: int, letters: list[int]) -> None:
        if len(letters) > 1:
            self.letters[code] = _CODES + len(self.spellings)
            self.spellings.append(letters)
            return
        self.letters[code] = letters[0] if letters else 0
        if not letters:
            self.kinds[code] = _ACCENT


def _counts(letter: str) -> bool:
    """Whether a character that another one is made of counts."""
    return unicodedata.category(letter)[0] in "LMN" and unicodedata.combining(letter) not in _ACCENTS


@cache
def _table() -> _Table:
    return _Table()


def _ascii_kinds(raw: U8) -> U8:
    """The kinds of ASCII characters, of other bytes a gap: by sums, which are faster than to look each up."""
    letter = (raw | 0x20) - np.uint8(ord("a")) < 26
    letter |= raw - np.uint8(ord("0")) < 10
    return letter.view(np.uint8)


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
