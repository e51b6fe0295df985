"""Arguments of the Python API that are one of a few words; of a command they are options, and checked as such.

check_choice("which", which, Which)
"""

from __future__ import annotations

import difflib
from typing import Any, Literal, get_args, get_origin

from tilth.core.errors import RecipeError
from tilth.core.faults import short

_CALLED = {int: "a number"}


def check_choice(name: str, value: object, kind: Any) -> None:
    """RecipeError, naming what there is, where an argument is none of what its type allows.

    Args:
        kind: a Literal of texts, or a union of one with plain types (`int`, None).
    """
    members = (kind,) if get_origin(kind) is Literal else get_args(kind)
    words = [word for member in members if get_origin(member) is Literal for word in get_args(member)]
    others = tuple(member for member in members if isinstance(member, type))
    if value in words if isinstance(value, str) else isinstance(value, others) and not isinstance(value, bool):
        return
    close = difflib.get_close_matches(str(value).lower(), words, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    there = [*map(repr, words), *(_CALLED[other] for other in others if other in _CALLED)]
    raise RecipeError(f"{name} {short(value)} is not known", f"{meant}one of: {', '.join(there)}")
