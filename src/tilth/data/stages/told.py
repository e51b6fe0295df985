"""What a rule of `clean:` that dropped documents is called in a recipe, with its limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tilth.data.stages.table import Stage

_FEW = 2  # options: a stage of more is named alone


def limits(rules: Iterable[str], stages: Sequence[Stage]) -> list[str]:
    """`min_length (characters: 16)` for each rule of the ledger (`clean/min_length`) that is of these stages."""
    found = (_limit(rule.split("/")[1:], stage) for rule in rules for stage in stages if _is_of(rule, stage))
    return list(dict.fromkeys(found))


def _is_of(rule: str, stage: Stage) -> bool:
    return rule.split("/")[:2] == ["clean", stage.name]


def _limit(path: Sequence[str], stage: Stage) -> str:
    """With the numbers of the stage, where they are few."""
    numbers = {
        name: value
        for name, value in stage.options.model_dump().items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    said = ", ".join(f"{name}: {value:g}" for name, value in numbers.items())
    return "/".join(path) + (f" ({said})" if 0 < len(numbers) <= _FEW else "")
