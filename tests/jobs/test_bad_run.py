"""Run folders that are of another recipe, of other text, in use, not there, lost to a learning rate, or stopped."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

import tilth as tilth_api
from tests.jobs.conftest import Cli
from tests.jobs.forked import Forked, forked
from tests.jobs.helpers import SMALL, hashes, last_json, write_recipe, write_texts
from tilth.core.errors import RecipeError
from tilth.core.files import FolderLock
from tilth.core.rundir import RunFolder
from tilth.jobs import train
from tilth.jobs.recipe import load_recipe

pytestmark = pytest.mark.slow


def test_a_run_folder_made_by_another_recipe(trained: Path, cli: Cli) -> None:
    before = hashes(trained / "runs")
    said = cli("train", "r.yaml", sets=[*SMALL, "train.seed=7", "model.dropout=0.5"])
    said.expect_fault(
        2, "runs/small was made by another recipe", "train.seed: 1 -> 7", "model.dropout: 0 -> 0.5", "--run"
    )
    assert hashes(trained / "runs") == before
    assert cli("train", "r.yaml", "--run", "other", "--json", sets=[*SMALL, "train.seed=7"]).json()["run"] == "other"


def test_a_useless_run_folder_is_told_before_hours_of_preparation(trained: Path, cli: Cli) -> None:
    cli("train", "r.yaml", "--workspace", "new", sets=[*SMALL, "data.clean=none"]).expect_fault(
        2, "data.clean: 'standard' ->"
    )
    for place in ("r.yaml", "r.yaml/below", "x" * 300):
        cli("train", "r.yaml", "--workspace", "new", "--run", place, sets=SMALL).expect_fault(
            3, f"cannot write {place}"
        )
    not_utf_8 = os.fsdecode(b"runs/\xff")
    cli("train", "r.yaml", "--workspace", "new", "--run", not_utf_8, sets=SMALL).expect_fault(3, "not UTF-8")
    with pytest.raises(RecipeError, match=r"train\.seed: 1 -> 7"):
        tilth_api.train(load_recipe(trained / "r.yaml", [*SMALL, "train.seed=7"]), trained / "runs/small", "new")
    assert not (trained / "new").exists()


def test_what_a_run_remembers_of_its_data_is_damaged(trained: Path, cli: Cli) -> None:
    facts = trained / "runs" / "small" / "data.json"
    for damage in ("{}", "[]", "{"):
        facts.write_text(damage)
        cli("evaluate", "runs/small").expect_fault(3, "data.json")
    assert cli("train", "r.yaml", sets=SMALL).code == 0, "the checkpoints name the data as well"
    assert cli("evaluate", "runs/small").code == 0


def test_a_model_that_is_no_run_has_no_checkpoints_to_choose_from(trained: Path, cli: Cli) -> None:
    for place in ("runs/small/final", "runs/small/checkpoints/step-00000004"):
        for which in ("4", "best", "latest"):
            cli("generate", place, "--checkpoint", which).expect_fault(
                2, f"{place} is no run folder", "leave the choice"
            )
        assert cli("generate", place, "--max-new-tokens", "2").code == 0


def test_the_commands_that_are_shown_can_be_typed(trained: Path, cli: Cli) -> None:
    shutil.copytree(trained / "runs" / "small", trained / "my runs" / "é")
    said = cli("train", "r.yaml", "--run", "my runs/é", sets=SMALL)
    [line] = [line for line in said.out.splitlines() if "evaluate" in line]
    assert cli(*shlex.split(line)[-2:]).code == 0
    assert shlex.split(cli("init", "my text.yaml").out.splitlines()[-1]) == ["tilth", "train", "my text.yaml"]


def test_a_run_folder_of_other_text(trained: Path, cli: Cli) -> None:
    with (trained / "texts" / "0003.txt").open("a") as file:
        file.write("one more sentence.\n")
    before = hashes(trained / "runs")
    cli("train", "r.yaml", sets=SMALL).expect_fault(4, "trained on other data", "work/datasets/small-", "--run")
    assert hashes(trained / "runs") == before


def test_a_folder_that_is_in_use(trained: Path, cli: Cli) -> None:
    with FolderLock(trained / "runs" / "small", "the run folder"):
        cli("train", "r.yaml", sets=SMALL).expect_fault(
            3, f"runs/small is in use by process {os.getpid()}", "another folder"
        )
    with FolderLock(trained / "work", "the workspace"):
        cli("prepare", "r.yaml", sets=SMALL).expect_fault(3, f"work is in use by process {os.getpid()}")
    assert cli("train", "r.yaml", sets=SMALL).code == 0


def test_two_processes_on_one_run_folder(trained: Path, cli: Cli) -> None:
    sets = [*SMALL, "train.steps=100000", "train.checkpoint.every_steps=50"]
    first = Forked("train", "r.yaml", cwd=trained, sets=sets)
    while (trained / "runs" / "small" / "steps.jsonl").read_text().count("\n") < 20:
        assert first.poll() is None
        time.sleep(0.02)
    said = cli("train", "r.yaml", sets=sets)
    said.expect_fault(3, f"in use by process {first.pid}")
    first.send_signal(signal.SIGTERM)
    assert first.communicate()[1] and first.returncode == 75


def test_a_run_folder_that_is_not_there(trained: Path, cli: Cli) -> None:
    for job in ("generate", "evaluate"):
        cli(job, "runs/smal").expect_fault(2, "no run folder or model at runs/smal", "did you mean runs/small?")
        cli(job, "nowhere/at/all").expect_fault(2, "no run folder or model at nowhere/at/all", "tilth train RECIPE")
        cli(job, "texts").expect_fault(2, "texts holds no model", "made by `tilth train`")


@pytest.mark.parametrize(
    ("which", "code", "parts"),
    [
        ("frist", 2, ("--checkpoint 'frist' names no weights", "final, latest, best or a step")),
        ("-3", 2, ("'-3'",)),
        ("²", 2, ("'²'",)),
        ("1.5", 2, ("'1.5'",)),
        ("7", 4, ("no checkpoint of step 7", "choose one that exists: 4, 8, 12")),
        ("99999999999", 4, ("no checkpoint of step 99999999999",)),
    ],
)
def test_a_checkpoint_that_is_not_there(trained: Path, cli: Cli, which: str, code: int, parts: tuple[str, ...]) -> None:
    cli("generate", "runs/small", f"--checkpoint={which}").expect_fault(code, *parts)


def test_a_loss_that_is_no_number(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=20)
    write_recipe(tmp_path / "r.yaml", "texts", train={"checkpoint": {"every_steps": 1, "keep": 9}})
    sets = [*SMALL, "train.optimizer={name: sgd, lr: 1e30}", "train.schedule.warmup_steps=3"]
    said = cli("train", "r.yaml", sets=sets)
    said.expect_fault(
        5,
        "step 2: loss ",
        "gradient norm nan",
        "on samples 16 to 31",
        "last checkpoint: step 1",
        "lower train.optimizer.lr",
    )
    assert [record.step for record in RunFolder(tmp_path / "runs" / "small").steps()] == [1]
    kept = hashes(tmp_path / "runs" / "small" / "checkpoints")
    assert cli("train", "r.yaml", sets=sets).code == 5
    assert hashes(tmp_path / "runs" / "small" / "checkpoints") == kept
    assert cli("generate", "runs/small", "--checkpoint", "1").code == 0


def test_a_validation_loss_that_is_no_number(tmp_path: Path, cli: Cli) -> None:
    """The last update can be the one that breaks the weights: no training loss tells of it."""
    write_texts(tmp_path / "texts", documents=20)
    write_recipe(tmp_path / "r.yaml", "texts")
    gpt2 = "model={preset: gpt2, num_hidden_layers: 1, num_attention_heads: 2, hidden_size: 32, context_length: 16}"
    sets = [*SMALL, gpt2, "train.optimizer={name: sgd, lr: 1e38}", "train.schedule.warmup_steps=0", "train.steps=1"]
    said = cli("train", "r.yaml", "--json", sets=sets)
    said.expect_fault(5, "step 1: the validation loss is nan", "lower train.optimizer.lr")
    assert not (tmp_path / "runs" / "small" / "final").exists()


def test_fp16_gradients_that_overflow_are_skipped_told_and_gone_on_from(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "texts", documents=20)
    write_recipe(tmp_path / "r.yaml", "texts")
    # Much too large a scale: real fp16 gradients overflow until it has been halved often enough.
    monkeypatch.setattr(train, "make_scaler", lambda *_: torch.amp.GradScaler("cpu", init_scale=2.0**24))
    said = cli("train", "r.yaml", "--json", sets=[*SMALL, "train.precision=fp16"])
    assert said.json()["step"] == 12 and "grad overflow" in said.err
    records = RunFolder(tmp_path / "runs" / "small").steps()
    skipped = [record for record in records if record.grad_norm is None]
    assert 0 < len(skipped) == records[-1].skipped < 12
    report = (tmp_path / "runs" / "small" / "report.html").read_text()
    assert f"{len(skipped)} value{'s' if len(skipped) > 1 else ''} left out" in report


def rows(good: int, bad: int, text: str = "a row with some words in it, number") -> str:
    lines = [json.dumps({"text": f"{text} {n}"}) for n in range(good)]
    return "\n".join([*lines[:3], *(f"{{bad {n}" for n in range(bad)), *lines[3:]])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_preparing(tmp_path: Path, cli: Cli, number: signal.Signals) -> None:
    (tmp_path / "a.jsonl").write_text(rows(10_000, 0))
    recipe = write_recipe(tmp_path / "r.yaml", "a.jsonl", tokenizer={"kind": "bpe", "vocab_size": 300})
    process = Forked("prepare", recipe, cwd=tmp_path)
    while not list(tmp_path.glob("work/tasks/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 75 and "type the same command again" in said and "Traceback" not in said
    assert cli("prepare", recipe).code == 0
    assert not list((tmp_path / "work").glob("*/.*.tmp")), "what was left half made is cleared away"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_many_signals_are_one_and_json_says_so(tmp_path: Path, number: signal.Signals) -> None:
    write_texts(tmp_path / "texts")
    recipe = write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 100_000})
    process = Forked("train", recipe, "--json", cwd=tmp_path, sets=SMALL)
    records = tmp_path / "runs" / "small" / "steps.jsonl"
    while not (records.exists() and records.stat().st_size):
        assert process.poll() is None
        time.sleep(0.02)
    for _ in range(2 if number == signal.SIGTERM else 1):
        process.send_signal(number)
    while process.poll() is None:  # all the time from then on, also while the interpreter is taken down
        time.sleep(0.05)
        if b"saved" in (tmp_path / "runs" / "small" / "events.jsonl").read_bytes() or number == signal.SIGTERM:
            process.send_signal(number)
    said = json.loads(process.communicate()[0].splitlines()[-1])["error"]
    assert process.returncode == 75 and said["exit_code"] == 75 and number.name in said["message"]


def test_a_signal_before_the_first_step_is_told_as_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(rows(10_000, 0))
    recipe = write_recipe(tmp_path / "r.yaml", "a.jsonl")
    process = Forked("prepare", recipe, "--json", cwd=tmp_path)
    while not list(tmp_path.glob("work/tasks/*")):
        assert process.poll() is None
        time.sleep(0.01)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    said = json.loads(process.communicate()[0].splitlines()[-1])["error"]
    assert process.returncode == said["exit_code"] == 75 and said["remedy"].startswith("type the same command again")


def test_a_name_that_is_not_utf8_stops_nothing_and_is_remembered(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts")
    odd = os.fsencode(tmp_path / "texts") + b"/x\377.txt"
    Path(os.fsdecode(odd)).write_text("A text whose name is of another time.")
    old = time.time() - 60
    for path in (tmp_path / "texts").iterdir():
        os.utime(path, (old, old))
    recipe = write_recipe(tmp_path / "r.yaml", "texts")
    first = last_json(forked("prepare", recipe, "--json", cwd=tmp_path))
    assert last_json(forked("prepare", recipe, "--json", cwd=tmp_path)) == first
