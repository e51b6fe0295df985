"""Memory that is refused on the way: kill -9 around it, to one of two processes, and by a machine that has no more."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.jobs import forked
from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, hashes, last_json, write_recipe, write_texts
from tests.jobs.test_distributed import assert_quiet, assert_same

pytestmark = pytest.mark.slow

SHORT = """
import json, os, resource, signal
import numpy.random, torch  # what is loaded later on finds no room
from tilth.cli import main
from tilth.core.rundir import RunFolder
from tilth.evaluation import evaluator
from tilth.training import step as step_module, trainer

room = {int(step): rows for step, rows in json.loads(os.environ.get("ROOM", "{}")).items()}
kill, spare = os.environ.get("KILL", ""), int(os.environ.get("SPARE", "0"))
short = os.environ.get("RANK", "0") == os.environ.get("SHORT", "0")
accumulate, summed_loss, keep = trainer.accumulate, step_module.summed_loss, RunFolder.keep_fewer_rows
now = []
evaluated, of_evaluation = evaluator._batch_sums, int(os.environ.get("EVALUATES", 1 << 30))

def looked_at(model, batch, *rest):
    if short and len(batch.input_ids) > of_evaluation:
        raise MemoryError("Unable to allocate 8.00 GiB")
    return evaluated(model, batch, *rest)

def counted(*parts, step, **how):
    now[:] = [step]
    if kill == f"step {step}":
        os.kill(os.getpid(), signal.SIGKILL)
    if spare and resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY:
        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (held + spare, held + spare))
    return accumulate(*parts, step=step, **how)

def refuses(hidden, *rest, **how):
    if short and now and len(hidden) > room.get(now[0], 1 << 30):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return summed_loss(hidden, *rest, **how)

def killed(*noted):
    keep(*noted)
    if kill == "noted":
        os.kill(os.getpid(), signal.SIGKILL)

trainer.accumulate, step_module.summed_loss, RunFolder.keep_fewer_rows = counted, refuses, killed
evaluator._batch_sums = looked_at
main.main()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_texts(tmp_path / "texts", documents=60)
    train = {"steps": 12, "micro_batch": 16, "checkpoint": {"every_steps": 4, "keep": 9}, "optimizer": {"lr": 3e-3}}
    write_recipe(tmp_path / "r.yaml", "texts", train=train, evaluate={"every": 20, "batch_tokens": 128})
    (tmp_path / "short.py").write_text(SHORT)
    return tmp_path


def short(place: Path, run: str, sets: list[str], **how: str) -> subprocess.CompletedProcess[str]:
    return forked.forked("train", "r.yaml", "--run", run, "--json", cwd=place, sets=sets, script="short.py", **how)


def messages(run: Path) -> list[str]:
    lines = (json.loads(line) for line in (run / "events.jsonl").read_text().splitlines())
    return [line["text"] for line in lines if line["kind"] == "message" and line["level"] == "warning"]


def rows_of(run: Path, step: int) -> Any:
    return json.loads((run / "checkpoints" / f"step-{step:08d}" / "state.json").read_text())["micro_rows"]


def test_killed_around_it_the_run_ends_with_the_same_bits(place: Path) -> None:
    sets, room = [*SMALL, "model.dropout=0.2"], json.dumps({5: 3})
    whole = last_json(short(place, "whole", sets, ROOM=room))
    assert rows_of(place / "whole", 12) == 2 and len(messages(place / "whole")) == 3
    assert short(place, "killed", sets, ROOM=room, KILL="noted").returncode == -signal.SIGKILL
    assert short(place, "killed", sets, ROOM=room, KILL="step 7").returncode == -signal.SIGKILL
    assert rows_of(place / "killed", 4) == 16, "the checkpoint to go on from is of before it"
    shutil.copytree(place / "killed", place / "forgets")
    (place / "forgets" / "fewer_rows.json").unlink()
    ended = last_json(short(place, "killed", sets))
    assert ended["train_loss"] == whole["train_loss"] and rows_of(place / "killed", 12) == 2
    assert hashes(place / "killed" / "final") == hashes(place / "whole" / "final")
    last_json(short(place, "forgets", sets))
    assert hashes(place / "forgets" / "final") != hashes(place / "whole" / "final")


def test_a_note_that_cannot_be_read_is_told_and_another_wish_takes_its_place(place: Path, cli: Cli) -> None:
    last_json(short(place, "run", SMALL, ROOM=json.dumps({5: 3})))
    note = place / "run" / "fewer_rows.json"
    for step in (8, 12):
        shutil.rmtree(place / "run" / "checkpoints" / f"step-{step:08d}")
    whole = note.read_text()
    note.write_text(whole.replace("2", "3"))
    done = cli("train", "r.yaml", "--run", "run", sets=SMALL)
    assert done.code == 0
    assert "warning: " in done.err and "fewer_rows.json is not what was written" in done.err
    assert rows_of(place / "run", 12) == 16
    shutil.rmtree(place / "run" / "checkpoints" / "step-00000012")
    again = short(place, "run", SMALL, ROOM=json.dumps({9: 4}))
    assert last_json(again)["step"] == 12 and "fewer_rows.json is not what was written" in again.stderr
    assert rows_of(place / "run", 12) == 4 and note.read_text() != whole, "it is written anew"
    note.write_text(whole)
    shutil.rmtree(place / "run" / "checkpoints" / "step-00000012")
    assert cli("train", "r.yaml", "--run", "run", sets=[*SMALL, "train.micro_batch=8"]).code == 0
    assert rows_of(place / "run", 12) == 8, "what was noted of sixteen rows says nothing of eight"


def test_one_of_two_processes_alone(place: Path, cli: Cli) -> None:
    """The other has done its part of the step by then, and must not wait for it nor add it up."""
    assert cli("train", "r.yaml", "--run", "alone", sets=SMALL).code == 0
    done = both(place, "shared", ROOM=json.dumps({5: 3, 9: 1}), SHORT="1")
    done.json()
    assert_same(place / "alone", place / "shared")
    said = messages(place / "shared")
    assert [re.sub(r"\D+", " ", text).split() for text in said] == [["8", "6", "4"], ["4", "6", "2"], ["2", "10", "1"]]
    assert all("(in another process)" in text for text in said) and rows_of(place / "shared", 12) == 1
    assert_quiet(both(place, "never", ROOM=json.dumps({0: 0}), SHORT="1"), 2, "out of memory with 1 row at once")


def test_an_evaluation_of_one_of_two_processes_alone(place: Path, cli: Cli) -> None:
    assert cli("train", "r.yaml", "--run", "alone", sets=SMALL).code == 0
    own, found = [], []
    for run, how, into in (("plain", {}, own), ("shared", {"EVALUATES": "2", "SHORT": "1"}, found)):
        ended = both(place, run, **how).json()
        into.append(ended["validation_loss"])
        assert_same(place / "alone", place / run)
    assert found == pytest.approx(own, rel=1e-6)
    [said] = messages(place / "shared")
    assert "out of memory in an evaluation (in another process): it went on with at most 2 rows at once" in said
    refused = both(place, "never", EVALUATES="0", SHORT="1")
    assert_quiet(refused, 2, "out of memory in an evaluation, with 1 row at once")
    assert rows_of(place / "never", 12), "all steps are saved"


def both(place: Path, run: str, **how: str) -> forked.Both:
    return forked.both("train", "r.yaml", "--run", run, "--json", cwd=place, sets=SMALL, script="short.py", **how)


LARGE = ["num_hidden_layers=2", "hidden_size=128", "context_length=128"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the size of a process is read from /proc")
def test_an_allocator_that_really_has_no_more(place: Path, cli: Cli) -> None:
    sets = [*SMALL, *(f"model.{value}" for value in LARGE), "train.batch_tokens=8192", "train.micro_batch=64"]
    sets = [*sets, "train.steps=4", "train.checkpoint.best=false"]
    alone = cli("train", "r.yaml", "--run", "alone", "--json", sets=sets).json()
    done = short(place, "short", sets, SPARE=str(150 << 20))
    ended = last_json(done)
    assert "out of memory with 64 rows at once" in done.stderr and rows_of(place / "short", 4) < 64
    assert_same(place / "alone", place / "short")
    assert ended["step"] == alone["step"] == 4
