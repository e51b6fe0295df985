"""kill -9 at random moments of training: what is resumed to its end equals what was never stopped, to the bit. Of
preparing: test_kill_prepare.py."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.jobs.conftest import Cli
from tests.jobs.forked import Forked
from tests.jobs.helpers import SMALL, hashes, killed, last_json, tilth, write_recipe, write_texts
from tilth.core.rundir import RunFolder

pytestmark = pytest.mark.slow

KILLS = 20
STEPS = 240
MOST_STEPS = 18
"""Of a sitting, before the kill: by steps and not by the clock, for machines differ."""


def started(sets: list[str], run: Path, steps: int) -> Forked:
    """Starts the command, and waits for so many steps of its own: before the first a kill meets nothing but imports."""
    before = set(records(run))
    process = Forked("train", "r.yaml", "--run", run.name, "--json", cwd=run.parent, sets=sets)
    while process.poll() is None and len(set(records(run)) - before) < steps:
        time.sleep(0.005)
    return process


def records(run: Path) -> list[str]:
    """The whole lines of steps.jsonl; no two sittings write the same, for times stand in them."""
    path = run / "steps.jsonl"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def went_on_from(run: Path) -> int:
    """The step after which the last sitting went on; 0 where it began the run."""
    said = re.findall(r'"(?:starting|going on after step (\d+)): ', (run / "events.jsonl").read_text())
    return int(said[-1] or 0)


def test_train_killed_twenty_times(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=60)
    write_recipe(
        tmp_path / "r.yaml",
        "texts",
        train={"steps": STEPS, "micro_batch": 6, "checkpoint": {"every_steps": 5}, "optimizer": {"lr": 3e-3}},
        evaluate={"every": 24},
    )
    sets = [*SMALL, "model.dropout=0.2"]
    whole = last_json(tilth("train", "r.yaml", "--run", "whole", "--json", cwd=tmp_path, sets=sets))
    assert whole["step"] == STEPS and whole["tokens"] > 2 * 29_500, "the run crosses the end of an epoch"
    run = tmp_path / "killed"
    draw, begun_at, steps_done = random.Random(11), list[int](), list[int]()
    while len(begun_at) < KILLS:
        if killed(started(sets, run, draw.randint(1, MOST_STEPS)), draw.uniform(0, 0.05)):
            begun_at.append(went_on_from(run))
            steps_done.append(RunFolder(run).last_step() - begun_at[-1])
        else:
            assert hashes(tmp_path / "whole" / "final") == hashes(run / "final")
            shutil.rmtree(run)
    assert min(steps_done) > 0, "each kill met a sitting that trained"
    assert sum(step > 0 for step in begun_at) >= KILLS // 2, "most went on from a checkpoint"
    assert len(set(begun_at)) > 5 and max(begun_at) > STEPS // 4, "and from several, far into the run"
    ended = last_json(tilth("train", "r.yaml", "--run", "killed", "--json", cwd=tmp_path, sets=sets))
    timed = ("run", "seconds", "new_steps", "checkpoint", "forecast")
    assert {k: v for k, v in ended.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}
    assert hashes(tmp_path / "whole" / "final") == hashes(tmp_path / "killed" / "final")
    steps = [line.split(",")[0] for line in records(run)]
    assert steps == [f'{{"step": {n}' for n in range(1, STEPS + 1)], "each step is recorded once"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, cli: Cli, number: signal.Signals) -> None:
    write_texts(tmp_path / "texts", documents=60)
    recipe = write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 60, "checkpoint": {"every_steps": None}})
    whole = cli("train", recipe, "--run", "whole", "--json", sets=SMALL).json()
    process = Forked("train", recipe, "--run", "stopped", cwd=tmp_path, sets=SMALL)
    while len(records(tmp_path / "stopped")) <= 5:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert f"{number.name} at step" in said and "everything is saved" in said and "type the same command" in said
    ended = cli("train", recipe, "--run", "stopped", "--json", sets=SMALL).json()
    assert ended["train_loss"] == whole["train_loss"]
    assert hashes(tmp_path / "whole" / "final") == hashes(tmp_path / "stopped" / "final")
