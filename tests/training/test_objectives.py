"""Objectives: one table of traits, which all code asks; names stand there alone, and in what is said to people."""

from __future__ import annotations

import ast
from typing import get_args

import pytest

from tests.test_layers import modules, parsed
from tilth.core.errors import CheckpointError
from tilth.jobs.runs import traits_of
from tilth.training.config import OBJECTIVES, Objective, ObjectiveTraits, TrainConfig, objectives_of


def named(sources: dict[str, str]) -> list[str]:
    """Where the name of an objective stands as it is, and not in the midst of a text."""
    return [
        f"{name}:{node.lineno} {node.value}"
        for name, source in sources.items()
        if any(objective in source for objective in OBJECTIVES)  # parsing all would take seconds
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Constant) and node.value in OBJECTIVES
    ]


def test_code_asks_for_traits_and_not_for_names() -> None:
    found = modules()
    assert len(named({"training.config": found.pop("training.config")})) >= 2 * len(OBJECTIVES)
    assert named(found) == [], "ask `recipe.train.traits`, or give `ObjectiveTraits` another field"


@pytest.mark.parametrize(
    ("planted", "count"),
    [
        ('masked = recipe.train.objective == "masked_lm"', 1),
        ('if habits.get("objective", "causal_lm") != "sft": pass', 2),
        ('"set train.objective: sft, or remove it"', 0),
        ("packs = recipe.train.traits.conversations", 0),
    ],
)
def test_a_planted_name_is_found(planted: str, count: int) -> None:
    assert len(named({"jobs.planted": planted})) == count


def test_every_objective_has_traits_of_its_own() -> None:
    assert list(OBJECTIVES) == list(get_args(Objective))
    assert len(set(OBJECTIVES.values())) == len(OBJECTIVES)
    for name, traits in OBJECTIVES.items():
        assert TrainConfig(objective=name, steps=1).traits is traits
        assert (traits.ahead == 0) == traits.looks_both_ways, "data/batches/batch.py: Batch.causal follows from `ahead`"
    assert objectives_of(causal=True) == ["causal_lm", "sft"] and objectives_of(causal=False) == ["masked_lm"]


def test_a_model_says_what_it_was_trained_by() -> None:
    assert traits_of({}) == ObjectiveTraits(every_token=True), "text, as those had it that say nothing"
    assert traits_of({"objective": "sft"}).conversations
    with pytest.raises(CheckpointError, match=r"objective 'of-tomorrow'.*has causal_lm, sft, masked_lm") as caught:
        traits_of({"objective": "of-tomorrow"})
    assert "version" in caught.value.remedy
