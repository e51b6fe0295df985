"""Names and patterns that choose modules or parameters of a model. No torch here.

A pattern stands for a whole dotted path or for its end: `q_proj` is every `….q_proj`, `mlp.*` whatever is directly or
further below an `mlp`. `*`, `?` and `[0-3]` are those of a shell; `*` also passes dots.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from tilth.core.errors import RecipeError


def matches(path: str, pattern: str) -> bool:
    """Whether `pattern` stands for `path` or for its end."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*.{pattern}")


def select(paths: Iterable[str], patterns: Sequence[str], key: str, what: str) -> list[str]:
    """The paths that a pattern stands for, in their own order; RecipeError for a pattern that stands for none.

    Args:
        key: of the recipe, for the message. what: how the message calls what there is to choose from.
    """
    there = list(paths)
    for pattern in patterns:
        if not any(matches(path, pattern) for path in there):
            raise RecipeError(f"{key}: {pattern!r} names none of the model's {what}", _remedy(there, pattern))
    return [path for path in there if any(matches(path, pattern) for pattern in patterns)]


def _remedy(there: list[str], pattern: str) -> str:
    kinds = kinds_of(there)
    close = difflib.get_close_matches(pattern, [*kinds, *(kind.rpartition(".")[2] for kind in kinds)], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}there are {', '.join(kinds) or 'none'}"


def kinds_of(paths: Iterable[str]) -> list[str]:
    """Paths as a reader would name them: those that differ in a number alone become one, from that number on."""
    return list(dict.fromkeys(re.split(r"(?:^|\.)\d+\.", path)[-1] for path in paths))
