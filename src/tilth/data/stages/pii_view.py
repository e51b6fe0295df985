"""A text as the finders of `pii` see it: classes of characters, in which bytes can be searched fast.

    View(text)           .text, .classes, .tokens: byte n stands for character n
    Span                 (start, end) of something found

Python's expressions search a text at 50 to 100 MB/s for a set of characters, and at several times that for a byte that
they begin with. So each character becomes one byte that says what it is, once for all finders, and only where the
classes of something private stand in a row is the text itself looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
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
_CLASSES = _table(((_DIGITS, "0"), (_UPPER, "A"), (".", "."), (" -()/\xa0", "-")), " ")
_TOKENS = _table(((_DIGITS, "0"), (_UPPER + _UPPER.lower() + "_-/+", "0")), " ")


class View(NamedTuple):
    """A text and its classes.

    Attributes:
        text: the text.
        classes: `0` a digit, `A` a capital letter, `.` a dot, `-` another character that parts groups of digits.
        tokens: `0` what keys are made of (ASCII letters and digits, _ - / +).
    """

    text: str
    classes: bytes
    tokens: bytes


Find = Callable[[View], Iterator[Span]]


def look(text: str) -> View:
    """The text with its classes; a character beyond Latin-1 counts as a `?`."""
    raw = text.encode("latin-1", "replace")
    return View(text, raw.translate(_CLASSES), raw.translate(_TOKENS))


def before(text: str, start: int, characters: int) -> str:
    """Up to so many characters before `start`, of the same line."""
    return text[max(0, start - characters) : start].rpartition("\n")[2]


_WORD = re.compile(r"\w")


def is_word(text: str, index: int) -> bool:
    """Whether a letter, a digit or `_` stands there."""
    return 0 <= index < len(text) and _WORD.match(text, index) is not None
