"""Stages by a user's own regular expressions.

    drop_lines       lines that match are removed
    drop_spans       what matches is removed
    replace          what matches is replaced
    drop_documents   documents that match often enough are dropped

Each takes `rules`: a list of `{name, pattern, flags}`, or names of ready-made rules (ready_rules.py). Verdicts carry
the rule's name and the lines or characters that it removed, the replacements it made, or the figure that dropped the
document.

A document on which the patterns take longer than they may is counted as `<stage>/timeout` (value: the seconds it had)
and left as it came, with `<stage>_timed_out` in its meta, or dropped. That is the one result here that depends on how
fast the machine is; patterns that run in linear time never come near it. The same becomes of one on which they ask for
more memory than the `regex` library gives (about 1 GB: a repeated group takes some for each turn), as `<stage>/memory`
(value: the document's characters), with `<stage>_out_of_memory`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from pydantic import Field, field_validator

from tilth.data.stages.base import Kind, Number, Result, each
from tilth.data.stages.patterns import (
    DocumentRule,
    LineRule,
    Replacement,
    SpanRule,
    Subject,
    TimedOptions,
    check_names,
    compiled,
    matching_lines,
    may_match,
)


class DropLinesOptions(TimedOptions):
    """Options of `drop_lines`."""

    rules: list[LineRule] = Field(min_length=1)
    """Lines that match one of them go; a line counts for the first that it matches."""

    _names = field_validator("rules")(check_names)


class DropSpansOptions(TimedOptions):
    """Options of `drop_spans`."""

    rules: list[SpanRule] = Field(min_length=1)
    """What they match goes, in their order, until none of them matches."""

    _names = field_validator("rules")(check_names)


class ReplaceOptions(TimedOptions):
    """Options of `replace`."""

    rules: list[Replacement] = Field(min_length=1)
    """Applied once, in their order."""

    _names = field_validator("rules")(check_names)


class DropDocumentsOptions(TimedOptions):
    """Options of `drop_documents`."""

    rules: list[DocumentRule] = Field(min_length=1)
    """A document goes by the first of them that it breaks."""

    _names = field_validator("rules")(check_names)


OptionsT = TypeVar("OptionsT", bound=TimedOptions)


def drop_lines(subject: Subject, options: DropLinesOptions) -> Result:
    """Lines that match are removed with their line end; value: how many, by rule."""
    gone: dict[int, str] = {}
    for rule in options.rules:
        for number in matching_lines(rule, subject):
            gone.setdefault(number, rule.name)
    if not gone:
        return Result(subject.text)
    kept = "\n".join(line for number, line in enumerate(subject.lines) if number not in gone)
    counts = Counter(gone.values())
    return _changed(kept, [(rule.name, counts[rule.name]) for rule in options.rules if counts[rule.name]])


def drop_spans(subject: Subject, options: DropSpansOptions) -> Result:
    """What matches is removed, and what matches only then as well; value: the characters removed, by rule."""
    left, before = subject.text, ""
    removed: Counter[str] = Counter()
    rules = [rule for rule in options.rules if may_match(rule, subject)]
    while left != before:
        before = left
        for rule in rules:
            shorter = compiled(rule).sub("", left, timeout=subject.left())
            removed[rule.name] += len(left) - len(shorter)
            left = shorter
    return _changed(left, [(rule.name, removed[rule.name]) for rule in rules if removed[rule.name]])


def replace(subject: Subject, options: ReplaceOptions) -> Result:
    """What matches is replaced, once; value: the replacements, by rule."""
    left, made = subject.text, list[tuple[str, Number]]()
    for rule in options.rules:
        other, count = compiled(rule).subn(rule.replacement, left, timeout=subject.left())
        if other != left:
            made.append((rule.name, count))
        left = other
    return _changed(left, made) if left != subject.text else Result(left)


def drop_documents(subject: Subject, options: DropDocumentsOptions) -> Result:
    """A document with enough matches is dropped; value: how many there are, or the share of its lines."""
    for rule in options.rules:
        if rule.share_of_lines is None:
            count = sum(1 for _ in compiled(rule).finditer(subject.text, timeout=subject.left()))
            if count >= rule.at_least:
                return Result(None, count, rule.name)
        elif (share := _share_of_lines(rule, subject)) >= rule.share_of_lines:
            return Result(None, share, rule.name)
    return Result(subject.text)


def _share_of_lines(rule: DocumentRule, subject: Subject) -> float:
    blank = sum(map(_is_blank, subject.lines))
    matching = sum(not _is_blank(subject.lines[number]) for number in matching_lines(rule, subject))
    return matching / max(len(subject.lines) - blank, 1)


def _is_blank(line: str) -> bool:
    return not line or line.isspace()


def _changed(text: str, made: Iterable[tuple[str, Number]]) -> Result:
    """The first rule's change, and the others' beside it."""
    made = list(made)
    return Result(text, made[0][1], made[0][0], tuple(made[1:])) if made else Result(text)


def _timed(stage: str, function: Callable[[Subject, OptionsT], Result]) -> Callable[[str, OptionsT], Result]:
    """The stage with an end to its patience, and to its memory."""

    def run(text: str, options: OptionsT) -> Result:
        subject = Subject(text, options)
        try:
            return function(subject, options)
        except TimeoutError:
            return _given_up(text, options, f"{stage}/timeout", subject.seconds, f"{stage}_timed_out")
        except MemoryError:
            return _given_up(text, options, f"{stage}/memory", len(text), f"{stage}_out_of_memory")

    return run


def _given_up(text: str, options: TimedOptions, rule: str, value: Number, mark: str) -> Result:
    """A document that patterns got to no end with: kept as it was, with a mark, or dropped."""
    if options.on_timeout == "drop":
        return Result(None, value, rule)
    return Result(text, also=((rule, value),), meta={mark: True})


RULE_STAGES: dict[str, Kind] = {
    "drop_lines": Kind(DropLinesOptions, each(_timed("drop_lines", drop_lines)), libraries=("regex",), over="messages"),
    "drop_spans": Kind(DropSpansOptions, each(_timed("drop_spans", drop_spans)), libraries=("regex",), over="messages"),
    "replace": Kind(ReplaceOptions, each(_timed("replace", replace)), libraries=("regex",), over="messages"),
    "drop_documents": Kind(DropDocumentsOptions, each(_timed("drop_documents", drop_documents)), libraries=("regex",)),
}
