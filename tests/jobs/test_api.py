"""The Python API gives what the commands give, as objects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

import tilth
from tests.jobs.bases import tuning, write_base
from tests.jobs.conftest import call
from tests.jobs.helpers import SMALL
from tests.model.families import quiet
from tilth.core.errors import RecipeError
from tilth.core.rundir import SampleRecord, StepRecord
from tilth.jobs.lines import Lines

pytestmark = pytest.mark.slow


def test_check_is_tilth_check(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    found = tilth.check(tilth.load_recipe("r.yaml", SMALL))
    said = call(trained, "check", "r.yaml", "--json", sets=SMALL).json()
    assert json.loads(json.dumps(found.plain())) == said and found.ok is said["ok"] is True
    shown = str(found.rows[0])
    trained_bytes = sum(s.tokens for document in found.rows[0].documents for s in document if s.trained)
    assert shown.count("[[") == shown.count("]]") > 0 and trained_bytes == 16, "a byte is a token here"
    bad = tilth.check(tilth.load_recipe("r.yaml", [*SMALL, "train.early_stopping={metric: bits_per_byte}",
                                                   "train.objective=sft", "data.clean=none"]))  # fmt: skip
    assert not bad.ok and {fault.rule for fault in bad.errors} >= {"metric"}


def test_a_recipe_may_be_named_by_its_file(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    Path("s.yaml").write_text(json.dumps(tilth.load_recipe("r.yaml", SMALL).plain()))
    assert tilth.prepare("s.yaml").fingerprint == tilth.prepare(Path("s.yaml")).fingerprint
    assert tilth.check("s.yaml").plain() == tilth.check(tilth.load_recipe("r.yaml", SMALL)).plain()
    assert tilth.train("s.yaml", emit=None)["new_steps"] == 0, "it is the run that was trained by the recipe"
    with pytest.raises(RecipeError, match=r"no recipe at no\.yaml"):
        tilth.check("no.yaml")
    for no_recipe in ({"name": "x"}, None):
        for job in (tilth.prepare, tilth.check, tilth.train):
            with pytest.raises(RecipeError, match=r"is no recipe\n.*tilth.load_recipe.*tilth.make_recipe"):
                job(no_recipe)  # type: ignore[operator]
    with pytest.raises(RecipeError, match="path is None"):
        tilth.load(None)  # type: ignore[arg-type]


def test_check_prepares_what_is_missing(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    assert tilth.check(tilth.load_recipe("r.yaml", SMALL), tmp_path / "other", workers=1).ok
    assert list((tmp_path / "other" / "datasets").iterdir())


def test_reading_a_large_checkpoint_through_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_base(tmp_path / "base", "llama")
    recipe = tuning(tmp_path, "base", train={"steps": 1})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tilth.checkpoint.read_through.LARGE", 1)
    assert tilth.train(tilth.load_recipe(recipe), workers=1)["new_steps"] == 1
    assert "of weights are read through once" in capsys.readouterr().err


def test_history_is_what_the_run_recorded(trained: Path) -> None:
    records = tilth.history(trained / "runs" / "small")
    lines = [json.loads(line) for line in (trained / "runs" / "small" / "steps.jsonl").read_text().splitlines()]
    assert [(step.step, step.loss, step.last_sample) for step in records.steps] == [
        (line["step"], line["loss"], line["last_sample"]) for line in lines
    ]
    assert [record.step for record in records.evaluations] == [12] == [record.step for record in records.samples]
    assert records.evaluations[0].metrics["loss"] == pytest.approx(tilth.evaluate(trained / "runs" / "small").loss)
    with pytest.raises(RecipeError, match="not a run folder"):
        tilth.history(trained / "texts")


def test_export_is_tilth_export(trained: Path, tmp_path: Path) -> None:
    run, ids = trained / "runs" / "small", [1, 2, 3]
    made = tilth.export(run, tmp_path / "out", dtype="bfloat16")
    with quiet(), torch.no_grad():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(made.folder)
        scores = theirs(torch.tensor([ids])).logits[0].float()
    assert theirs.dtype == torch.bfloat16 and made.architecture == type(theirs).__name__
    torch.testing.assert_close(scores, torch.from_numpy(tilth.load(run).logits(ids)), atol=0.05, rtol=0.05)
    with pytest.raises(RecipeError, match="exists"):
        tilth.export(run, tmp_path / "out")
    with pytest.raises(RecipeError, match='base is for to="peft"'):
        tilth.export(run, tmp_path / "more", base="x")
    with pytest.raises(RecipeError, match='float16 is for to="hf"'):
        tilth.export(run, tmp_path / "more", to="peft", dtype="float16")
    with pytest.raises(RecipeError, match="is no adapter"):
        tilth.export(run, tmp_path / "more", to="peft")
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda run: tilth.load(run, which="Best"),
            "which 'Best' .* did you mean 'best'. one of: 'final', 'latest', .*number",
        ),
        (lambda run: tilth.load(run, which="12"), "which '12' is not known"),
        (lambda run: tilth.load(run, which=True), "which True is not known"),
        (lambda run: tilth.load(run, dtype="float16"), "dtype 'float16' is not known"),
        (lambda run: tilth.evaluate(run, which="foo"), "which 'foo' is not known"),
        (lambda run: tilth.export(run, run / "out", to="gguf"), "to 'gguf' is not known.*'hf', 'peft'"),
        (lambda run: tilth.export(run, run / "out", which="foo"), "which 'foo' is not known"),
        (lambda run: tilth.export(run, run / "out", to="peft", which="foo"), "which 'foo' is not known"),
        (lambda run: tilth.export(run, run / "out", dtype="int8"), "dtype 'int8' is not known"),
        (lambda _: tilth.prepare(tilth.load_recipe("r.yaml", SMALL), executor="slurm"), "executor 'slurm' .*'ray'"),
        (lambda _: tilth.train(tilth.load_recipe("r.yaml", SMALL), emit="line"), "emit 'line' .*'lines'"),
    ],
)
def test_a_word_that_an_argument_does_not_know_is_refused(
    trained: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Path], object], said: str
) -> None:
    monkeypatch.chdir(trained)
    run = trained / "runs" / "small"
    with pytest.raises(RecipeError, match=f"(?s){said}"):
        ask(run)
    assert not (run / "out").exists()


def test_training_says_how_many_steps_this_call_did(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    told: list[str] = []
    over = tilth.train(tilth.load_recipe("r.yaml", SMALL), emit=lambda event: told.append(str(event)))
    assert (over["step"], over["new_steps"]) == (12, 0) and any("done: the run ended at step 12" in say for say in told)
    longer = tilth.train(tilth.load_recipe("r.yaml", [*SMALL, "train.steps=15"]))
    assert (longer["step"], longer["new_steps"]) == (15, 3)


def test_training_says_how_far_it_is_unless_told_otherwise(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    tilth.train(tilth.load_recipe("r.yaml", [*SMALL, "train.steps=15"]))
    said, err = capfd.readouterr()
    assert not said and "step 12  info: going on after step 12" in err and "preparing" not in err, "it was prepared"
    assert re.findall(r"^(step \S+)  loss ", err, re.M) == ["step 13/15", "step 14/15", "step 15/15"]
    assert re.search(r"^step 15/15  .* tokens/s  eta 0", err, re.M)
    assert "step 15  validation  loss " in err and "step 15  checkpoint " in err and "step 15  sample  " in err
    for emit in (None, print):
        (trained / "runs" / "small").rename(trained / f"before {emit}")
        tilth.train(tilth.load_recipe("r.yaml", SMALL), emit=emit)
        said, err = capfd.readouterr()
        assert not err and bool(said) == (emit is print)


def test_lines_of_a_long_run_are_few_and_obey_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = Lines(lambda: now)
    for step in range(1, 36_001):  # ten hours
        now += 1.0
        lines(StepRecord(step, step, 2.0, 1.0, 1e-3, 1.0, 0.0, 1.0, None, 0, 0, 0, 0))
    assert 600 < len(capsys.readouterr().err.splitlines()) < 900
    lines(SampleRecord(1, "q", "b"))
    assert capsys.readouterr().err == "step 1  sample after 'q':  b\n"
    lines(SampleRecord(1, "", "a\n\x1b[2J\x9b\ud800é"))
    assert capsys.readouterr().err == "step 1  sample  a\\n\\x1b[2J\\x9b\\ud800é\n"
