"""A key of a row, or a place behind several, and the text that stands there.

    value_at(row, name) -> Any            `author.name`: what stands at `name` in what stands at `author`; or `MISSING`
    text_of(value) -> str | None          a text, or one in parts, joined; nothing at all is ""
    unfit(value) -> str                   what stands there instead of a text, in words
    rows_in(row) -> str | None            where in an object a list of objects stands: its rows, most likely

A key that is there with its dot comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING: Any = object()
MESSAGES, TEXTS = "messages", "several texts"


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """What stands at a key, or behind several with dots between them; None where one on the way holds nothing."""
    if name in row:
        return row[name]
    keys, found = name.split("."), MISSING
    for n in range(len(keys) - 1, 0, -1):
        inner = row.get(".".join(keys[:n]), MISSING)
        if isinstance(inner, Mapping):
            value = value_at(inner, ".".join(keys[n:]))
            if value is not MISSING:
                return value
        elif inner is None:
            found = None
    return found


def text_of(value: Any) -> str | None:
    """A text, or one in parts, joined; None where it is none.

    Of parts are lists with objects that have a `text` (Telegram: `["see ", {"type": "link", "text": …}]`; chat APIs),
    and lists of lines with their ends (`source` of notebooks). Other lists of texts may be alternatives, or paragraphs.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list) or _are_messages(value):
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    in_parts = any(isinstance(part, dict) for part in value) or all(text.endswith("\n") for text in texts[:-1])
    return "".join(texts) if len(texts) == len(parts) and in_parts else None


def unfit(value: Any) -> str:
    """What stands where a text should, in words: "messages", "several texts", or the kind of the value."""
    if _are_messages(value):
        return MESSAGES
    several = isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) for one in value)
    return TEXTS if several else type(value).__name__


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) and "role" in one for one in value)


def rows_in(row: Mapping[str, Any], depth: int = 1) -> str | None:
    """The place of the list of objects with most text in an object, else in one within it, as `records:` names it."""
    named = {key: value for key, value in row.items() if "." not in key}
    lists = {key: value for key, value in named.items() if isinstance(value, list) and value}
    lists = {key: value for key, value in lists.items() if all(isinstance(one, dict) for one in value)}
    if lists or not depth:
        return max(lists, key=lambda key: (text_within(lists[key]), len(lists[key])), default=None)
    inner = ((key, rows_in(value, depth - 1)) for key, value in named.items() if isinstance(value, dict))
    return next((f"{key}.{place}" for key, place in inner if place), None)


def text_within(value: Any) -> int:
    """Characters of all texts in a value, however deep: deeper than Python calls itself, where its parser goes on."""
    left, characters = [value], 0
    while left:
        one = left.pop()
        if isinstance(one, str):
            characters += len(one)
        elif isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            left += one.values()
    return characters
