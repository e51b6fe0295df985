"""The tokens of many texts at once: words and marks as English filters count them.

    find_tokens(texts) -> Tokens      where each token of a batch stands, and what it is made of
    token_hashes(tokens)              64 bits for each: equal tokens have equal hashes
    sentence_terminals()              the marks that end a sentence, in all scripts

Quality filters count tokens the way tokenizers of English do since the Penn Treebank (Marcus et al. 1993, as nltk and
spaCy do it): what stands between white space is a token, but

    - marks at its beginning and end are tokens of their own, each alone (`("Well,` is four); a run of dots is one;
    - a hyphen and `/ : < = >` before a letter, a comma between letters, and a dot between a small letter
      and a capital part it, and so do `+ - * ^` between digits; an address with `://` in it is left whole;
    - `'s 'm 'd 're 've 'll` and `n't` are tokens;
    - a dot at the end stays with a single capital (`J.`, `U.S.`) and with a few abbreviations (`Mr.`, `e.g.`).

Text that is written without spaces (Chinese, Thai …) comes out in long tokens: the rules that count them were made for
languages with spaces. Marks are a few per cent of a text, and all decisions are made at them, on arrays.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex  # type: ignore[import-untyped]

from tilth.data.words import I64, U64, hash_spans, mix

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
Bool = npt.NDArray[np.bool_]

SPACE, LEAD, TAIL, LETTER, DIGIT, UPPER, LOWER, SOUND = (np.uint8(1 << bit) for bit in range(8))
"""What a character can be: white space; split off in front, at the end; a letter; 0 to 9; capital; small; no mark."""

CHARACTERS = (range(0x40000), range(0xE0000, 0xE1000))
"""Where Unicode has characters; what lies outside is unassigned or private, and a mark like any other symbol."""

_MARK_CATEGORIES = ("P", "S", "C")
_NEVER_SPLIT = set("-/\\@.~^|")
_LEAD_TOO = set("=<>`´+")
_NOT_AT_END = set("=+%§")
_QUOTES = "'’"
_PAD = 8  # line feeds behind the last text: what looks beyond an end, or before the start, meets white space
_CLITICS = ("s", "m", "d", "re", "ve", "ll")
_TITLES = (
    "Mr",
    "Mrs",
    "Ms",
    "Dr",
    "Prof",
    "Rev",
    "Gen",
    "Gov",
    "Sen",
    "Rep",
    "Lt",
    "Sgt",
    "Capt",
    "Col",
    "Adm",
    "Ph.D",
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Sept", "Oct", "Nov", "Dec")
_NAMES = ("Co", "Corp", "Inc", "Ltd", "Bros", "Jr", "Sr", "St", "Mt")
_ABBREVIATIONS = (*_TITLES, *_MONTHS, *_NAMES, "vs", "e.g", "i.e", "a.m", "p.m")
_LONGEST_ABBREVIATION = max(map(len, _ABBREVIATIONS))


class Tokens(NamedTuple):
    """The tokens of D texts, N in all.

    Attributes:
        codes: uint32: code points of all texts, each followed by a line feed.
        text_starts: int64 [D + 1]: where each text begins in `codes`.
        starts, ends: int64 [N]: where each token stands in `codes`.
        offsets: int64 [D + 1]: text d has the tokens offsets[d] to offsets[d + 1].
        kinds: uint8 [N]: all that its characters are (`LETTER | UPPER …`).
    """

    codes: U32
    text_starts: I64
    starts: I64
    ends: I64
    offsets: I64
    kinds: U8


def find_tokens(texts: Sequence[str]) -> Tokens:
    """The tokens of a batch of texts."""
    joined = "\n".join([*texts, "\n" * _PAD])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[codes]
    seen = (kinds & SPACE) == 0
    is_start = seen.copy()
    is_start[1:] &= ~seen[:-1]
    _split_at_marks(codes, kinds, seen, is_start)
    starts = np.flatnonzero(is_start)
    is_start |= ~seen
    is_end = seen[:-1] & is_start[1:]
    ends = np.flatnonzero(is_end) + 1
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    text_starts = np.concatenate([[0], np.cumsum(lengths + 1)])
    offsets = np.searchsorted(starts, text_starts)
    made_of = np.bitwise_or.reduceat(kinds, starts) if len(starts) else np.zeros(0, np.uint8)
    return Tokens(codes, text_starts, starts, ends, offsets, made_of)


def token_hashes(tokens: Tokens) -> U64:
    """A hash for each token, by its exact characters; case and accents count."""
    return hash_spans(_values()[tokens.codes], tokens.starts, tokens.ends)


@cache
def sentence_terminals() -> U32:
    """Code points of Unicode's property Sentence_Terminal, in order."""
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    return np.array([ord(mark) for mark in regex.findall(r"\p{Sentence_Terminal}", every)], np.uint32)


class _Marks(NamedTuple):
    """The marks of a batch: M characters that are no white space, letter, digit nor accent, and what stands around."""

    at: I64
    code: U32
    kind: U8
    before: U8
    after: U8

    def among(self, characters: str) -> Bool:
        """Which marks are one of these characters."""
        found = np.zeros(len(self.at), np.bool_)
        for character in characters:
            found |= self.code == ord(character)
        return found


def _split_at_marks(codes: U32, kinds: U8, seen: Bool, is_start: Bool) -> None:
    """Sets `is_start` where marks part what stands between white space."""
    at = np.flatnonzero((kinds & (SPACE | SOUND)) == 0)
    if not len(at):
        return
    marks = _Marks(at, codes[at], kinds[at], kinds[at - 1], kinds[at + 1])
    dots = marks.code == ord(".")
    lead, tail = _outer(marks, kinds, dots)
    begins = np.concatenate([at[lead | tail], at[lead] + 1])
    is_start[begins[seen[begins]]] = True
    inner = ~(lead | tail)
    _split_inside(marks, codes, kinds, is_start, inner)
    _split_clitics(marks, codes, kinds, is_start)
    if dots.any():
        _join_dots(at[dots], codes, kinds, seen, is_start)


def _outer(marks: _Marks, kinds: U8, dots: Bool) -> tuple[Bool, Bool]:
    """Which marks stand in the run at the beginning, and in that at the end, of what stands between white space."""
    after_digit = (marks.before & DIGIT) != 0
    plus = marks.code == ord("+")
    lead = ((marks.kind & LEAD) != 0) & ~(plus & ((marks.after & DIGIT) != 0))
    initial = ((marks.before & UPPER) != 0) & ((kinds[marks.at - 2] & UPPER) == 0)
    tail = ((marks.kind & TAIL) != 0) | (dots & ~initial)
    tail |= after_digit & ((marks.code == ord("%")) | plus | ((marks.kind & LEAD) != 0) & ((marks.kind & TAIL) == 0))
    return _run(marks.at, lead, marks.before), _run(marks.at[::-1], tail[::-1], marks.after[::-1])[::-1]


def _run(at: I64, fits: Bool, outside: U8) -> Bool:
    """Which marks can be reached from white space by marks that all fit, walking in the order of `at`."""
    first = np.concatenate([[True], np.abs(np.diff(at)) != 1])
    misfits = np.cumsum(~fits)
    opening = np.flatnonzero(first)
    run = np.cumsum(first) - 1
    reached: Bool = (misfits == (misfits[opening] - ~fits[opening])[run]) & ((outside[opening] & SPACE) != 0)[run]
    return reached


def _split_inside(marks: _Marks, codes: U32, kinds: U8, is_start: Bool, inner: Bool) -> None:
    """Marks that part the letters or digits on both sides."""
    before, after = marks.before, marks.after
    letters = ((before & LETTER) != 0) & ((after & LETTER) != 0)
    digits = ((before & DIGIT) != 0) & ((after & DIGIT) != 0)
    parts = letters & marks.among(",")
    parts |= ((before & (LETTER | DIGIT)) != 0) & ((after & LETTER) != 0) & marks.among("-~–—:<>=/")
    parts |= ((before & LOWER) != 0) & ((after & UPPER) != 0) & (marks.code == ord("."))
    parts |= digits & marks.among("+-*^")
    parts &= inner
    parts &= ~_in_address(marks, codes, kinds)
    is_start[marks.at[parts]] = True
    is_start[marks.at[parts] + 1] = True
    double = inner & (marks.code == ord("-")) & (codes[marks.at + 1] == ord("-"))  # `word--word`
    double &= ((before & LETTER) != 0) & ((kinds[marks.at + 2] & LETTER) != 0)
    is_start[marks.at[double]] = True
    is_start[marks.at[double] + 2] = True


def _in_address(marks: _Marks, codes: U32, kinds: U8) -> Bool:
    """Which marks stand between white spaces together with `://`."""
    at = marks.at
    scheme: Bool = (marks.code == ord(":")) & (codes[at + 1] == ord("/")) & (codes[at + 2] == ord("/"))
    if not scheme.any():
        return np.zeros(len(at), np.bool_)
    spaces = np.flatnonzero((kinds & SPACE) != 0)
    between = np.searchsorted(spaces, at)
    inside: Bool = np.isin(between, between[scheme])
    return inside


def _split_clitics(marks: _Marks, codes: U32, kinds: U8, is_start: Bool) -> None:
    """`it's` is `it` and `'s`, `don't` is `do` and `n't`."""
    at = marks.at[marks.among(_QUOTES) & ((marks.before & (LETTER | SPACE)) != 0) & ((marks.after & LETTER) != 0)]
    if not len(at):
        return
    first, second = codes[at + 1] | 32, codes[at + 2] | 32
    inside = LETTER | DIGIT
    ends_1, ends_2 = (kinds[at + 2] & inside) == 0, (kinds[at + 3] & inside) == 0
    for clitic in _CLITICS:
        same = (first == ord(clitic[0])) & (ends_1 if len(clitic) == 1 else ends_2 & (second == ord(clitic[-1])))
        is_start[at[same]], is_start[at[same] + 1] = True, False
    negated = ends_1 & (first == ord("t")) & (codes[at - 1] | 32 == ord("n")) & ((kinds[at - 2] & LETTER) != 0)
    is_start[at[negated] - 1] = True


def _join_dots(dots: I64, codes: U32, kinds: U8, seen: Bool, is_start: Bool) -> None:
    """A run of dots is one token; the dot of an abbreviation belongs to it."""
    again = codes[dots - 1] == ord(".")
    more = codes[dots + 1] == ord(".")
    is_start[dots[more & ~again]] = True
    is_start[dots[again]] = False
    last = dots[again & ~more] + 1
    is_start[last[seen[last]]] = True
    single = dots[~again & ~more & is_start[dots] & ((kinds[dots - 1] & LETTER) != 0)]
    packed, length = np.zeros(len(single), np.uint64), np.zeros(len(single), np.int64)
    for back in range(1, _LONGEST_ABBREVIATION + 1):
        open_ = length == 0
        packed[open_] = (packed[open_] << np.uint64(8)) | (codes[single[open_] - back] & 0xFF)
        length[open_ & is_start[single - back]] = back
    known = np.array([int.from_bytes(word.encode(), "little") for word in _ABBREVIATIONS], np.uint64)
    is_start[single[(length > 0) & np.isin(packed, known)]] = False


@cache
def _kinds() -> U8:
    """What each code point is."""
    table = np.zeros(0x110000, np.uint8)
    for codes in CHARACTERS:
        table[codes.start : codes.stop] = [_kind(chr(code)) for code in codes]
    return table


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if character.isspace():
        return int(SPACE)
    if category[0] not in _MARK_CATEGORIES:
        cases = UPPER * character.isupper() | LOWER * character.islower()
        return int(SOUND | LETTER * character.isalpha() | DIGIT * ("0" <= character <= "9") | cases)
    splits = (
        category[0] == "P" or category in ("So", "Sc") or character in _LEAD_TOO
    ) and character not in _NEVER_SPLIT
    return int(LEAD * splits | TAIL * (splits and character not in _NOT_AT_END and category != "Sc"))


@cache
def _values() -> U64:
    """A random number for each code point."""
    return mix(np.arange(0x110000, dtype=np.uint64))
