"""Cleaning: small pure stages over the text of a document, each of which says what it did.

    clean: none | standard | a list of stages, each `name` or `name: {option: value}`

    newlines         CR LF, CR, and the other line ends that Unicode knows become \\n
    controls         control characters other than \\n and \\t, byte order marks, noncharacters: removed
    unicode          one normalisation form (NFC)
    trailing_space   white space at the end of lines: removed
    blank_lines      runs of more than two: cut down to two
    strip            blank lines at the beginning and at the end of the document: removed
    min_length       shorter documents: dropped

`standard` is these, in this order: removing a control character can bring a letter and its accent together, so
`unicode` follows `controls`; lines are trimmed before blank ones are counted. Cleaning what is clean changes nothing,
and says nothing. No stage touches the indentation of a line: Python source stays the program it was.

A stage is a function (text, options) -> `Result` in the table `STAGES`, with a `Config` for its options; a new one is
added there.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema

from tilth.core.config import Config, parse
from tilth.core.errors import RecipeError
from tilth.data.document import Document, Outcome, Verdict


class Result(NamedTuple):
    """What a stage made of a text: the text (None: drop the document), and of what size the change was."""

    text: str | None
    value: int = 0
    rule: str = ""
    """The rule of the verdict, for a stage that has several; its own name otherwise."""


class NoOptions(Config):
    """For a stage that has nothing to set."""


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


STAGES: dict[str, tuple[type[Config], Callable[[str, Any], Result]]] = {
    "newlines": (NoOptions, newlines),
    "controls": (NoOptions, controls),
    "unicode": (UnicodeOptions, normalise),
    "trailing_space": (NoOptions, trailing_space),
    "blank_lines": (BlankLinesOptions, blank_lines),
    "strip": (NoOptions, strip),
    "min_length": (MinLengthOptions, min_length),
}
PRESETS: dict[str, tuple[str, ...]] = {"none": (), "standard": tuple(STAGES)}


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage with its options."""

    name: str
    options: Config

    def run(self, text: str) -> Result:
        """What the stage makes of a text."""
        return STAGES[self.name][1](text, self.options)


def _checked(value: Any) -> Any:
    """A preset's name as it is; a list with every stage and option checked and written out."""
    if isinstance(value, str):
        if value not in PRESETS:
            hint = _nearest(value, PRESETS)
            raise ValueError(f"no preset is called {value!r} | {hint} or write a list of stages: {', '.join(STAGES)}")
        return value
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{value!r} is neither a preset nor a list | write standard, none, or a list of stages")
    return tuple(_checked_entry(entry, position) for position, entry in enumerate(value, 1))


def _checked_entry(entry: Any, position: int) -> dict[str, dict[str, Any]]:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(
            f"stage {position}: {entry!r} is not one stage | write `- name` or `- name: {{option: value}}`"
        )
    ((name, options),) = entry.items()
    if name not in STAGES:
        raise ValueError(f"stage {position}: no stage is called {name!r} | {_nearest(str(name), STAGES)}")
    if options is not None and not isinstance(options, dict):
        raise ValueError(f"stage {position} ({name}): {options!r} is not a mapping | write {{option: value}}")
    try:
        parsed = parse(STAGES[name][0], options or {}, f"stage {position} ({name})")
    except RecipeError as error:
        raise ValueError(f"{error.message} | {error.remedy}") from None
    return {name: parsed.model_dump(mode="json")}


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"


def _json_schema() -> dict[str, Any]:
    """For editors and forms: the presets, or a list of stages with their options."""
    options = {name: config.model_json_schema() for name, (config, _) in STAGES.items()}
    one: dict[str, Any] = {"type": "object", "properties": options, "additionalProperties": False}
    one |= {"minProperties": 1, "maxProperties": 1}
    return {"anyOf": [{"enum": list(PRESETS)}, {"type": "array", "items": {"anyOf": [{"enum": list(STAGES)}, one]}}]}


CleanStages = Annotated[
    Literal["none", "standard"] | tuple[dict[str, dict[str, Any]], ...],
    BeforeValidator(_checked),
    WithJsonSchema(_json_schema()),
]
"""The type of a recipe's `clean:`; its value: a preset's name, or `{name: options}` for each stage, all written out."""


def build_stages(value: str | Iterable[dict[str, dict[str, Any]]]) -> tuple[Stage, ...]:
    """The stages that a checked `CleanStages` value means, in order."""
    entries = [{name: {}} for name in PRESETS[value]] if isinstance(value, str) else value
    return tuple(Stage(name, parse(STAGES[name][0], options)) for entry in entries for name, options in entry.items())


def clean(document: Document, stages: Iterable[Stage]) -> Outcome:
    """The document after all stages, with one verdict (stage `clean`) for each that changed or dropped it."""
    text, verdicts = document.text, []
    for stage in stages:
        result = stage.run(text)
        rule, value = result.rule or stage.name, str(result.value)
        if not result.text:  # a stage may also leave nothing over, and nothing is no document
            verdicts.append(Verdict(document.doc_id, "clean", rule, "dropped", value, document.locator))
            return Outcome(None, tuple(verdicts))
        if result.text != text:
            verdicts.append(Verdict(document.doc_id, "clean", rule, "changed", value, document.locator))
        text = result.text
    return Outcome(replace(document, text=text) if verdicts else document, tuple(verdicts))
