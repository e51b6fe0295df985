"""kill -9 at random moments of training: what is resumed to its end equals what was never stopped, to the bit. Of
preparing: test_kill_prepare.py."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.helpers import (
    SMALL,
    begun,
    command,
    environment,
    hashes,
    killed,
    last_json,
    tilth,
    write_recipe,
    write_texts,
)

pytestmark = pytest.mark.slow

KILLS = 20


def kill_twenty_times(words: list[str], cwd: Path, low: float, high: float, ended: Callable[[], None]) -> None:
    """Kills the command at random moments until twenty kills met it running; `ended` clears away what it finished."""
    draw, kills, tries = random.Random(11), 0, 0
    while kills < KILLS:
        tries += 1
        assert tries < 4 * KILLS, "it ends before it can be killed: make the work longer"
        if killed(begun(words, cwd), draw.uniform(low, high)):
            kills += 1
        else:
            ended()


def test_train_killed_twenty_times(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts")
    recipe = write_recipe(
        tmp_path / "r.yaml",
        "texts",
        train={"steps": 400, "micro_batch": 4, "checkpoint": {"every_steps": 7}, "optimizer": {"lr": 3e-3}},
        evaluate={"every": 40},
    )
    sets = [*SMALL, "model.dropout=0.2"]
    whole = last_json(tilth("train", recipe, "--run", "whole", "--json", cwd=tmp_path, sets=sets))
    assert whole["step"] == 400 and whole["tokens"] > 2 * 45_000, "the run crosses the end of an epoch"
    words = command("train", recipe, "--run", "killed", "--json", sets=sets)

    def ended_early() -> None:
        assert hashes(tmp_path / "whole" / "final") == hashes(tmp_path / "killed" / "final")
        shutil.rmtree(tmp_path / "killed")

    kill_twenty_times(words, tmp_path, 2.0, 5.0, ended_early)
    ended = last_json(tilth("train", recipe, "--run", "killed", "--json", cwd=tmp_path, sets=sets))
    timed = ("run", "seconds", "new_steps", "checkpoint", "forecast")
    assert {k: v for k, v in ended.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}
    assert hashes(tmp_path / "whole" / "final") == hashes(tmp_path / "killed" / "final")
    steps = [line.split(",")[0] for line in (tmp_path / "killed" / "steps.jsonl").read_text().splitlines()]
    assert steps == [f'{{"step": {n}' for n in range(1, 401)], "each step is recorded once"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    write_texts(tmp_path / "texts")
    recipe = write_recipe(tmp_path / "r.yaml", "texts", train={"steps": 300, "checkpoint": {"every_steps": None}})
    whole = last_json(tilth("train", recipe, "--run", "whole", "--json", cwd=tmp_path, sets=SMALL))
    process = subprocess.Popen(
        command("train", recipe, "--run", "stopped", sets=SMALL),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    records = tmp_path / "stopped" / "steps.jsonl"
    while not (records.exists() and records.read_text().count("\n") > 5):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert f"{number.name} at step" in said and "everything is saved" in said and "type the same command" in said
    ended = last_json(tilth("train", recipe, "--run", "stopped", "--json", cwd=tmp_path, sets=SMALL))
    assert ended["train_loss"] == whole["train_loss"]
    assert hashes(tmp_path / "whole" / "final") == hashes(tmp_path / "stopped" / "final")
