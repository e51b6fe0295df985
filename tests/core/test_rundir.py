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


def test_an_evaluation_that_is_made_again_is_not_recorded_twice(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for number in (4, 8):
        run.record(step(number))
        run.record(Message(number, "info", "before"))
        run.record(EvaluationRecord(number, {"loss": 2.0}, 0.5, True))
        run.record(Message(number, "info", "after"))
    assert run.rewind(8) == [] and len(run.events("evaluation")) == 2
    assert run.rewind(8, evaluated=False) == []
    run.record(Message(8, "info", "again"))
    assert len(run.events("evaluation")) == 2, "until the new one is there"
    assert RunFolder(tmp_path).rewind(8, evaluated=False) == [], "it was broken off"
    run.record(EvaluationRecord(8, {"loss": 1.0}, 0.5, True))
    assert [(event["step"], event["metrics"]["loss"]) for event in run.events("evaluation")] == [(4, 2.0), (8, 1.0)]
    assert [event["text"] for event in run.events("message")] == ["before", "after", "before", "again"]
    run.record(EvaluationRecord(12, {"loss": 1.0}, 0.5, True))
    assert len(run.events("evaluation")) == 3, "the next takes no one's place"
    assert run.last_step() == 8, "its training stays"
    assert run.rewind(4, evaluated=False) == [] and run.rewind(4) == []
    run.record(EvaluationRecord(4, {"loss": 3.0}, 0.5, True))
    assert [event["metrics"]["loss"] for event in run.events("evaluation")] == [2.0, 3.0]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"kind": "message", "step": 1}\nnot json\n')
    with pytest.raises(IntegrityError, match=r"events\.jsonl:2") as caught:
        RunFolder(tmp_path).events("message")
    assert "the command that trained it" in caught.value.remedy
    (tmp_path / "steps.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(IntegrityError, match="no record of a step"):
        RunFolder(tmp_path).steps()


@pytest.mark.parametrize("bad", [b"not json\n", b"\x00\xff\n", b"\n", b"[]\n", b'{"step": "4"}\n', b'{"loss": 1}\n'])
def test_a_damaged_line_takes_no_other_with_it(tmp_path: Path, bad: bytes) -> None:
    run = RunFolder(tmp_path)
    for number in range(1, 13):
        run.record(step(number))
        run.record(Message(number, "info", "x"))
    path = tmp_path / "steps.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], bad, *lines[2:]]) + b'{"step": 13, "lo'
    path.write_bytes(damaged)
    assert run.last_step() == 12
    (said,) = run.rewind(11)
    assert "steps.jsonl: line 2 cannot be read" in said and "steps.jsonl.damaged" in said
    assert [record.step for record in run.steps()] == [1, *range(3, 12)]
    assert (tmp_path / "steps.jsonl.damaged").read_bytes() == damaged
    assert len(run.events("message")) == 11
    assert run.rewind(11) == [], "said once"
    path.write_bytes(bad + path.read_bytes())
    assert "steps.jsonl.damaged-1" in run.rewind(11)[0], "what was kept before stays"
    assert len(run.steps()) == 10


def test_a_damaged_line_of_steps_that_are_done_again_is_no_loss(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for number in range(1, 5):
        run.record(step(number))
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write("not json\n")
    assert run.rewind(3) == []
    assert [record.step for record in run.steps()] == [1, 2, 3]


@pytest.mark.parametrize("trace", ["checkpoints/step-00000001.damaged/", "final/", "result.json", "steps.jsonl"])
def test_whatever_training_left_belongs_to_its_recipe(tmp_path: Path, trace: str) -> None:
    run, data = RunFolder(tmp_path), {"folder": "d", "fingerprint": "f"}
    run.claim({"seed": 1}, data)
    assert not run.begun and run.claim({"seed": 2}, data) == []
    if trace.endswith("/"):
        (tmp_path / trace).mkdir(parents=True)
    else:
        (tmp_path / trace).write_text("{}\n")
    assert run.begun
    with pytest.raises(RecipeError, match="seed: 2 -> 3"):
        run.claim({"seed": 3}, data)


def test_a_run_of_an_older_tilth_goes_on(tmp_path: Path) -> None:
    run, data = RunFolder(tmp_path), {"folder": "d", "fingerprint": "f"}
    run.claim({"train": {"seed": 1}}, data)
    run.record(step(1))
    now = {"train": {"seed": 1, "new_option": 0.5}}
    assert run.claim(now, data, lambda old: {"train": {"new_option": 0.5, **old["train"]}}) == []
    with pytest.raises(RecipeError, match=r"train\.new_option: 0\.5 -> 0\.7"):
        run.claim({"train": {"seed": 1, "new_option": 0.7}}, data)


def test_a_folder_of_other_things_is_no_place_for_a_run(tmp_path: Path) -> None:
    RunFolder(tmp_path / "new").check()
    run = RunFolder(tmp_path)
    run.check()
    for name in (".lock", ".recipe.json.123.tmp"):
        (tmp_path / name).write_text("")
        run.check()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError, match=r"not empty: it holds notes\.txt") as caught:
        run.check()
    assert "--run" in caught.value.remedy
    (tmp_path / "recipe.json").write_text("{}")
    run.check()


def test_only_what_tilth_left_half_made_is_removed(tmp_path: Path) -> None:
    ours = [".steps.jsonl.7.tmp", ".recipe.json.12.tmp", ".final.99.tmp", ".final.old.tmp", ".report.html.1.tmp"]
    theirs = [".mine.tmp", ".notes.12.tmp", ".recipe.json.x.tmp", ".recipe.json.tmp", ".xrecipe.json.1.tmp", "a.tmp"]
    for name in [*ours, *theirs]:
        (tmp_path / name).mkdir()
    RunFolder(tmp_path).remove_leftovers()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(theirs)


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


def test_what_is_decided_stays_so_for_the_same_key(tmp_path: Path) -> None:
    run, made = RunFolder(tmp_path), iter(range(9))
    assert [run.decide("a", name, lambda: next(made)) for name in ("rows", "precision", "rows")] == [0, 1, 0]
    assert RunFolder(tmp_path).decide("a", "precision", lambda: next(made)) == 1
    assert run.decide("b", "rows", lambda: next(made)) == 2
    assert run.decide("b", "precision", lambda: next(made)) == 3, "what another recipe measured is not taken"
    (tmp_path / "decisions.json").write_text("{}")
    with pytest.raises(IntegrityError, match="is not what was written") as caught:
        run.decide("b", "precision", lambda: next(made))
    assert caught.value.remedy.startswith(f"remove {tmp_path / 'decisions.json'}")


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"a": [[7, 9]]}'])
def test_a_damaged_note_of_fewer_rows_is_written_anew(tmp_path: Path, damaged: bytes) -> None:
    run = RunFolder(tmp_path)
    run.keep_fewer_rows("a", 7, 4)
    (tmp_path / "fewer_rows.json").write_bytes(damaged)
    with pytest.raises(IntegrityError):
        run.fewer_rows("a")
    run.keep_fewer_rows("a", 3, 2)
    assert run.fewer_rows("a") == {3: 2}


def test_fewer_rows_belong_to_what_was_asked_and_to_a_run_that_began(tmp_path: Path) -> None:
    run, data = RunFolder(tmp_path), {"folder": "d", "fingerprint": "f"}
    assert run.fewer_rows("a") == {}
    run.keep_fewer_rows("a", 7, 4)
    run.keep_fewer_rows("b", 2, 1)
    run.keep_fewer_rows("a", 3, 8)
    run.keep_fewer_rows("a", 3, 6)
    assert run.fewer_rows("a") == {3: 6, 7: 4} and run.fewer_rows("b") == {2: 1} and run.fewer_rows("c") == {}
    run.record(step(1))
    run.claim({"seed": 1}, data)
    assert run.fewer_rows("a") == {3: 6, 7: 4}
    (tmp_path / "steps.jsonl").unlink()
    run.claim({"seed": 2}, data)
    assert run.fewer_rows("a") == {}, "nothing was trained: it is a new run"


def test_what_names_a_record_lies_on_the_disk_as_the_record_does(tmp_path: Path, synced: list[int]) -> None:
    run = RunFolder(tmp_path / "runs" / "one")
    with run.lock():
        assert synced == [place.stat().st_ino for place in (tmp_path, tmp_path / "runs")], "two folders were made"
        synced.clear()
        run.record(step(1))
        run.record(Message(1, "info", "said"))
        run.sync()
    named = (run.path / "steps.jsonl", run.path / "events.jsonl", run.path)
    assert synced == [place.stat().st_ino for place in named]
    synced.clear()
    with run.lock():
        assert not synced, "none was made"
