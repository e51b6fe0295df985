"""Whether what an adapter_config.json says of ranks and places is what its tensors have.

    check_ranks(config, ranks)              r and rank_pattern, by which PEFT makes the matrices and their scaling
    check_targets(config, base, found)      target_modules: PEFT passes over tensors at what it does not name

Of what `target_modules` names too much only that is a fault which the base has and the adapter has nothing at: lists
for several architectures are usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import regex  # type: ignore[import-untyped]

from tilth.checkpoint.peft_config import PATIENCE, WEIGHTS, PeftConfig
from tilth.core.errors import CheckpointError

_REMEDY = "get the folder again as it was saved: its two files do not belong together"


def check_ranks(config: PeftConfig, ranks: Mapping[str, int]) -> None:
    """Ranks of the tensors, by their module."""
    for path, rank in ranks.items():
        said = config.rank_of(path)
        if rank != said:
            key = "r" if said == config.rank else "rank_pattern"
            raise CheckpointError(
                f"{config.place}: {key} says rank {said} for {path}, whose lora_A in {WEIGHTS} has rank {rank}", _REMEDY
            )


def check_targets(config: PeftConfig, base: Iterable[str], found: Set[str], whole: Iterable[str]) -> None:
    """Linear modules of the base, those that the adapter has tensors at, and what it holds whole."""
    if config.targets is None or config.targets == "all-linear":
        return
    outside = next((path for path in found if not _named(config, path)), None)
    if outside is not None:
        raise CheckpointError(
            f"{config.place}: target_modules does not name {outside}, which {WEIGHTS} has tensors at", _REMEDY
        )
    if isinstance(config.targets, str) or config.narrowed:
        return
    there = {name for path in (*found, *whole) for name in _ends(path)}
    for path in base:
        for name in _ends(path):
            if name in config.targets and name not in there:
                raise CheckpointError(
                    f"{config.place}: target_modules names {name}, at which {WEIGHTS} has no tensors", _REMEDY
                )


def _named(config: PeftConfig, path: str) -> bool:
    if not isinstance(config.targets, str):
        return any(name in (config.targets or ()) for name in _ends(path))
    try:
        return regex.fullmatch(config.targets, path, timeout=PATIENCE) is not None
    except (regex.error, TimeoutError) as error:
        raise CheckpointError(f"{config.place}: target_modules cannot be used: {error}", _REMEDY) from None


def _ends(path: str) -> list[str]:
    """A path and what it ends with, part by part."""
    parts = path.split(".")
    return [".".join(parts[first:]) for first in range(len(parts))]
