"""What a document says over and over: lines and paragraphs that stand in it more often than `most` times.

    repeated_lines         value: the lines removed
    repeated_paragraphs    value: the paragraphs removed

Of what is repeated the first stays (`keep: first`) or none (`keep: none`). White space at both ends does not count when
two are compared; capitals do. Lines that have to be repeated stay: short ones (`}`, `end`, table rules), ones without a
letter, and, unless `indented` says otherwise, indented ones, which in lists and code belong to what stands above them.
So do, whatever `indented` says, the lines of a fenced block (``` or ~~~) with its fences, and of lines by themselves
prompts (`>>> `, `$ `), rows of tables (`| `), directives (`.. note::`) and fields (`License: MIT`): each is one of a
group that makes no sense without it.

Source files, known by `meta.code`, are left alone unless `code` says otherwise: without a repeated line
they may be no program any more (of 1,790 files of Python's library, 8 were not).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import regex  # type: ignore[import-untyped]
from pydantic import Field

from tilth.core.config import Config
from tilth.data.stages.base import Kind, Result, each
from tilth.data.stages.code import but_code


class RepeatedLinesOptions(Config):
    """Options of `repeated_lines`."""

    most: int = Field(default=3, ge=1)
    """How often a line may stand in a document."""
    min_characters: int = Field(default=20, ge=1)
    """Shorter lines may be repeated, white space at both ends not counted."""
    keep: Literal["first", "none"] = "first"
    """Of a line that is repeated too often: the first stays, or none."""
    indented: bool = False
    """Whether lines that begin with white space are looked at as well."""
    code: bool = False
    """Whether source files are looked at as well."""


class RepeatedParagraphsOptions(Config):
    """Options of `repeated_paragraphs`."""

    most: int = Field(default=1, ge=1)
    """How often a paragraph may stand in a document."""
    min_characters: int = Field(default=60, ge=1)
    """Shorter paragraphs may be repeated, white space at both ends not counted."""
    keep: Literal["first", "none"] = "first"
    """Of a paragraph that is repeated too often: the first stays, or none."""
    indented: bool = False
    """Whether paragraphs that begin with white space are looked at as well."""
    code: bool = False
    """Whether source files are looked at as well."""


Options = RepeatedLinesOptions | RepeatedParagraphsOptions

_PARAGRAPH_END = regex.compile(r"(\n\s*\n)")
_LETTER = regex.compile(r"\p{L}")
_FENCE = regex.compile(r"[^\S\n]*+(`{3,}+|~{3,}+)")
_ONE_OF_A_GROUP = regex.compile(r">>>|\.\.\. |[$#|>] |\.\. |[\w-]{1,30}+:(?: |$)")


def repeated_lines(text: str, options: RepeatedLinesOptions) -> Result:
    """Lines that are repeated too often are removed; value: how many."""
    lines = text.split("\n")
    gone = _repeated(lines, options)
    if gone:
        gone -= _fenced(lines)
        gone = {number for number in gone if not _ONE_OF_A_GROUP.match(lines[number].lstrip())}
    if not gone:
        return Result(text)
    return Result("\n".join(line for number, line in enumerate(lines) if number not in gone), len(gone))


def repeated_paragraphs(text: str, options: RepeatedParagraphsOptions) -> Result:
    """Paragraphs that are repeated too often are removed, with the blank lines before them; value: how many."""
    parts = _PARAGRAPH_END.split(text)  # a paragraph, what ends it, a paragraph …
    paragraphs = parts[::2]
    gone = _repeated(paragraphs, options)
    if gone:
        gone -= _fenced_paragraphs(parts)
    if not gone:
        return Result(text)
    ends = ["", *parts[1::2]]
    kept = [number for number in range(len(paragraphs)) if number not in gone]
    left = "".join(ends[number] * (place > 0) + paragraphs[number] for place, number in enumerate(kept))
    if left and text.endswith("\n") and not left.endswith("\n"):  # the file ended well: it still does
        left += "\n"
    return Result(left, len(gone))


def _repeated(pieces: Sequence[str], options: Options) -> set[int]:
    """The numbers of the pieces that go."""
    keys = [piece.strip() for piece in pieces] if options.indented else [_flush(piece) for piece in pieces]
    counts = Counter(keys)
    if len(counts) == len(keys):
        return set()
    often = {key for key, count in counts.items() if count > options.most and _may_go(key, options)}
    seen: set[str] = set()
    gone = set[int]()
    for number, key in enumerate(keys) if often else ():
        if key in often and (options.keep == "none" or key in seen):
            gone.add(number)
        seen.add(key)
    return gone


def _fenced(lines: Sequence[str]) -> set[int]:
    """The numbers of the lines of fenced blocks, fences included; one that is not closed goes on to the end."""
    inside: set[int] = set()
    fence = ""
    for number, line in enumerate(lines):
        found = _FENCE.match(line) if "```" in line or "~~~" in line else None
        if fence or found:
            inside.add(number)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not line[found.end() :].strip():
            fence = ""
    return inside


def _fenced_paragraphs(parts: Sequence[str]) -> set[int]:
    """The numbers of the paragraphs that hold a line of a fenced block; parts: a paragraph, what ends it, …"""
    inside, found, line = _fenced("".join(parts).split("\n")), set[int](), 0
    for place, part in enumerate(parts) if inside else ():
        height = part.count("\n")
        if place % 2 == 0 and not inside.isdisjoint(range(line, line + height + 1)):
            found.add(place // 2)
        line += height
    return found


def _flush(piece: str) -> str:
    """The piece without white space at its end; nothing when it is indented."""
    return "" if piece[:1].isspace() else piece.rstrip()


def _may_go(key: str, options: Options) -> bool:
    return len(key) >= options.min_characters and _LETTER.search(key) is not None


REPEAT_STAGES: dict[str, Kind] = {
    "repeated_lines": Kind(RepeatedLinesOptions, but_code(each(repeated_lines)), version=3),
    "repeated_paragraphs": Kind(RepeatedParagraphsOptions, but_code(each(repeated_paragraphs)), version=3),
}
