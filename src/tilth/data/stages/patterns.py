"""Regular expressions that a recipe brings along, and the clock that they run against.

    Rule             a name, a pattern, flags; or the name of a ready-made rule (ready_rules.py) alone
    LineRule         … for lines
    SpanRule         … for pieces of the text
    Replacement      … with what is put in its place
    DocumentRule     … with how often it must match
    RulesOptions     a list of rules and a limit in time, for the stages of rules.py
    Subject          a document's text, and the time that is left for it
    matching_lines   the numbers of the lines that a rule matches

Patterns are those of the `regex` library, which reads what `re` reads and can be stopped. A pattern that backtracks
catastrophically raises TimeoutError when the document's time is up.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import time
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import Any, ClassVar, Literal, TypeVar

import regex  # type: ignore[import-untyped]
from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config
from tilth.data.stages.ready_rules import READY, Kinds

Flag = Literal["ignorecase", "multiline", "dotall", "verbose", "ascii"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_CHARACTERS_A_SHARE = 1_000_000  # a document gets the time limit once for each, begun

# Patterns without a look behind or a negative look ahead, nothing atomic, possessive or fuzzy, and no reference back.
_PLAIN = re.compile(
    r"(?:[^\\(){}*+?]|\\[bwWsSdDtn\W]|\\[pP]\{\w+\}|\(\?(?:i?:|=|P<\w+>)|\((?!\?)|\)|(?:[*+?]|\{\d*,?\d*\})(?!\+))*"
)


def _or_a_name(schema: dict[str, Any]) -> None:
    """In the JSON Schema: a rule may be the bare name of a ready-made one."""
    rule = {**schema, "required": ["name"]}
    schema.clear()
    schema["anyOf"] = [{"enum": list(READY)}, rule]


class Rule(Config, json_schema_extra=_or_a_name):
    """A regular expression with a name; the name is the rule's in the ledger and the report."""

    takes: ClassVar[frozenset[Kinds]]

    name: str
    """Small letters, digits and underscores; or that of a ready-made rule, and then no pattern is needed."""
    pattern: str
    """A regular expression, as the `regex` library reads it."""
    flags: list[Flag] = []
    """`ignorecase`; `multiline`: ^ and $ match at every line; `dotall`: a dot matches a line end too; `verbose`: white
    space and comments in the pattern do not count; `ascii`: \\w, \\d and \\s know ASCII only."""

    @model_validator(mode="before")
    @classmethod
    def _ready_made(cls, value: Any) -> Any:
        """A bare name, or a rule without a pattern, gets that of the ready-made rule; so recipes are written out."""
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, dict) or "pattern" in given or not isinstance(given.get("name"), str):
            return given
        name = given["name"]
        if name not in READY:
            close = difflib.get_close_matches(name, READY, n=1, cutoff=0.5)
            hint = f"did you mean `{close[0]}`?" if close else f"ready-made: {', '.join(READY)}"
            raise ValueError(f"no ready-made rule is called {name!r} | {hint} or give a pattern")
        ready = READY[name]
        if ready.kind not in cls.takes:
            raise ValueError(f"{name} is a rule for {ready.kind} | use it in {ready.stage}")
        return {"pattern": ready.pattern, "flags": list(ready.flags), **given}

    @field_validator("name")
    @classmethod
    def _name_is_a_word(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name for a rule | small letters, digits and _, such as `out_of_character`"
            )
        return name

    @model_validator(mode="after")
    def _compiles(self) -> Rule:
        try:
            compiled(self)
        except regex.error as error:
            at = f" at position {error.pos}" if error.pos is not None else ""
            raise ValueError(
                f"pattern: {self.pattern!r} is no regular expression: {error.msg}{at} | mend the pattern there"
            ) from None
        return self


class LineRule(Rule):
    """What a line must match, somewhere in it, to be dropped."""

    takes = frozenset({"lines"})


class SpanRule(Rule):
    """A piece of the text that is removed wherever it matches."""

    takes = frozenset({"spans"})


class Replacement(Rule):
    """A piece of the text, and what is put in its place."""

    takes = frozenset({"spans"})

    replacement: str
    """What is put there; \\1 or \\g<name> is what a group of the pattern matched."""

    @model_validator(mode="after")
    def _groups_are_there(self) -> Replacement:
        names = {number: name for name, number in compiled(self).groupindex.items()}
        groups = (f"(?P<{names[n]}>)" if n in names else "()" for n in range(1, compiled(self).groups + 1))
        try:  # a pattern with the same groups that surely matches: the library looks at a template only then
            regex.sub("".join(groups), self.replacement, "")
        except (regex.error, IndexError) as error:
            raise ValueError(
                f"replacement: {self.replacement!r} does not fit the pattern: {error} | name one of its groups"
            ) from None
        return self


class DocumentRule(Rule):
    """What a document must match to be dropped: `at_least` times anywhere, or in a share of its lines."""

    takes = frozenset({"lines", "spans"})

    at_least: int = Field(default=1, ge=1)
    """Matches that drop the document."""
    share_of_lines: float | None = Field(default=None, gt=0, le=1)
    """Instead: the share of the lines that are not blank which must match, each by itself."""

    @model_validator(mode="after")
    def _lines_have_a_share(self) -> DocumentRule:
        ready = READY.get(self.name)
        if self.share_of_lines is None and ready and ready.kind == "lines" and ready.pattern == self.pattern:
            raise ValueError(f"{self.name} is a rule for lines | give share_of_lines, such as 0.5")
        return self


RuleT = TypeVar("RuleT", bound=Rule)


def check_names(rules: list[RuleT]) -> list[RuleT]:
    """Two rules of one name could not be told apart in the ledger."""
    names = [rule.name for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two rules are called {twice[0]!r} | give one of them another name")
    return rules


class TimedOptions(Config):
    """How long patterns may take."""

    timeout_seconds: float = Field(default=5, gt=0)
    """The processor's time for one document (of a conversation, for each of its strings), and once more for each
    million of its characters. A pattern that backtracks without end stops there, and the document is counted under the
    rule `…/timeout`."""
    on_timeout: Literal["keep", "drop"] = "keep"
    """What becomes of such a document, and of one on which a pattern asks for too much memory (counted as `…/memory`):
    kept as it was (of a conversation, that string), with a mark in its `meta`, or dropped."""


@cache
def _compile(pattern: str, flags: tuple[Flag, ...], multiline: bool) -> Any:
    bits = regex.MULTILINE if multiline else 0
    for flag in flags:
        bits |= getattr(regex, flag.upper())
    return regex.compile(pattern, bits)


def compiled(rule: Rule, multiline: bool = False) -> Any:
    """The rule's pattern, compiled once in a process."""
    return _compile(rule.pattern, tuple(rule.flags), multiline)


class Subject:
    """A document's text, what rules need of it, and the time that they may take.

    It is the processor's time, as the library measures it: what else the machine does should not drop documents.
    """

    def __init__(self, text: str, options: TimedOptions) -> None:
        self.text = text
        self.seconds = options.timeout_seconds * (1 + len(text) // _CHARACTERS_A_SHARE)
        self._end = time.process_time() + self.seconds

    def left(self) -> float:
        """Seconds, more than none; TimeoutError when they are up."""
        seconds = self._end - time.process_time()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    @cached_property
    def lines(self) -> list[str]:
        """The text's lines."""
        return self.text.split("\n")

    @cached_property
    def lowered(self) -> str:
        """The text in small letters, in as many lines."""
        return self.text.lower()


def may_match(rule: Rule, subject: Subject) -> bool:
    """False where a ready-made rule's words are not in the text: ten times as fast as the search."""
    needs = _needs(rule)
    return not needs or any(word in subject.lowered for word in needs)


def matching_lines(rule: Rule, subject: Subject) -> list[int]:
    """The numbers of the lines in which the rule's pattern is found, each line taken by itself.

    Raises:
        TimeoutError: the document's time is up.
        MemoryError: the pattern needs more than the library gives.
    """
    numbers: Iterable[int] = range(len(subject.lines))
    if needs := _needs(rule):
        numbers = sorted({number for word in needs for number in _lines_with(word, subject.lowered)})
    elif _PLAIN.fullmatch(rule.pattern):
        # Over line ends a pattern can be slow, or take memory, that is quick within lines: a quarter of the time is for
        # the short cut.
        with contextlib.suppress(TimeoutError, MemoryError):
            numbers = _touched_lines(compiled(rule, multiline=True), subject.text, subject.left() / 4)
    found = compiled(rule).search
    return [number for number in numbers if found(subject.lines[number], timeout=subject.left())]


def _needs(rule: Rule) -> tuple[str, ...]:
    ready = READY.get(rule.name)
    return ready.needs if ready and ready.pattern == rule.pattern else ()


def _lines_with(word: str, text: str) -> Iterator[int]:
    """The lines that hold a word."""
    number = start = 0
    while (place := text.find(word, start)) >= 0:
        number += text.count("\n", start, place)
        yield number
        number, start = number + 1, text.find("\n", place) + 1 or len(text)


def _touched_lines(pattern: Any, text: str, seconds: float) -> list[int]:
    """The lines that matches in the whole text touch, ten times as fast as line by line where there are few.

    A plain pattern that matches in a line by itself can match at the same place of the whole text, with ^ and $ at
    every line. A search meets it there, unless it met before one that reaches into that line: it is touched either way.
    """
    numbers: list[int] = []
    number = start = 0  # the line from which on is searched, and where it begins
    end = time.process_time() + seconds
    while start <= len(text) and (match := pattern.search(text, start, timeout=max(end - time.process_time(), 0))):
        first = number + text.count("\n", start, match.start())
        number = first + text.count("\n", match.start(), match.end()) + 1
        numbers += range(first, number)
        start = text.find("\n", match.end()) + 1 or len(text) + 1
    return numbers
