"""What a template wrote and what came from the data: kept apart through a rendering, to the character.

    Marker.mark(value)      data for a template: special tokens spelled in it stand between marks
    Marker.read(raw)        what the template made of it, as a Marked text: marks gone, special tokens as aliases
    alias(n), ALIAS         how the n-th special token is written in a Marked text

A rendered conversation is one string, in which a user who writes `<|im_end|>` would end his own turn. So every special
token spelled in the data is put between two marks before the template sees it, and the token is recognised afterwards
only where no mark touches it, that is, where the template wrote it. A string that ends or begins with a part of a
special token is marked there too: it must not become whole by what the template writes next to it.

All marks are noncharacters (U+FDD0 to U+FDEF), which Unicode keeps out of interchanged text; those in the data, and
lone surrogates, become U+FFFD. Around a token, not within it, marks leave alone what templates look for in a text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

OPEN, CLOSE, BREAK, ANSWER, ANSWERED, _LEAD = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4", "\ufdd5"
HERE = BREAK + BREAK  # of a content that is to be found: two of the data's own do not stand side by side
_MARKS = OPEN + CLOSE + BREAK + ANSWER + ANSWERED
_DIGITS = "\ufde0-\ufdef"
ALIAS = re.compile(f"{_LEAD}[{_DIGITS}]{{4}}")
ALIAS_LENGTH = 5
MOST_SPECIALS = 1 << 16
_NO_TEXT = re.compile("[\ud800-\udfff\ufdd0-\ufdef]")
_ESCAPED = re.compile(r"\\ufdd[012]")
_UNMARKED = ("role", "type")  # compared by templates, and checked before: nothing of a user's stands there


def plain(text: str) -> str:
    """A text without lone surrogates and the noncharacters that marks are made of: U+FFFD in their place."""
    return _NO_TEXT.sub("\ufffd", text)


def alias(place: int) -> str:
    """What stands for the special token at this place of the tokenizer's list."""
    assert 0 <= place < MOST_SPECIALS
    return _LEAD + "".join(chr(0xFDE0 + (place >> shift & 15)) for shift in (12, 8, 4, 0))


def alias_place(text: str) -> int:
    """The place of a special token by its alias."""
    return int("".join(f"{ord(digit) & 15:x}" for digit in text[1:]), 16)


class Marked(NamedTuple):
    """A rendered conversation: special tokens as aliases, and the answers.

    Attributes:
        text: what was rendered.
        spans: (start, end) of what is trained, in characters of `text`.
    """

    text: str
    spans: list[tuple[int, int]]


class Names(NamedTuple):
    """The added tokens of a tokenizer, as far as they decide where a special one stands in a text.

    Attributes:
        specials: names of the special tokens, in the order in which aliases number them.
        others: added tokens that are not special and that text may become; a longer one hides a shorter special one.
        single_words: special tokens that count only where no letter, digit or _ touches them.
    """

    specials: list[str]
    others: list[str] = []
    single_words: list[str] = []


class Found(NamedTuple):
    """A special token, or a mark, in a rendered text."""

    start: int
    end: int
    name: str


class Marker:
    """Marks data for one tokenizer, and reads what was rendered of it."""

    def __init__(self, names: Names) -> None:
        self._names = list(names.specials)
        self._place = {name: place for place, name in enumerate(names.specials)}
        self._single = set(names.single_words)
        self._specials = re.compile(_any_of(names.specials)) if names.specials else None
        self._all = re.compile(f"[{OPEN}-{ANSWERED}]|" + _any_of([*names.specials, *names.others] or [_LEAD]))
        self._joined = "\n".join(names.specials)
        self._begun = {name[:n] for name in names.specials for n in range(1, len(name))}
        self._rest = {name[n:] for name in names.specials for n in range(1, len(name))}
        self._ends, self._starts = {part[-1] for part in self._begun}, {part[0] for part in self._rest}
        self._longest = max(map(len, names.specials), default=1) - 1

    def mark(self, value: Any) -> Any:
        """Data of JSON types with all strings in it marked; keys too, where one spells a special token whole."""
        if isinstance(value, str):
            return self._broken(self._wrapped(plain(value)))
        if isinstance(value, list):
            return [self.mark(item) for item in value]
        if isinstance(value, dict):
            return {
                self._wrapped(plain(key)): plain(item)
                if key in _UNMARKED and isinstance(item, str)
                else self.mark(item)
                for key, item in value.items()
            }
        return value

    def _wrapped(self, text: str) -> str:
        return self._specials.sub(rf"{OPEN}\g<0>{CLOSE}", text) if self._specials else text

    def _broken(self, text: str) -> str:
        """Marks where a part of a special token begins or ends the text, or is all of it: between that and the white
        space around it, which a template may take away.
        """
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        if start >= end:
            return text
        if end - start <= self._longest and text[start:end] in self._joined:
            return f"{text[:start]}{BREAK}{text[start:end]}{BREAK}{text[end:]}"
        lengths = range(1, min(self._longest, end - start) + 1)
        if text[end - 1 : end] in self._ends and any(text[end - n : end] in self._begun for n in lengths):
            text = text[:end] + BREAK + text[end:]
        if text[start : start + 1] in self._starts and any(text[start : start + n] in self._rest for n in lengths):
            text = text[:start] + BREAK + text[start:]
        return text

    def found(self, raw: str, start: int = 0, end: int | None = None) -> Iterator[Found]:
        """The special tokens that the template wrote, and all marks, in order."""
        for match in self._all.finditer(raw, start, len(raw) if end is None else end):
            at, to = match.span()
            name = match[0]
            if OPEN <= name <= ANSWERED or (name in self._place and self._templates(raw, at, to, name)):
                yield Found(at, to, name)

    def _templates(self, raw: str, start: int, end: int, name: str) -> bool:
        if raw[start - 1 : start] == OPEN or raw[end : end + 1] == CLOSE:
            return False
        sides = raw[max(0, start - 3) : start].rstrip(_MARKS)[-1:], raw[end : end + 3].lstrip(_MARKS)[:1]
        return name not in self._single or not any(side == "_" or side.isalnum() for side in sides)

    def specials(self, raw: str, start: int = 0, end: int | None = None) -> list[Found]:
        """The special tokens that the template wrote, in order."""
        return [found for found in self.found(raw, start, end) if found.name in self._place]

    def unescape(self, raw: str, data: str) -> str:
        """Marks that a template escaped for JSON, as marks; left alone where the data spells such an escape itself."""
        return raw if "\\ufdd" not in raw or "\\\\ufdd" in data else _ESCAPED.sub(_character, raw)

    def read(self, raw: str, spans: Sequence[tuple[int, int]] = ()) -> Marked:
        """The text without marks, special tokens as aliases; `spans` of `raw`, and those the template itself marked."""
        pieces, places, length, at = [], [(0, 0)], 0, 0
        opened, own = [], []
        for found in self.found(raw):
            inserted = alias(self._place[found.name]) if found.name in self._place else ""
            pieces += [raw[at : found.start], inserted]
            length += found.start - at
            places += [(found.start, length), (found.end, length + len(inserted))]
            length, at = length + len(inserted), found.end
            if found.name == ANSWER:
                opened.append(length)
            elif found.name == ANSWERED and opened:
                own.append((opened.pop(), length))
        text = "".join([*pieces, raw[at:]])
        return Marked(text, sorted(own) + [(_moved(places, start), _moved(places, end)) for start, end in spans])

    def text(self, raw: str) -> str:
        """The text as the template wrote it, without marks."""
        return ALIAS.sub(lambda match: self._names[alias_place(match[0])], self.read(raw).text)


def _character(match: re.Match[str]) -> str:
    return chr(int(match[0][2:], 16))


def _moved(places: list[tuple[int, int]], raw: int) -> int:
    before, after = places[bisect_right(places, (raw, 1 << 60)) - 1]
    return after + raw - before


def _any_of(names: Sequence[str]) -> str:
    """A pattern that matches the longest of the names, as a tree: thousands of them cost no more than a few."""
    by_first: dict[str, list[str]] = {}
    for name in names:
        if name:
            by_first.setdefault(name[0], []).append(name[1:])
    branches = [re.escape(first) + _any_of(rest) for first, rest in by_first.items()]
    if not branches:
        return ""
    joined = "|".join(branches)
    return f"(?:{joined})?" if "" in names else f"(?:{joined})" if len(branches) > 1 else joined
