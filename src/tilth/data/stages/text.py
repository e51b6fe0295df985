"""Stages over the characters of a text: line ends, control characters, Unicode, white space, length.

    newlines         CR LF, CR, and the other line ends that Unicode knows become \\n
    controls         control characters other than \\n and \\t, byte order marks, noncharacters: removed
    unicode          one normalisation form (NFC)
    trailing_space   white space at the end of lines: removed
    blank_lines      runs of more than two: cut down to two
    strip            blank lines at the beginning and at the end of the document: removed
    min_length       shorter documents: dropped

In this order they are the preset `standard`: removing a control character can bring a letter and its accent together,
so `unicode` follows `controls`; lines are trimmed before blank ones are counted. Cleaning what is clean changes
nothing, and says nothing. No stage touches the indentation of a line: Python source stays the program it was.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Literal

from pydantic import Field

from tilth.core.config import Config
from tilth.data.stages.base import Kind, NoOptions, Result, each


class UnicodeOptions(Config):
    """Options of `unicode`."""

    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC"
    """NFC keeps what text looks like; NFKC also folds ligatures, wide letters and superscripts, and loses them."""


class BlankLinesOptions(Config):
    """Options of `blank_lines`."""

    most: int = Field(default=2, ge=0)
    """Blank lines that may follow one another."""


class MinLengthOptions(Config):
    """Options of `min_length`."""

    characters: int = Field(default=16, ge=1)
    """The shortest document that is kept."""


# Form feed and vertical tab end a line too: without it, the words on both sides of a page break would run together.
_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_LINE_ENDS = ("\r", "\v", "\f", "\x85", "\u2028", "\u2029")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]+")
_ASCII_CONTROLS = bytes(code for code in (*range(32), 127) if code not in b"\n\t")
_BLANK_START = re.compile(r"(?:[^\S\n]*\n)+")


def newlines(text: str, options: NoOptions) -> Result:
    """Every line end becomes \\n; value: the line ends that were another."""
    if not any(end in text for end in _LINE_ENDS):  # six scans by memchr, faster than one by a pattern
        return Result(text)
    return Result(*_LINE_END.subn("\n", text))


def controls(text: str, options: NoOptions) -> Result:
    """Control characters (C0 and C1 but \\n and \\t, DEL, U+FEFF, U+FFFE, U+FFFF) are removed; value: how many."""
    if text.isascii():
        raw = text.encode()
        kept = raw.translate(None, _ASCII_CONTROLS)
        return Result(text if len(kept) == len(raw) else kept.decode(), len(raw) - len(kept))
    if not _CONTROLS.search(text):
        return Result(text)
    cleaned = _CONTROLS.sub("", text)
    return Result(cleaned, len(text) - len(cleaned))


def normalise(text: str, options: UnicodeOptions) -> Result:
    """The normalisation form (UAX 15); value: the characters that gave way to others."""
    form = options.form
    if unicodedata.is_normalized(form, text):
        return Result(text)
    lines = text.split("\n")  # a line end composes with nothing: lines can be taken one by one
    changed = 0
    for i, line in enumerate(lines):
        if not unicodedata.is_normalized(form, line):
            lines[i] = unicodedata.normalize(form, line)
            changed += (Counter(line) - Counter(lines[i])).total() or 1  # accents may only have changed places
    return Result("\n".join(lines), changed)


def trailing_space(text: str, options: NoOptions) -> Result:
    """White space at line ends is removed; value: how many characters."""
    cleaned = "\n".join(map(str.rstrip, text.split("\n")))
    return Result(cleaned, len(text) - len(cleaned))


def blank_lines(text: str, options: BlankLinesOptions) -> Result:
    """No more than `most` blank (empty) lines follow one another; value: the lines removed."""
    longest = "\n" * (options.most + 1)
    if f"{longest}\n" not in text:
        return Result(text)
    cleaned = re.sub(rf"\n{{{options.most + 2},}}", longest, text)
    return Result(cleaned, len(text) - len(cleaned))


def strip(text: str, options: NoOptions) -> Result:
    """Blank lines at both ends go, the first line stays indented and one final newline stays; value: how much went."""
    start = _BLANK_START.match(text)
    body = text[start.end() if start else 0 :]
    kept = body.rstrip()
    # A file that ends well ends with one newline: taking it away would report a change of nearly every document.
    final = "\n" if kept and body[len(kept) :].lstrip(" \t").startswith("\n") else ""
    return Result(kept + final, len(text) - len(kept + final))


def min_length(text: str, options: MinLengthOptions) -> Result:
    """A document of fewer than `characters` is dropped; value: the characters it has."""
    return Result(text) if len(text) >= options.characters else Result(None, len(text))


TEXT_STAGES: dict[str, Kind] = {
    "newlines": Kind(NoOptions, each(newlines)),
    "controls": Kind(NoOptions, each(controls)),
    "unicode": Kind(UnicodeOptions, each(normalise)),
    "trailing_space": Kind(NoOptions, each(trailing_space)),
    "blank_lines": Kind(BlankLinesOptions, each(blank_lines)),
    "strip": Kind(NoOptions, each(strip)),
    "min_length": Kind(MinLengthOptions, each(min_length)),
}
