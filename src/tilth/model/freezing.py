"""Which parameters train: freezing by names and patterns."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from tilth.core.errors import RecipeError
from tilth.model.patterns import kinds_of, matches


def freeze(model: nn.Module, patterns: Sequence[str]) -> int:
    """Takes the gradient from what the patterns name, modules with all below them or parameters; returns how many
    numbers that are.

    RecipeError for a pattern that names nothing, and when nothing would be left to train.
    """
    parameters = dict(model.named_parameters())
    chosen = {name for pattern in patterns for name in _named(list(parameters), pattern)}
    if all(name in chosen or not parameter.requires_grad for name, parameter in parameters.items()):
        raise RecipeError(f"train.freeze {list(patterns)} leaves nothing to train", "freeze less")
    for name in chosen:
        parameters[name].requires_grad_(False)
    return sum(parameters[name].numel() for name in chosen)


def _named(names: list[str], pattern: str) -> list[str]:
    found = [name for name in names if any(matches(path, pattern) for path in _with_parents(name))]
    if not found:
        modules = dict.fromkeys(path for name in names for path in _with_parents(name)[:-1])
        raise RecipeError(
            f"train.freeze: {pattern!r} names no module and no parameter of the model",
            f"there are {', '.join(kinds_of(modules))}",
        )
    return found


def _with_parents(name: str) -> list[str]:
    """`a`, `a.b`, `a.b.c` of `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
