"""Stages over the characters of a text: line ends, control characters, Unicode, white space, length.

    newlines         CR LF, CR, form feeds, and the line and paragraph separators of Unicode become \\n
    controls         U+0080 to U+009F become what they are in windows-1252 (`…`, `–`, `’` …); all other control
                     characters but \\n and \\t, byte order marks and noncharacters are removed
    unicode          one normalisation form (NFC); source files stay as they are
    trailing_space   white space at the end of lines: removed
    blank_lines      runs of more than two: cut down to two
    strip            blank lines at the beginning and at the end of the document: removed
    min_length       shorter documents: dropped

In this order they are the preset `standard`: removing a control character can bring a letter and its accent together,
so `unicode` follows `controls`; lines are trimmed before blank ones are counted. Cleaning what is clean changes
nothing, and says nothing. No stage touches the indentation of a line, or writes a letter of a source file another way:
Python source stays the program it was, but for white space at line ends within its strings.

U+0080 to U+009F are hardly ever meant as the controls that they are: they are windows-1252 that was read as Latin-1,
which is also how browsers read both (WHATWG, Encoding Standard). So U+0085 is no line end here, but an ellipsis.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Literal

from pydantic import Field

from tilth.core.config import Config
from tilth.data.stages.base import Kind, NoOptions, Result, each
from tilth.data.stages.code import but_code


class UnicodeOptions(Config):
    """Options of `unicode`."""

    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC"
    """NFC keeps what text looks like; NFKC also folds ligatures, wide letters and superscripts, and loses them."""
    code: bool = False
    """Whether source files are looked at as well: their strings may be written in another form on purpose."""


class BlankLinesOptions(Config):
    """Options of `blank_lines`."""

    most: int = Field(default=2, ge=0)
    """Blank lines that may follow one another."""


class MinLengthOptions(Config):
    """Options of `min_length`."""

    characters: int = Field(default=16, ge=1)
    """The shortest document that is kept."""


# Form feed and vertical tab end a line too: without it, the words on both sides of a page break would run together.
_LINE_END = re.compile("\r\n|[\r\v\f\u2028\u2029]")
_LINE_ENDS = ("\r", "\v", "\f", "\u2028", "\u2029")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]+")
_ASCII_CONTROLS = bytes(code for code in (*range(32), 127) if code not in b"\n\t")
_MEANT = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}  # five mean nothing
_CONTROLS_MEAN = {**dict.fromkeys((*range(9), *range(0x0B, 0x20), 0x7F, 0xFEFF, 0xFFFE, 0xFFFF), ""), **_MEANT}
_BLANK_START = re.compile(r"(?:[^\S\n]*\n)+")


def newlines(text: str, options: NoOptions) -> Result:
    """Every line end becomes \\n; value: the line ends that were another."""
    if not any(end in text for end in _LINE_ENDS):  # five scans by memchr, faster than one by a pattern
        return Result(text)
    return Result(*_LINE_END.subn("\n", text))


def controls(text: str, options: NoOptions) -> Result:
    """Control characters (C0 but \\n and \\t, DEL, C1, U+FEFF, U+FFFE, U+FFFF) go, those of C1 for what was meant;
    value: how many.
    """
    if text.isascii():
        raw = text.encode()
        kept = raw.translate(None, _ASCII_CONTROLS)
        return Result(text if len(kept) == len(raw) else kept.decode(), len(raw) - len(kept))
    gone = sum(map(len, _CONTROLS.findall(text)))
    return Result(text.translate(_CONTROLS_MEAN) if gone else text, gone)


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
    "newlines": Kind(NoOptions, each(newlines), version=2, over="messages"),
    "controls": Kind(NoOptions, each(controls), version=2, over="messages"),
    "unicode": Kind(UnicodeOptions, but_code(each(normalise)), version=3, over="messages"),
    "trailing_space": Kind(NoOptions, each(trailing_space), over="messages"),
    "blank_lines": Kind(BlankLinesOptions, each(blank_lines), over="messages"),
    "strip": Kind(NoOptions, each(strip), over="messages"),
    "min_length": Kind(MinLengthOptions, each(min_length)),
}
