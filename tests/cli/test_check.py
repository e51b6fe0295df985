"""`tilth check`, and what training says at its start, through the real entry point."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.jobs.conftest import Cli, Said, call
from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.cli.check import CHARACTERS, DOCUMENTS, _documents, _lengths, _shortened
from tilth.core.rundir import RunFolder
from tilth.jobs.preflight.sight import Row, Stretch

KEYS = ["ok", "errors", "warnings", "rows", "truncated", "masked", "without_end", "duplicates", "leaks", "forecast"]
FROZEN = "train.early_stopping={metric: bits_per_byte}"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return lambda *words, **options: call(tmp_path, *words, **options)


def sft(folder: Path) -> list[str]:
    """A recipe of pairs, and what makes it one."""
    rows = [{"prompt": f"ask{n} what{n}? ", "completion": f"say{n} that{n}"} for n in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_recipe(folder / "r.yaml", "rows.jsonl")
    sources = "data.sources=[{path: rows.jsonl, map: {prompt: prompt, completion: completion}}]"
    return [*SMALL, sources, "data.clean=none", "train.objective=sft", "model.context_length=64", "evaluate.every=4"]


def said_json(said: Said) -> dict[str, object]:
    found: dict[str, object] = json.loads(said.out.splitlines()[-1])
    return found


@pytest.mark.slow
def test_a_healthy_run_is_shown_and_told_as_json(tmp_path: Path, cli: Cli) -> None:
    sets = sft(tmp_path)
    said = cli("check", "r.yaml", "--json", sets=sets)
    found = said.json()
    assert list(found)[: len(KEYS)] == KEYS and found["ok"] and found["errors"] == []
    assert [warning["rule"] for warning in found["warnings"]] == ["small_validation"]
    assert found["rows"] == found["splits"]["train"]["documents"] and found["forecast"]["steps"] == 12
    assert "nothing is prepared of this recipe yet" in said.err
    assert "row 1 of training: " in said.out and "--- document 1: " in said.out, "borders are seen"
    assert "[[say" in said.out and "]][[<|endoftext|>]]" in said.out, "trained is what is answered, and its end"
    assert "ask" in said.out and "[[ask" not in said.out and "ok: the run can begin" in said.out
    again = cli("check", "r.yaml", "--json", sets=sets)
    assert "prepared before" in again.err and again.out == said.out
    assert not (tmp_path / "runs").exists(), "it trains nothing"


def test_what_must_not_run_ends_with_2_and_training_refuses_it_before_it_makes_a_folder(
    tmp_path: Path, cli: Cli
) -> None:
    sets = [*sft(tmp_path), FROZEN]
    said = cli("check", "r.yaml", "--json", sets=sets)
    found = said_json(said)
    assert said.code == 2 and not found["ok"] and found["errors"][0]["rule"] == "metric"  # type: ignore[index]
    assert set(found["errors"][0]) == {"rule", "message", "remedy"}  # type: ignore[index]
    assert "error metric: " in said.out and "it must not run: 1 error" in said.out
    message = cli("train", "r.yaml", sets=sets).expect_fault(2, "does not have", "train.early_stopping.metric: loss")
    assert str(found["errors"][0]["message"]) in message  # type: ignore[index]
    assert not (tmp_path / "runs").exists()


def test_what_a_part_refuses_is_an_error_of_check_and_keeps_its_own_code_in_training(tmp_path: Path, cli: Cli) -> None:
    sets = [*sft(tmp_path), "model.context_length=16"]
    said = cli("check", "r.yaml", "--json", sets=sets)
    assert said.code == 2 and [error["rule"] for error in said_json(said)["errors"]] == ["too_long"]  # type: ignore[attr-defined]
    assert "unknown  there are no rows to read: see the error below" in said.out and "be counted" not in said.out
    cli("train", "r.yaml", sets=sets).expect_fault(3, "are too long for a row of 16")
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_comes_to_nothing_is_told_as_json_too(tmp_path: Path, cli: Cli) -> None:
    write_recipe(tmp_path / "r.yaml", "not-there.txt")
    for sets, rule in (([*SMALL, "train.stepz=3"], "recipe"), (SMALL, "data")):
        said = cli("check", "r.yaml", "--json", sets=sets)
        said.expect_fault(2)
        found = said_json(said)
        assert list(found) == KEYS and not found["ok"] and found["rows"] is None
        assert [error["rule"] for error in found["errors"]] == [rule]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_warnings_are_said_once_and_stand_in_the_record_of_the_run(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    write_recipe(tmp_path / "r.yaml", "texts")
    sets = [*SMALL, "data.split.validation=0", "train.steps=4", "train.checkpoint.best=false"]
    checked = cli("check", "r.yaml", "--json", sets=sets).json()
    assert [warning["rule"] for warning in checked["warnings"]] == ["no_validation"]
    text = checked["warnings"][0]["message"]
    first = cli("train", "r.yaml", sets=sets)
    assert first.code == 0 and first.err.count(text) == 1
    events = (RunFolder(tmp_path / "runs" / "small").path / "events.jsonl").read_text()
    assert text in events
    again = cli("train", "r.yaml", sets=[*sets, "train.steps=5"])
    assert again.code == 0 and text not in again.err, "a run that goes on was looked at when it began"


def test_trained_tokens_are_coloured_on_a_terminal_and_hostile_ones_harmless() -> None:
    stretches = (
        Stretch("<|user|>", 1, False, True),
        Stretch("a\x1b[31m question", 3, False, False),
        Stretch("answer", 1, True, False),
        Stretch("<|end|>", 1, True, True),
    )
    row = Row(0, (stretches,), 4)
    console = Console(force_terminal=True, color_system="standard", width=200)
    with console.capture() as captured:
        for line in _documents(row, True):
            console.print(line)
    shown = captured.get()
    assert "\x1b[32manswer" in shown and "[[" not in shown, "green"
    assert "\x1b[7;32m<|end|>" in shown and "\x1b[7m<|user|>" in shown, "reversed"
    assert "\\x1b[31m question" in shown
    plain = "".join(line.plain for line in _documents(row, False))
    assert plain.endswith("<|user|>a\\x1b[31m question[[answer]][[<|end|>]]")


@pytest.mark.parametrize(
    ("documents", "said"),
    [(0, "there is none"), (1, "294,099"), (4, "up to 294,099"), (5, "50% up to 12, 100% up to 294,099")],
)
def test_lengths_of_few_documents_are_told_once(documents: int, said: str) -> None:
    quantiles = {"100%": 294_099} if documents == 1 else {"50%": 12, "100%": 294_099} if documents else {}
    assert _lengths(quantiles, documents) == said


def test_long_rows_are_shortened_and_say_so() -> None:
    many = Row(0, ((Stretch("word ", 1, True, False),),) * (DOCUMENTS + 3), 0)
    lines = [line.plain for line in _documents(many, False)]
    assert lines[-1] == "--- and 3 documents more" and len(lines) == 2 * DOCUMENTS + 1
    text = _shortened("x" * 5 * CHARACTERS)
    assert f" … {4 * CHARACTERS:,} characters … " in text and text.count("x") == CHARACTERS
    assert _shortened("x" * CHARACTERS) == "x" * CHARACTERS


def test_what_is_left_out_by_its_rule_is_not_counted_twice(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts")
    (tmp_path / "texts" / "nothing.txt").write_text("")
    write_recipe(tmp_path / "r.yaml", "texts")
    shown = cli("check", "r.yaml", sets=SMALL).out
    assert "left out: read/empty" in shown
    assert re.search(r"^empty +0 *$", shown, re.M), shown
