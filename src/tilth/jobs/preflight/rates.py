"""Whether the peak learning rate is one that anybody uses.

    impossible_rate     an error: no run can be right
    high_rate           a warning: far above what is used for such a run

AdamW moves each number by about the rate at every step, whatever the gradient is (Kingma and Ba 2015, section 2.1), so
its rate has a scale of its own; Muon leaves embeddings and vectors to it at the same rate. Steps of `sgd` and `gd` are
as long as their gradients: nothing is said of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilth.jobs.preflight.facts import Facts
from tilth.jobs.preflight.fault import Fault

IMPOSSIBLE = 1.0
"""A step as long as that puts a number of its own in the place of each weight; those of a model are below 1."""


@dataclass(frozen=True, slots=True)
class _Usage:
    """What one kind of run is trained at: `low` to `high` in papers and in the recipes here, `most` far above it."""

    what: str
    low: float
    high: float
    most: float


_ADAPTER = _Usage("adapters are trained", 1e-4, 5e-3, 5e-2)
_TUNED = _Usage("weights that are trained already are trained on", 1e-5, 5e-4, 1e-2)
_NEW = _Usage("models are trained from nothing", 1e-4, 1e-2, 0.1)
_MUON = _Usage("muon trains", 1e-3, 2e-2, 0.1)


def impossible_rate(facts: Facts) -> Iterator[Fault]:
    """Of an optimizer whose steps are as long as its rate."""
    usage, rate = _usage(facts), facts.recipe.train.optimizer.lr
    if usage is not None and rate >= IMPOSSIBLE:
        yield Fault(
            "rate",
            f"train.optimizer.lr is {rate:g}, and at every step {facts.recipe.train.optimizer.name} changes numbers of "
            f"the model by about as much, most of which are below 1: it would learn nothing; {_used(usage)}",
            f"train.optimizer.lr: {usage.high:g} or less",
        )


def high_rate(facts: Facts) -> Iterator[Fault]:
    """By what is trained, and from what."""
    usage, rate = _usage(facts), facts.recipe.train.optimizer.lr
    if usage is not None and usage.most < rate < IMPOSSIBLE:
        yield Fault(
            "rate",
            f"train.optimizer.lr is {rate:g}, far above what is used: {_used(usage)}",
            f"train.optimizer.lr: {usage.high:g} or less",
        )


def _usage(facts: Facts) -> _Usage | None:
    recipe = facts.recipe
    if recipe.train.optimizer.name not in ("adamw", "muon"):
        return None
    if recipe.adapter is not None:
        return _ADAPTER
    if recipe.train.optimizer.name == "muon":
        return _MUON
    return _NEW if facts.vocabulary.checkpoint is None else _TUNED


def _used(usage: _Usage) -> str:
    return f"{usage.what} at {usage.low:g} to {usage.high:g}"
