"""The ablation: its recipes are valid, it goes on where it ended, and its table says what its runs were."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks import ablation

import tilth


@pytest.mark.parametrize("name", ablation.CHANGES)
def test_every_change_is_a_recipe_that_differs_where_it_says(name: str) -> None:
    plain, other = (tilth.make_recipe(ablation.recipe(which, "a.txt", 10, 1)).plain() for which in ("modern", name))
    _, model, train = ablation.CHANGES[name]
    sections = [section for section in plain if plain[section] != other[section]]
    assert sections == ["model"] * bool(model) + ["train"] * bool(train)


def test_the_table_is_of_the_runs() -> None:
    losses = {"modern": (1.5, 1.7), "gelu": (1.9, 2.1)}
    rows = [{"change": name, "loss": loss} for name, found in losses.items() for loss in found]
    first, second = ablation.table(rows).splitlines()[2:]
    assert first == "| as the preset is | 1.6000 | 1.5000 to 1.7000 | 2 |  |"
    assert second == "| `activation: gelu` for relu2 | 2.0000 | 1.9000 to 2.1000 | 2 | +0.4000 |"
    assert "unknown" in ablation.table(rows[2:]), "nothing to compare with"


@pytest.mark.slow
def test_runs_that_are_written_down_are_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("the tilth of the field, " * 400)
    out = tmp_path / "runs.jsonl"
    words = ["ablation", "--text", str(tmp_path / "text.txt"), "--steps", "2", "--out", str(out), "--only"]
    for names, done in ((["modern"], 1), (["modern", "gelu"], 1)):
        monkeypatch.setattr(sys, "argv", [*words, *names, "--seeds", "5"])
        ablation.main()
        said = capsys.readouterr().out
        assert said.count(", seed 5: ") == done
    assert "as the preset is" in said and "`activation: gelu`" in said
    assert [json.loads(line)["change"] for line in out.read_text().splitlines()] == ["modern", "gelu"]
