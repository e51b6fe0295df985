"""Long documents cut into pieces, at the borders of paragraphs or sentences.

    cut      a document of more than `characters` becomes several; value: how many

The pieces cover the text: joined, they are it. Each has at most `characters`, and at least `min_characters`, so that no
tail of a few words is left over. The white space between two pieces belongs to the first, so that the second begins
with its indentation and words. A border is the last one in reach of the wanted kind; where there is none, the next kind
is taken: paragraph, sentence, line, word, and as the last resort anywhere. Cuts within sentences are counted apart, as
`cut/within_sentence` (at a line end or a blank) and `cut/within_word`.

A heading stays with what it stands above: where a short line without a full stop stands alone between blank lines, the
piece ends before it. (In the reach of one cut there may be nothing else; then it ends behind it.)
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import regex  # type: ignore[import-untyped]
from pydantic import Field, model_validator

from tilth.core.config import Config
from tilth.data.stages.base import Kind, Result, each
from tilth.data.stages.sentences import sentence_starts


class CutOptions(Config):
    """Options of `cut`."""

    characters: int = Field(default=20_000, ge=16)
    """The longest piece."""
    min_characters: int = Field(default=200, ge=1)
    """The shortest piece; at most half of `characters`."""
    at: Literal["paragraph", "sentence"] = "paragraph"
    """The border that is looked for first; pieces cut at sentences are of more even length."""

    @model_validator(mode="after")
    def _leaves_room(self) -> CutOptions:
        if 2 * self.min_characters > self.characters:
            raise ValueError(
                f"min_characters: {self.min_characters} is more than half of characters ({self.characters}) | "
                f"give at most {self.characters // 2}"
            )
        return self


class _Cut(NamedTuple):
    place: int
    rule: str = ""  # under which it is counted, where it is not of the kind that was wanted


_PARAGRAPH = regex.compile(r"\n\s*\n")
_LONGEST_HEADING = 80
_ENDS = (".", "!", "?", ":", ";", ",", '"', "”", ")", "…", "。", "！", "？", "|")
_BLANKS = (" ", "\t", "\u3000", "\u00a0")
_JOINERS = "\u200d\ufe0e\ufe0f"
_LONGEST_CLUSTER = 32


def cut(text: str, options: CutOptions) -> Result:
    """Pieces of at most `characters`; value: how many."""
    if len(text) <= options.characters:
        return Result(text)
    borders, places, rules = _Borders(text, options.at), [0], Counter[str]()
    while len(text) - places[-1] > options.characters:
        start = places[-1]
        last = min(start + options.characters, len(text) - options.min_characters)
        found = borders.last(start + options.min_characters, last)
        places.append(found.place)
        rules[found.rule] += 1
    del rules[""]
    places.append(len(text))
    return Result(text, len(places) - 1, also=tuple(sorted(rules.items())), spans=tuple(pairwise(places)))


class _Borders:
    """Where a text may be cut."""

    def __init__(self, text: str, at: Literal["paragraph", "sentence"]) -> None:
        self.text, self.at = text, at

    @cached_property
    def paragraphs(self) -> list[int]:
        """Where paragraphs begin, those apart that follow a heading."""
        places, start = list[int](), 0
        for match in _PARAGRAPH.finditer(self.text):
            before, start = start, match.end()
            if match.start() - before > _LONGEST_HEADING or not _is_heading(self.text[before : match.start()]):
                places.append(start)
        return places

    @cached_property
    def sentences(self) -> list[int]:
        """Where sentences begin, those that begin a paragraph included."""
        return sentence_starts(self.text)

    def last(self, least: int, most: int) -> _Cut:
        """The last of the best borders from `least` to `most`."""
        if self.at == "paragraph" and (place := _last_of(self.paragraphs, least, most)):
            return _Cut(place)
        if place := _last_of(self.sentences, least, most):
            return _Cut(place)
        if place := self._behind(("\n",), least, most) or self._behind(_BLANKS, least, most):
            return _Cut(place, "cut/within_sentence")
        return _Cut(self._between_letters(least, most), "cut/within_word")

    def _behind(self, characters: Iterable[str], least: int, most: int) -> int:
        """The last place from `least` to `most` with one of these characters before it; 0: there is none."""
        return max(self.text.rfind(character, least - 1, most) for character in characters) + 1

    def _between_letters(self, least: int, most: int) -> int:
        """`most`, or a little before it, so that no accent or emoji is parted from what it belongs to."""
        for place in range(most, max(least, most - _LONGEST_CLUSTER), -1):
            first, before = self.text[place], self.text[place - 1]
            if not unicodedata.combining(first) and first not in _JOINERS and before not in _JOINERS:
                return place
        return most


def _is_heading(paragraph: str) -> bool:
    line = paragraph.strip()
    return bool(line) and "\n" not in line and not line.endswith(_ENDS)


def _last_of(places: Sequence[int], least: int, most: int) -> int:
    """The last of the sorted places from `least` to `most`; 0: there is none."""
    number = bisect_right(places, most)
    return places[number - 1] if number and places[number - 1] >= least else 0


CUT_STAGES: dict[str, Kind] = {"cut": Kind(CutOptions, each(cut), version=2)}
