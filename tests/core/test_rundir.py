"""Run folders: records survive kills, and a run only goes on as itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilth.core.errors import CheckpointError, IntegrityError, RecipeError
from tilth.core.rundir import EvaluationRecord, Message, RunFolder, StepRecord


def step(number: int) -> StepRecord:
    return StepRecord(number, number * 10, 2.5, 1.0, 1e-3, 0.1, 0.0, 100.0, None, 1, 0, 0, 9)


def test_records_come_back_and_a_torn_line_does_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for number in range(1, 4):
        run.record(step(number))
    run.record(EvaluationRecord(3, {"loss": 2.0}, 0.5, True))
    run.record(Message(3, "info", "päß"))
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write('{"step": 4, "los')
    assert run.steps() == [step(1), step(2), step(3)]
    assert run.events("evaluation")[0]["metrics"] == {"loss": 2.0}
    run.rewind(2)
    assert [record.step for record in run.steps()] == [1, 2] and not run.events("message")
    run.record(step(3))
    assert [record.step for record in run.steps()] == [1, 2, 3]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"kind": "message", "step": 1}\nnot json\n')
    with pytest.raises(IntegrityError, match=r"events\.jsonl:2"):
        RunFolder(tmp_path).events("message")


def test_only_the_same_recipe_and_data_may_go_on(tmp_path: Path) -> None:
    run, data = RunFolder(tmp_path), {"folder": "d", "fingerprint": "f"}
    recipe = {"train": {"steps": 10, "seed": 1}, "evaluate": {"every": 5}}
    assert run.claim(recipe, data) == []
    other = {"train": {"steps": 10, "seed": 5}, "evaluate": {"every": 5}}
    assert run.claim(other, data) == [], "without a checkpoint nothing depends on the recipe yet"
    assert run.claim(recipe, data) == []
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    longer = {"train": {"steps": 20, "seed": 1}, "evaluate": {"every": 4}}
    assert run.claim(longer, data) == ["evaluate.every: 5 -> 4", "train.steps: 10 -> 20"]
    with pytest.raises(RecipeError, match=r"train\.seed: 1 -> 2"):
        run.claim({"train": {"steps": 20, "seed": 2}, "evaluate": {"every": 4}}, data)
    with pytest.raises(CheckpointError, match="other data"):
        run.claim(longer, {"folder": "e", "fingerprint": "g"})
    assert run.recipe() == longer
