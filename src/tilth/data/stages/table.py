"""The table of all stages, the presets, and how a recipe's `clean:` is checked.

    clean: none | standard | web | a list of stages, each `name` or `name: {option: value}`

A new stage is a `Kind` in the table of its module, which is joined to `STAGES` here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tilth.core.config import Config, parse
from tilth.core.environment import installed_version
from tilth.core.errors import RecipeError
from tilth.data.stages.base import Kind
from tilth.data.stages.cut import CUT_STAGES
from tilth.data.stages.filters import FILTER_STAGES
from tilth.data.stages.language import LANGUAGE_STAGES
from tilth.data.stages.pii import PII_STAGES
from tilth.data.stages.repair import REPAIR_STAGES
from tilth.data.stages.repeats import REPEAT_STAGES
from tilth.data.stages.rules import RULE_STAGES
from tilth.data.stages.spelling import SPELLING_STAGES
from tilth.data.stages.text import TEXT_STAGES

STAGES: dict[str, Kind] = {
    **REPAIR_STAGES,
    **TEXT_STAGES,
    **REPEAT_STAGES,
    **RULE_STAGES,
    **SPELLING_STAGES,
    **LANGUAGE_STAGES,
    **FILTER_STAGES,
    **PII_STAGES,
    **CUT_STAGES,
}
_TEXT = tuple(name for name in TEXT_STAGES if name != "min_length")
PRESETS: dict[str, tuple[str | dict[str, dict[str, Any]], ...]] = {
    "none": (),
    "standard": tuple(TEXT_STAGES),
    # For English pages: FineWeb's own filters (Penedo et al. 2024), but where by eye they took what is good, see
    # docs/judged.md. `repair` comes first: what it mends looks like control characters. `gopher_quality` stands before
    # `gopher_repetition`, which leaves the same documents and names the reason of the very short ones.
    "web": (
        "repair",
        *_TEXT,
        {"language": {"keep": ["en"], "min_score": 0.65, "unsure": "drop"}},
        {
            "gopher_quality": {"min_alphabetic_words": 0.7}
        },  # marks are among the tokens: of prose 2 to 10% are below 0.8
        "gopher_repetition",
        # Nothing about how a line ends, as in FineWeb, nor about how short it is: that takes headings and speakers.
        # Three sentences, as C4's own code has it: with five, half of short articles go. Paragraphs stay paragraphs. A
        # bracket meant a script, which extraction leaves out; it takes prose that shows code.
        # Of `[1]` what is a citation, and no index; of Javascript what asks a visitor to enable it.
        {
            "c4": {
                "ends": None,
                "min_line_words": 0,
                "min_sentences": 3,
                "margins": False,
                "curly_bracket": False,
                "citations": "prose",
                "javascript": "warnings",
            }
        },
        {"fineweb": {"max_duplicate_characters": 0.1}},  # the paper's; the code's 0.01 takes every dialogue
        "pii",
        "min_length",
    ),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage with its options."""

    name: str
    options: Config

    @property
    def kind(self) -> Kind:
        """What it does."""
        return STAGES[self.name]

    def identity(self) -> list[Any]:
        """What decides its results: name, version, options, and the versions of the libraries that do the work."""
        versions = {library: installed_version(library) for library in self.kind.libraries}
        return [self.name, self.kind.version, self.options.model_dump(mode="json"), versions]


def _checked(value: Any) -> Any:
    """A preset's name as it is; a list with every stage and option checked and written out."""
    if isinstance(value, str):
        if value not in PRESETS:
            hint = _nearest(value, PRESETS)
            raise ValueError(f"no preset is called {value!r} | {hint} or write a list of stages: {', '.join(STAGES)}")
        return value
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{value!r} is neither a preset nor a list | write {', '.join(PRESETS)}, or a list of stages")
    return tuple(checked for n, entry in enumerate(value, 1) for checked in _checked_entry(entry, n))


def _checked_entry(entry: Any, position: int) -> list[dict[str, dict[str, Any]]]:
    """One entry written out; the name of a preset stands for all its stages."""
    if isinstance(entry, str):
        if entry in PRESETS:
            return [checked for name in PRESETS[entry] for checked in _checked_entry(name, position)]
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
        parsed = parse(STAGES[name].options, options or {}, f"stage {position} ({name})")
    except RecipeError as error:
        raise ValueError(f"{error.message} | {error.remedy}") from None
    return [{name: parsed.model_dump(mode="json")}]


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"


def _json_schema() -> dict[str, Any]:
    """For editors and forms: the presets, or a list of stages with their options."""
    options = {name: _inlined(kind.options.model_json_schema()) for name, kind in STAGES.items()}
    one: dict[str, Any] = {"type": "object", "properties": options, "additionalProperties": False}
    one |= {"minProperties": 1, "maxProperties": 1}
    names = {"enum": [*PRESETS, *STAGES]}
    return {"anyOf": [{"enum": list(PRESETS)}, {"type": "array", "items": {"anyOf": [names, one]}}]}


def _entry(entry: str | dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry: {}} if isinstance(entry, str) else entry


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with what it refers to written in its place: inside another schema its `$defs` would not be found."""
    definitions = schema.get("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(item) for item in node]
        if not isinstance(node, dict):
            return node
        if isinstance(reference := node.get("$ref"), str):
            return inline(definitions[reference.rpartition("/")[2]])
        return {key: inline(value) for key, value in node.items() if key != "$defs"}

    inlined: dict[str, Any] = inline(schema)
    return inlined


class _Schema:
    """Makes the schema when somebody asks for it: it takes longer than all else that this module does."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _json_schema()


CleanStages = Annotated[
    Literal["none", "standard", "web"] | tuple[dict[str, dict[str, Any]], ...],
    BeforeValidator(_checked),
    _Schema(),
]
"""The type of a recipe's `clean:`; its value: a preset's name, or `{name: options}` for each stage, all written out."""


def build_stages(value: str | Iterable[dict[str, dict[str, Any]]]) -> tuple[Stage, ...]:
    """The stages that a checked `CleanStages` value means, in order."""
    entries = [_entry(entry) for entry in PRESETS[value]] if isinstance(value, str) else value
    return tuple(
        Stage(name, parse(STAGES[name].options, options)) for entry in entries for name, options in entry.items()
    )
