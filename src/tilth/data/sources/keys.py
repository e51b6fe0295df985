"""A key of a row, or a place behind several, and the text that stands there.

    value_at(row, name) -> Any            `author.name`: what stands at `name` in what stands at `author`; or `MISSING`
    text_of(value) -> str | None          a text, or several in a list, one behind the other; nothing at all is ""
    rows_in(row) -> str | None            where in an object a list of objects stands: its rows, most likely

A key that is there with its dot comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING: Any = object()


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """What stands at a key, or behind several with dots between them; None where one on the way holds nothing."""
    if name in row:
        return row[name]
    head, dot, rest = name.partition(".")
    if not dot or head not in row:
        return MISSING
    inner = row[head]
    return None if inner is None else value_at(inner, rest) if isinstance(inner, Mapping) else MISSING


def text_of(value: Any) -> str | None:
    """A text; of a list of texts, or of objects with their `text`, all of them joined; None where it is none.

    Telegram (`["see ", {"type": "link", "text": …}]`), chat APIs (`[{"type": "text", "text": …}]`) and notebooks
    (`source`, its lines with their ends) write one text so.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else None


def rows_in(row: Mapping[str, Any], depth: int = 1) -> str | None:
    """The place of the longest list of objects in an object, else in one within it, as `records:` names it."""
    named = {key: value for key, value in row.items() if "." not in key}
    lists = {key: len(value) for key, value in named.items() if isinstance(value, list) and value}
    lists = {key: n for key, n in lists.items() if all(isinstance(one, dict) for one in named[key])}
    if lists or not depth:
        return max(lists, key=lambda key: lists[key], default=None)
    inner = ((key, rows_in(value, depth - 1)) for key, value in named.items() if isinstance(value, dict))
    return next((f"{key}.{place}" for key, place in inner if place), None)
