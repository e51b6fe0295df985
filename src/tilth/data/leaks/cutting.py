"""Where a passage is cut out of a document, so that what is left can be read.

    edges(document, starts, ends, margin) -> (lows, highs)   what goes with each of some runs of words
    without(text, spans)                                     what is left

Of a text the passage goes, `margin` characters on each side, and the words that these end in. Of a source file whole
blocks go, those that the middle of a run of words of it stands in, and nothing around them: half a function is none.

A block begins with a line at the margin, outside of brackets and strings, that does not go on with what stands above it
(`else`, a closing bracket, what a comment or a decorator stands before). In other languages than Python that is told by
what most of them share, and a block begins after a blank line: where a bracket seems never to be closed, the rest of
the file is one. Too much goes then, and not half of something.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np

from tilth.data.document import Document
from tilth.data.words import I64

_LONGEST_WORD = 40
_SPACES = np.array([code for code in range(0x3001) if chr(code).isspace()], np.uint32)
_BY_INDENTATION = ("python", "cython")
_PLAIN = r"[^\"'#()\[\]{}\\\n/]+|"  # in runs: a text is gone through several times as fast
_BRACKETS = r"(?P<opens>[(\[{])|(?P<closes>[)\]}])|(?P<joined>\\\n)|(?P<ends>\n)"
_STRINGS = "|".join(rf"{q}[^{q}\\\n]*(?:\\[\s\S][^{q}\\\n]*)*{q}" for q in "\"'")
_LONG_STRINGS = "|".join(rf"{q * 3}[^{q}\\]*(?:(?:\\[\s\S]|{q}(?!{q}{q}))[^{q}\\]*)*(?:{q * 3}|\Z)" for q in "\"'")
_PYTHON = re.compile(rf"{_PLAIN}#[^\n]*|{_LONG_STRINGS}|{_STRINGS}|{_BRACKETS}")
_OTHERS = re.compile(rf"{_PLAIN}/\*[\s\S]{{0,50000}}?\*/|//[^\n]*|(?<!\S)#[^\n]*|{_STRINGS}|{_BRACKETS}")
_LINE = re.compile(
    r"(?P<blank>[^\S\n]*(?:\n|\Z))|(?P<inside>\s|[)\]}{]|"
    r"(?:el(?:se|if|sif|seif)|except|finally|catch|rescue|ensure|then|do|end|fi|done|esac)\b)|"
    r"(?P<ahead>[#@%;]|//|/\*|--)"
)


def edges(document: Document, starts: I64, ends: I64, margin: int) -> tuple[I64, I64]:
    """Where a cut begins and ends that takes each of some runs of words out, in characters."""
    text, code = document.text, document.meta.get("code")
    if code is not None:
        borders = np.array([*_blocks(text, indented=code in _BY_INDENTATION), len(text)], np.int64)
        # A run's last words, `return None`, may be those that the block before it happens to end in.
        block = np.searchsorted(borders, (starts + ends) // 2, "right") - 1
        return borders[block], borders[block + 1]
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    stops = np.concatenate([[-1], np.flatnonzero(np.isin(letters, _SPACES)), [len(text)]])
    lows, highs = np.maximum(starts - margin, 0), np.minimum(ends + margin, len(text))
    # From the last white space before it to the first behind it, where it does not begin or end with some.
    before = np.where(np.isin(lows, stops), lows, stops[np.searchsorted(stops, lows) - 1] + 1)
    after = np.where(np.isin(highs - 1, stops), highs, stops[np.searchsorted(stops, highs)])
    first, last = lows - before < _LONGEST_WORD, after - highs < _LONGEST_WORD
    return np.where(first, before, lows), np.where(last, after, highs)


def without(text: str, spans: Sequence[Sequence[int]]) -> str:
    """A text without some spans of it, which are in order and do not touch.

    Where lines go as a whole, what is left is joined as it is; else a paragraph ends there, so that no two halves of
    words, or of sentences, become one.
    """
    borders = [0, *itertools.chain.from_iterable(spans), len(text)]
    left, before = "", 0
    for start, end in zip(borders[::2], borders[1::2], strict=True):
        if _begins_a_line(text, before) and _begins_a_line(text, start):
            left += text[start:end]
        else:
            left = "\n\n".join(filter(None, (left.rstrip(), text[start:end].lstrip())))
        before = end
    return "" if left.isspace() else left


def _begins_a_line(text: str, place: int) -> bool:
    return place in (0, len(text)) or text[place - 1] == "\n"


def _blocks(text: str, *, indented: bool) -> Iterator[int]:
    """Where the blocks of a source file begin."""
    yield 0
    ahead: int | None = None  # the first of the comments and decorators that stand before a line
    free = indented  # after a blank line, which Python does not need
    for place in _lines_outside(text, _PYTHON if indented else _OTHERS):
        found = _LINE.match(text, place)
        kind = found.lastgroup if found else "begins"
        if kind == "blank":
            free = True
        elif kind == "ahead":
            ahead = place if ahead is None and free else ahead
        else:
            if kind == "begins" and (ahead is not None or free):
                yield place if ahead is None else ahead
            ahead, free = None, indented


def _lines_outside(text: str, tokens: re.Pattern[str]) -> Iterator[int]:
    """Where the lines begin that begin outside of brackets, strings and comments, but for the first."""
    depth = 0
    for token in tokens.finditer(text):
        if token.lastgroup == "opens":
            depth += 1
        elif token.lastgroup == "closes":
            depth = max(0, depth - 1)
        elif token.lastgroup == "ends" and not depth:
            yield token.end()
