"""What reading says of a text: `Note`, and the repair of lone surrogates that goes with one."""

from __future__ import annotations

import re
from typing import NamedTuple

_SURROGATE = re.compile("[\ud800-\udfff]")


class Note(NamedTuple):
    """One thing that reading changed: the rule, how much of it, and where."""

    rule: str
    value: str = ""
    detail: str = ""


def without_surrogates(text: str, locator: str) -> tuple[str, list[Note]]:
    """Text without lone surrogates, which JSON can spell (`\\ud800`) and no encoding can write."""
    if text.isascii():  # which is known without looking
        return text, []
    text, count = _SURROGATE.subn("\ufffd", text)
    return text, [Note("surrogate", str(count), f"{locator}: lone surrogates became U+FFFD")] if count else []
