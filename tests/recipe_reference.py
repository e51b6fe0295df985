"""docs/recipe.md from the schema: every key of a recipe, section by section; `make reference` writes it.

A test holds the page to what this makes, so that no key is missing there and none is invented.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from tilth.jobs.recipe import Recipe

Schema = dict[str, Any]

HEAD = """# Every key of a recipe

Made from the schema by `make reference`; `tilth schema` prints the same for editors. The [README](../README.md) shows a
recipe at a glance, [data.md](data.md) explains `data` and names the stages of `clean`. A default is what a key has
where neither the recipe nor `model.preset` says anything; a key without one must be given.
"""


def reference() -> str:
    """The page."""
    schema = Recipe.model_json_schema()
    sections = [section for place, part in _sections(schema) for section in _section(place, part)]
    return "\n".join([HEAD, *sections]).rstrip() + "\n"


def _sections(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """(dotted place, schema) of each class of keys, the first place where it stands, in the order of the recipe."""
    seen: set[str] = set()

    def walk(place: str, part: Schema) -> Iterator[tuple[str, Schema]]:
        yield place, part
        for key, value in part["properties"].items():
            for suffix, name in _classes(value):
                if name not in seen:
                    seen.add(name)
                    yield from walk(f"{place}.{key}{suffix}".lstrip("."), schema["$defs"][name])

    yield from walk("", schema)


def _classes(value: Any, suffix: str = "") -> Iterator[tuple[str, str]]:
    """The classes that a value's schema leads to, and how they hang on its key: in a list, under names."""
    if isinstance(value, list):
        for item in value:
            yield from _classes(item, suffix)
    elif isinstance(value, dict):
        if "$ref" in value:
            yield suffix, value["$ref"].rpartition("/")[2]
        for key, more in (("anyOf", ""), ("items", "[]"), ("additionalProperties", ".NAME")):
            yield from _classes(value.get(key), suffix + more)


def _section(place: str, part: Schema) -> Iterator[str]:
    yield f"## `{place}`\n" if place else "## The recipe\n"
    if "description" in part:
        yield f"{_flat(part['description'])}\n"
    yield "| key | values | default | |\n|---|---|---|---|"
    for key, value in part["properties"].items():
        default = f"`{_default(value)}`" if "default" in value else ""
        yield f"| `{key}` | {_cell(_values(value))} | {_cell(default)} | {_cell(_flat(value.get('description', '')))} |"
    yield ""


def _values(value: Schema) -> str:
    """What may stand at a key, in words."""
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_values(option) for option in value["anyOf"]))
    if "$ref" in value:
        return "keys and values"
    if "enum" in value or "const" in value:
        names = value.get("enum", [value.get("const")])
        return " ".join(f"`{name}`" for name in names) if len(names) <= 20 else "a name (see data.md)"
    kind = value.get("type")
    if kind == "array":
        return f"a list of {_values(value.get('items', {}))}"
    limits = [f"{sign} {value[name]:g}" for name, sign in _LIMITS.items() if name in value]
    return ", ".join([_WORDS.get(str(kind), "any value"), *limits])


_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_WORDS = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "keys and values",
}


def _default(value: Schema) -> str:
    """As YAML has it; a section's own defaults stand in its own table."""
    default = value["default"]
    return "{…}" if isinstance(default, dict) and default else json.dumps(default, ensure_ascii=False)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
