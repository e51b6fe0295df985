"""What a run folder allows when it is used again: by the same recipe, another, another tilth, or from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.jobs.conftest import Cli, Said, call
from tests.jobs.helpers import SMALL, hashes, write_recipe, write_texts
from tilth.core.files import write_manifest
from tilth.core.rundir import RunFolder
from tilth.evaluation import evaluator
from tilth.jobs.pages.report import write_report
from tilth.jobs.quickstart import quickstart_recipe
from tilth.jobs.recipe import load_shipped

pytestmark = pytest.mark.slow


def going_on(said: Said) -> str:
    assert said.code == 0, said.err
    return next(line for line in said.err.splitlines() if "going on after step" in line)


def change(path: Path, *keys: str, to: Any = None) -> None:
    """Sets one value of a JSON file, or takes it out."""
    value = json.loads(path.read_text())
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    if to is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    path.write_text(json.dumps(value))


# Folders that are not only a run's


@pytest.mark.parametrize("command", [("train", "r.yaml"), ("quickstart",)])
def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, cli: Cli, command: tuple[str, ...]) -> None:
    write_texts(tmp_path / "texts", documents=3)
    write_recipe(tmp_path / "r.yaml", "texts")
    (tmp_path / ".notes.tmp").mkdir()
    (tmp_path / ".mine.12.tmp").write_text("mine")
    before = hashes(tmp_path)
    cli(*command, "--run", ".").expect_fault(2, "is not a run folder, and not empty", "r.yaml", "--run")
    assert hashes(tmp_path) == before and not (tmp_path / "work").exists(), "told before anything is prepared"


def test_what_others_put_into_a_run_folder_stays(trained: Path, cli: Cli) -> None:
    run = trained / "runs" / "small"
    (run / ".notes.tmp").write_text("mine")
    (run / "checkpoints" / ".step-x.tmp").write_text("mine")
    (run / ".result.json.77.tmp").write_text("half")
    assert cli("train", "r.yaml", sets=[*SMALL, "train.steps=14"]).code == 0
    assert (run / ".notes.tmp").exists() and (run / "checkpoints" / ".step-x.tmp").exists()
    assert not (run / ".result.json.77.tmp").exists()


# Records and results


def test_a_damaged_record_is_told_and_the_others_stay(trained: Path, cli: Cli) -> None:
    path = trained / "runs" / "small" / "steps.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "?" + lines[1], *lines[2:]]))
    said = cli("train", "r.yaml", sets=[*SMALL, "train.steps=14"])
    assert said.code == 0 and "warning: steps.jsonl: line 2 cannot be read" in said.err
    run = RunFolder(trained / "runs" / "small")
    assert [record.step for record in run.steps()] == [1, *range(3, 15)]
    assert "steps.jsonl.damaged" in next(m["text"] for m in run.events("message") if m["level"] == "warning")


def test_a_finished_run_without_checkpoints_is_not_overwritten(trained: Path, cli: Cli) -> None:
    shutil.rmtree(trained / "runs" / "small" / "checkpoints")
    before = hashes(trained / "runs" / "small")
    cli("train", "r.yaml", sets=[*SMALL, "train.seed=7"]).expect_fault(2, "train.seed: 1 -> 7", "--run")
    assert hashes(trained / "runs" / "small") == before
    cli("train", "r.yaml", sets=SMALL).expect_fault(4, "its checkpoints are gone", "--run")
    kept = hashes(trained / "runs" / "small")
    assert all(kept[name] == before[name] for name in before if name != "data.json" and not name.startswith("tokeni"))


def test_a_run_that_died_before_its_first_checkpoint(trained: Path, cli: Cli) -> None:
    run = trained / "runs" / "small"
    final = hashes(run / "final")
    for name in ("checkpoints", "final"):
        shutil.rmtree(run / name)
    (run / "result.json").unlink()
    cli("train", "r.yaml", sets=[*SMALL, "train.seed=7"]).expect_fault(2, "train.seed: 1 -> 7", "--run")
    said = cli("train", "r.yaml", sets=SMALL)
    assert said.code == 0 and "12 recorded steps came after the last checkpoint: they are done again" in said.err
    assert hashes(run / "final") == final


# Changed recipes


def test_same_bits_are_promised_only_of_the_same_recipe(trained: Path, cli: Cli) -> None:
    run = trained / "runs" / "small"
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    assert "the same bits" in going_on(cli("train", "r.yaml", sets=SMALL))
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    assert "the same bits" in going_on(cli("train", "r.yaml", sets=[*SMALL, "sample.every=5"])), "it decides no weight"
    longer = going_on(cli("train", "r.yaml", sets=[*SMALL, "train.steps=16"]))
    assert "to the bits" not in longer and "its limits changed" in longer
    shutil.rmtree(run / "checkpoints" / "step-00000016")  # as if it had been killed before it
    assert "its limits changed" in going_on(cli("train", "r.yaml", sets=[*SMALL, "train.steps=16"]))
    state = run / "checkpoints" / "step-00000016" / "state.json"
    assert json.loads(state.read_text())["identity"]["changed"] == ["limits"]
    shutil.rmtree(run / "checkpoints" / "step-00000016")
    again = going_on(cli("train", "r.yaml", sets=[*SMALL, "train.steps=16"]))
    assert "its limits changed" in again, "what came before is not forgotten"


@pytest.mark.parametrize(
    ("asked", "said_of_it", "decided"),
    [
        ("train.micro_batch=3", "train.micro_batch: 'auto' -> 3", {"micro_rows": 3, "precision": "fp32"}),
        ("train.precision=bf16", "train.precision: 'fp32' -> 'bf16'", {"micro_rows": 16, "precision": "bf16"}),
        ("train.device=cpu", "train.device: 'auto' -> 'cpu'", {"micro_rows": 16, "precision": "fp32"}),
    ],
)
def test_rows_precision_and_device_may_change(
    trained: Path, cli: Cli, asked: str, said_of_it: str, decided: dict[str, Any]
) -> None:
    run = trained / "runs" / "small"
    said = cli("train", "r.yaml", "--json", sets=[*SMALL, "train.steps=16", asked])
    assert said.json()["step"] == 16 and f"the recipe changed: {said_of_it}" in said.err
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    shutil.rmtree(run / "checkpoints" / "step-00000016")
    sets = [*SMALL, "train.steps=12"]
    only = cli("train", "r.yaml", sets=[*sets, asked])
    assert "rounds otherwise" in going_on(only)
    state = json.loads((run / "checkpoints" / "step-00000012" / "state.json").read_text())
    assert {key: state[key] for key in decided} == decided
    shutil.rmtree(run / "checkpoints" / "step-00000012")  # as if it had been killed before it
    again = cli("train", "r.yaml", sets=[*sets, asked])
    assert going_on(again) == going_on(only) and "the recipe changed" not in again.err


def test_a_warm_up_that_a_shorter_run_cuts_is_told(tmp_path: Path, cli: Cli) -> None:
    write_texts(tmp_path / "texts", documents=3)
    write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 400, "schedule": {"warmup_steps": 40}})
    said = cli("train", "r.yaml", sets=[*SMALL, "train.steps=4"])
    assert said.code == 0 and "warning: the warm-up of 40 steps is longer than the run of 4" in said.err
    rates = [record.lr for record in RunFolder(tmp_path / "runs" / "small").steps()]
    assert rates == pytest.approx([1e-3 * step / 41 for step in range(1, 5)]), "the schedule is what was asked for"


def test_a_warm_up_as_long_as_the_run_is_told(tmp_path: Path, cli: Cli) -> None:
    """By epochs its length is known only when the text is."""
    write_texts(tmp_path / "texts", documents=3)
    write_recipe(tmp_path / "r.yaml", "texts")
    length = ["train.steps=null", "train.epochs=1", "train.batch_tokens=1024"]
    said = cli("train", "r.yaml", sets=[*SMALL, *length, "train.schedule.warmup_steps=500"])
    assert said.code == 0 and "warning: the warm-up of 500 steps is longer than the run of" in said.err
    assert (
        "warm-up"
        not in cli("train", "r.yaml", "--run", "x", sets=[*SMALL, *length, "train.schedule.warmup_steps=1"]).err
    )


# Another tilth


def test_a_run_of_a_tilth_that_knew_fewer_keys_goes_on(trained: Path, cli: Cli) -> None:
    recipe = trained / "runs" / "small" / "recipe.json"
    change(recipe, "train", "grad_clip")
    change(recipe, "data", "shard_bytes")
    said = cli("train", "r.yaml", "--json", sets=[*SMALL, "train.steps=14"])
    assert said.json()["step"] == 14 and "grad_clip" not in said.err
    assert "grad_clip" in json.loads(recipe.read_text())["train"]


@pytest.mark.parametrize("words", [("evaluate", "runs/small"), ("train", "r.yaml")])
def test_a_run_of_a_tilth_that_knew_more_keys_is_told_as_one(trained: Path, cli: Cli, words: tuple[str, ...]) -> None:
    change(trained / "runs" / "small" / "recipe.json", "train", "rotation", to=3)
    sets = SMALL if words[0] == "train" else []
    message = cli(*words, sets=sets).expect_fault(
        2, "keys that tilth 0", "does not know: train.rotation; tilth 0", "wrote it"
    )
    assert "unknown key" not in message and "use the tilth that made the run" in message
    change(trained / "runs" / "small" / "recipe.json", "train", "rotation")
    change(trained / "runs" / "small" / "recipe.json", "train", "objective", to="rlhf")
    cli(*words, sets=sets).expect_fault(
        2, "train.objective: 'rlhf'", "wrote it; this is tilth 0", "the tilth that made the run"
    )


def test_quickstart_goes_on_with_the_recipe_that_it_began_with(tmp_path: Path) -> None:
    before = load_shipped("quickstart", ["train.seed=99", "train.hours=null", "train.steps=3"])  # as if once shipped so
    run = RunFolder(tmp_path)
    run.claim(before.plain(), {"folder": "d", "fingerprint": "f"})
    again = quickstart_recipe(tmp_path, None, None)
    assert (again.train.seed, again.train.steps) == (load_shipped("quickstart").train.seed, 3), "nothing was trained"
    (tmp_path / "final").mkdir()
    assert quickstart_recipe(tmp_path, None, None) == before
    longer = quickstart_recipe(tmp_path, 6, None)
    assert longer.train.seed == 99 and longer.train.hours == 0.1
    assert longer.train.steps is None, "what ended it before does not end it again"
    other = load_shipped("my-text")
    shutil.rmtree(tmp_path / "final")
    run.claim(other.plain(), {"folder": "d", "fingerprint": "f"})
    (tmp_path / "final").mkdir()
    assert quickstart_recipe(tmp_path, None, None).name == "quickstart", "another run is not taken up as this one"


# Elsewhere


def test_a_run_is_evaluated_from_anywhere(trained: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> None:
    figures = cli("evaluate", "runs/small", "--json").json()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert cli("train", "r.yaml", sets=SMALL).code == 0  # this copy's own data.json
    assert call(elsewhere, "evaluate", trained / "runs" / "small", "--json").json() == figures
    moved = elsewhere / "moved"
    for name in ("runs", "work"):
        shutil.move(trained / name, moved / name)
    assert call(elsewhere, "evaluate", "moved/runs/small", "--json").json() == figures
    assert "The dataset is gone" not in (page := write_report(moved / "runs" / "small").read_text()), page
    shutil.rmtree(moved / "work")
    call(elsewhere, "evaluate", "moved/runs/small").expect_fault(3, "no dataset at", "tilth prepare")


def test_a_checkpoint_of_before_is_read(trained: Path, cli: Cli) -> None:
    """One that does not say what was asked for, as checkpoints before 0.1 did not."""
    folder = trained / "runs" / "small" / "checkpoints" / "step-00000012"
    state = json.loads((folder / "state.json").read_text())
    del state["identity"]["asked"], state["identity"]["changed"]
    (folder / "state.json").write_text(json.dumps(state))
    write_manifest(folder, {"step": 12})
    assert "going on after step 12" in going_on(cli("train", "r.yaml", sets=[*SMALL, "train.steps=14"]))


def test_an_evaluation_that_was_broken_off_is_made_once(trained: Path, cli: Cli) -> None:
    made, run = list[bool](), trained / "runs" / "small"

    def train(*, broken_off: bool = False) -> Said:
        def evaluate(*arguments: Any) -> Any:
            made.append(broken_off)
            if broken_off:
                os.kill(os.getpid(), signal.SIGTERM)
            return evaluator.evaluate(*arguments)

        with mock.patch("tilth.jobs.parts.evaluate", evaluate):
            return cli("train", "r.yaml", sets=[*SMALL, "train.steps=13"])

    def evaluations() -> list[int]:
        return [event["step"] for event in RunFolder(run).events("evaluation")]

    assert (train(broken_off=True).code, evaluations()) == (75, [12])
    assert (train().code, evaluations()) == (0, [12, 13])
    ended = hashes(run / "final")
    assert "done: the run ended at step 13" in train().err and (made, evaluations()) == ([True, False], [12, 13])
    (run / "checkpoints" / "step-00000013" / "evaluated.json").unlink()  # as a kill before it was written leaves it
    assert (train(broken_off=True).code, evaluations()) == (75, [12, 13]), "what is known of the end of the run stays"
    assert (train().code, evaluations(), hashes(run / "final")) == (0, [12, 13], ended)


# A run that went on after its end


def test_final_weights_older_than_the_run_are_told(trained: Path, cli: Cli) -> None:
    """As after a second training that was interrupted: it has written checkpoints, and final/ is of the first."""
    run, told = trained / "runs" / "small", "final, step 12; the run has gone on to step 18: --checkpoint latest"
    evaluate, generate = ("evaluate", "runs/small"), ("generate", "runs/small", "--max-new-tokens", "2")
    for words in (evaluate, generate):
        assert "gone on" not in cli(*words).err
    shutil.copytree(run / "final", trained / "before")
    assert cli("train", "r.yaml", sets=[*SMALL, "train.steps=18"]).code == 0
    shutil.rmtree(run / "final")
    (trained / "before").rename(run / "final")
    said = cli(*evaluate, "--json")
    assert said.err.count(told) == 1 and said.json() == cli(*evaluate, "--checkpoint", "12", "--json").json()
    export = ("export", "runs/small", "--to", "hf", "--out")
    for words in (generate, (*export, "out"), ("chat", "runs/small")):
        assert told in cli(*words).err, words
    for words in (
        (*evaluate, "--checkpoint", "latest"),
        (*generate, "--checkpoint", "16"),
        ("generate", "runs/small/final"),
    ):
        after = cli(*words)
        assert after.code == 0 and "gone on" not in after.err


def test_weights_of_a_run_that_has_not_ended_are_told(trained: Path, cli: Cli) -> None:
    """As of a run that was interrupted: it has checkpoints, and neither final/ nor a result."""
    run, told = trained / "runs" / "small", "has not ended: weights of step 12 of 1,400"
    shutil.rmtree(run / "final")
    (run / "result.json").unlink()
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["train"]["steps"] = 1400
    (run / "recipe.json").write_text(json.dumps(recipe))
    generate = ("generate", "runs/small", "--max-new-tokens", "2")
    export = ("export", "runs/small", "--to", "hf", "--out", "out")
    commands: list[tuple[str, ...]] = [("evaluate", "runs/small"), generate, export, ("chat", "runs/small")]
    for words in commands:
        assert cli(*words).err.count(told) == 1, words
    assert "12 of" not in cli(*generate, "--checkpoint", "latest").err
    newest = max((run / "checkpoints").glob("step-*/model.safetensors"))
    newest.write_bytes(b"damaged")
    for words in (("evaluate", "runs/small"), generate, (*export[:-1], "earlier"), ("chat", "runs/small")):
        assert cli(*words).err.count("weights of step 8 of 1,400") == 1, words
    assert "| step of these weights | 8 |" in (trained / "earlier" / "README.md").read_text()


def test_a_limit_that_the_run_is_past_is_told_as_such(trained: Path, cli: Cli) -> None:
    assert cli("train", "r.yaml", sets=[*SMALL, "train.steps=14"]).code == 0
    said = cli("train", "r.yaml", "--json", sets=[*SMALL, "train.steps=12"])
    assert "done: the run is at step 14 already, past train.steps (step 12); a longer one would go on" in said.err
    assert (said.json()["step"], said.json()["new_steps"]) == (14, 0)
