"""A text as the finders of `pii` see it: classes of characters, in which bytes can be searched fast.

    look(text) -> View         .text, .classes: byte n stands for character n
    long_runs(view, n)         where a key could stand
    Span                       (start, end) of something found

Python's expressions search a text at 50 to 100 MB/s for a set of characters, and at several times that for a byte that
they begin with. So each character becomes one byte that says what it is, once for all finders, and only where the
classes of something private stand in a row is the text itself looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Span = tuple[int, int]


def _table(classes: Iterable[tuple[str, str]], other: str) -> bytes:
    """A translation table: each character of a class becomes the class's sign."""
    table = bytearray(other.encode() * 256)
    for characters, sign in classes:
        for character in characters:
            table[ord(character)] = ord(sign)
    return bytes(table)


_DIGITS = "0123456789"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS = _UPPER + _UPPER.lower()
_CLASSES = _table(((_DIGITS, "0"), (_LETTERS, "a"), (".", "."), (" -()/\xa0", "-")), " ")
_TOKENS = _table(((_DIGITS + _LETTERS + "_-/+", "0"),), " ")
_NUMBER = re.compile(rb"0(?:[-.]{0,3}0){6,}")


class View(NamedTuple):
    """A text and its classes.

    Attributes:
        text: the text.
        raw: a byte for each character; `?` for one beyond Latin-1.
        classes: `0` a digit, `a` an ASCII letter, `.` a dot, `-` another character that parts groups of digits.
        mixed: whether a digit follows a letter anywhere; in most prose none does.
        numbers: where seven digits or more stand, with no more than three dots and such between two of them.
    """

    text: str
    raw: bytes
    classes: bytes
    mixed: bool
    numbers: list[Span]


def look(text: str) -> View:
    """The text with its classes."""
    raw = text.encode("latin-1", "replace")
    classes = raw.translate(_CLASSES)
    return View(text, raw, classes, b"a0" in classes, [found.span() for found in _NUMBER.finditer(classes)])


def long_runs(view: View, shortest: int) -> Iterator[Span]:
    """Where so many or more of what keys are made of (ASCII letters, digits, _ - / +) stand in a row."""
    tokens, run = view.raw.translate(_TOKENS), b"0" * shortest
    start = tokens.find(run)
    while start >= 0:
        end = tokens.find(b" ", start)
        end = len(tokens) if end < 0 else end
        yield start, end
        start = tokens.find(run, end)


def before(text: str, start: int, characters: int) -> str:
    """Up to so many characters before `start`, of the same line."""
    return text[max(0, start - characters) : start].rpartition("\n")[2]


_WORD = re.compile(r"\w")


def is_word(text: str, index: int) -> bool:
    """Whether a letter, a digit or `_` stands there."""
    return 0 <= index < len(text) and _WORD.match(text, index) is not None
