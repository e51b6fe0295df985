"""Checkpoints that take more than is free on the disk: told before anything is trained, as much as they really take."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tilth
from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL
from tilth.core.errors import RecipeError
from tilth.jobs.preflight import Preflight, before_training, look
from tilth.jobs.prepare import prepare_data
from tilth.jobs.recipe import Recipe, make_recipe

pytestmark = pytest.mark.slow


class Usage(NamedTuple):
    """As shutil has it."""

    total: int
    used: int
    free: int


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the soil and the seed under deep green rain\n" * 200)
    model = {"preset": "llama-tiny", "num_hidden_layers": 2, "hidden_size": 128, "context_length": 32}
    data = {"sources": [{"path": "text.txt"}], "clean": "none", "deduplicate": "none", "split": {"validation": 0.2}}
    train = {"steps": 2, "batch_tokens": 64, "precision": "fp32"}
    train["checkpoint"] = {"every_steps": 1, "keep": 1, "best": False}
    return make_recipe({"name": "full", "data": data, "tokenizer": {"kind": "byte"}, "model": model, "train": train})


def free(monkeypatch: pytest.MonkeyPatch, count: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, int(count)))


def looked(recipe: Recipe, run: Path | None = None) -> Preflight:
    return look(recipe, prepare_data(recipe, Path("work"), workers=1), run=run)


def of_disk(found: Preflight) -> tuple[list[Any], list[Any]]:
    return [f for f in found.errors if f.rule == "disk"], [f for f in found.warnings if f.rule == "disk"]


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def test_it_is_told_by_what_checkpoints_really_take(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    tilth.train(recipe, "run", "work", workers=1)
    (checkpoint,) = Path("run/checkpoints").iterdir()
    one, weights = written(checkpoint), written(Path("run/final"))
    most = 2 * one + weights
    for there, expected in ((1.1 * most, (0, 0)), (0.9 * most, (0, 1)), (0.9 * one, (1, 0))):
        free(monkeypatch, there)
        errors, warnings = of_disk(looked(recipe))
        assert (len(errors), len(warnings)) == expected, there
    assert re.search(r"a checkpoint takes \d+ MB, 2 of them and final/ \d+ MB, and the disk of /", errors[0].message)


def test_training_does_not_begin_where_none_would_fit(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = prepare_data(recipe, Path("work"), workers=1)
    free(monkeypatch, 100_000)
    with pytest.raises(RecipeError, match=r"and the disk of .* has 1 MB free") as refused:
        before_training(recipe, dataset, None, Path("run"))
    assert "another disk" in refused.value.remedy and not Path("run").exists()
    free(monkeypatch, 8e6)
    (told,) = [note for note in before_training(recipe, dataset, None, Path("run")) if "the disk of" in note]
    assert "make room" in told


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ({"every_steps": 500, "best": False}, 1),  # by the clock none is written in a run of a second
        ({"every_steps": 500, "best": False, "every_minutes": None}, 1),
        ({"every_steps": 3, "best": False}, 2),
        ({"every_steps": 3, "best": True}, 3),
        ({"every_steps": 2, "best": True}, 2),
        ({"every_steps": 1, "best": False}, 3),
    ],
)
def test_a_short_run_is_judged_by_the_checkpoints_that_it_writes(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, checkpoint: dict[str, Any], expected: int
) -> None:
    plain = {**recipe.plain(), "evaluate": {"every": 2}}
    kept, all_kept = (
        make_recipe({**plain, "train": {**plain["train"], "steps": 4, "checkpoint": {**checkpoint, "keep": keep}}})
        for keep in (2, 9)
    )
    tilth.train(all_kept, "run", "work", workers=1)
    lying = list(Path("run/checkpoints").glob("step-*"))
    assert min(len(lying), 3 + checkpoint["best"]) == expected
    free(monkeypatch, 1.1 * written(lying[0]))
    (told,) = of_disk(looked(kept))[1]
    assert ("it and final/" if expected == 1 else f"{expected} of them and final/") in told.message
    assert ("best: false" in told.remedy) == (expected > 2), "where it takes less"


def test_what_final_needs_is_kept_by_the_remedy(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = recipe.plain()
    kept: dict[str, Any] = {"every_steps": 1, "keep": 3}
    train = {**plain["train"], "steps": 9, "final": "best", "checkpoint": kept}
    free(monkeypatch, 8e6)
    (told,) = of_disk(looked(make_recipe({**plain, "train": train})))[1]
    assert "5 of them and final/" in told.message and "train.checkpoint: {keep: 1} takes" in told.remedy
    takes = told.remedy.rpartition("takes ")[2]
    again = make_recipe({**plain, "train": {**train, "checkpoint": {**kept, "keep": 1}}})
    (told,) = of_disk(looked(again))[1]
    assert f"3 of them and final/ {takes}," in told.message and "train.checkpoint" not in told.remedy


def test_check_looks_at_the_disk_of_the_run_that_is_meant(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at that of one that has begun, which training would not refuse either."""
    free(monkeypatch, 10_000)
    assert "error disk" not in cli("check", "r.yaml", sets=SMALL).out
    assert cli("train", "r.yaml", sets=SMALL).code == 0
    words = ("check", "r.yaml", "--run", trained / "elsewhere" / "run")
    said = cli(*words, sets=SMALL)
    assert said.code == 2 and "error disk" in said.out and f"the disk of {trained} has" in " ".join(said.out.split())
    free(monkeypatch, 1e12)
    assert cli(*words, sets=SMALL).code == 0 and not (trained / "elsewhere").exists()
