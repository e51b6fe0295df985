"""The newcomer's command, whole: from the text that came with Python to a report; again; further."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.forked import Forked, forked
from tests.jobs.helpers import tilth
from tests.jobs.test_quickstart_chat import small_library
from tilth.cli.quickstart import next_steps, too_little
from tilth.core.rundir import RunFolder
from tilth.jobs.recipe import load_shipped


def test_the_next_steps_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run, workspace, result = Path("runs/quickstart"), Path("work"), {"seconds": 100.0}
    assert not any("--data" in command for command in next_steps(run, workspace, result)), "there is no text here"
    (tmp_path / "my notes.md").write_text("soil")
    assert any("--data 'my notes.md'" in command for command in next_steps(run, workspace, result))
    (tmp_path / "README.md").write_text("rain")
    assert any("--data README.md" in command for command in next_steps(run, workspace, result))


def test_the_next_steps_name_the_same_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = next_steps(Path("my runs/é"), Path("a disk/work"), {"seconds": 100.0})
    words = {shlex.split(command)[-1]: shlex.split(command) for command in commands}
    assert "my runs/é" in words["def"] and words["my runs/é"][-2] == "evaluate"
    assert words["5"][-6:-2] == ["--run", "my runs/é", "--workspace", "a disk/work"]


def test_a_model_that_learned_little_is_told_with_what_to_type() -> None:
    def told(step: int, seconds: float, below_xz: bool, *sets: str) -> str:
        recipe = load_shipped("quickstart", sets)
        return too_little(recipe, {"step": step, "seconds": seconds}, below_xz, "tilth quickstart --minutes 6")

    assert told(700, 120.3, True) == ""
    slow = "it has learned little in 18 steps in 2:00: this machine is slow, or was busy with other things; tilth quick"
    assert told(18, 120.3, False).startswith(slow) and told(18, 120.3, True).startswith(slow), "within the warm-up"
    assert told(200, 120.3, False).endswith("; tilth quickstart --minutes 6 goes on from here")
    for few in (told(9, 5.0, False), told(9, 500.0, False, "train.hours=null", "train.steps=9")):
        assert "little" in few and "this machine" not in few, "so short a run was asked for"


@pytest.mark.slow
def test_quickstart_ends_well_and_says_so(tmp_path: Path) -> None:
    first = tilth("quickstart", "--steps", "3", cwd=tmp_path, OMP_NUM_THREADS="2")
    assert first.returncode == 0, first.stderr
    figures = re.search(r"this model (\d\.\d+), (?:more|fewer) than xz -9e with (\d\.\d+)", first.stdout)
    assert figures is not None, first.stdout
    report = (tmp_path / "runs" / "quickstart" / "report.html").read_text()
    assert all(figure.rstrip("0") in report for figure in figures.groups()), "the report shows both figures"
    assert "://" not in report, "no network address"
    assert (
        "dropped by deduplicate/exact_duplicate" in first.stdout
        and "tilth generate runs/quickstart --prompt" in first.stdout
    )


FEW_TEXTS = """
import sysconfig
sysconfig.get_path = lambda _: "library"
from tilth.cli.main import main
main()
"""


def quickstart(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command to its end, on the short modules of the library."""
    return forked("quickstart", *words, cwd=folder, script="few.py")


def interrupted(folder: Path, number: signal.Signals, reached: Callable[[], bool]) -> tuple[int, str]:
    """Starts the quickstart and sends it a signal, as a terminal does (to all its processes), once it got so far."""
    process = Forked("quickstart", "--steps", "14", cwd=folder, script="few.py", own_session=True)
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    return process.wait(), said


@pytest.mark.slow
def test_interrupted_while_preparing_and_while_training_it_ends_says_so_again_and_goes_on(tmp_path: Path) -> None:
    small_library(tmp_path / "library")
    (tmp_path / "few.py").write_text(FEW_TEXTS)
    tasks, run = tmp_path / "work" / "tasks", RunFolder(tmp_path / "runs" / "quickstart")

    def prepared(more: int) -> Callable[[], bool]:
        """Whether so many more tasks have been finished."""
        enough = len(list(tasks.glob("[!.]*"))) + more
        return lambda: len(list(tasks.glob("[!.]*"))) >= enough

    def trained(more: int) -> Callable[[], bool]:
        enough = run.last_step() + more
        return lambda: run.last_step() >= enough

    code, said = interrupted(tmp_path, signal.SIGINT, prepared(1))
    assert code == 75 and "type the same command again" in said and "Traceback" not in said
    assert not run.path.exists(), "it was still preparing"
    assert interrupted(tmp_path, signal.SIGKILL, prepared(1))[0] == -signal.SIGKILL
    assert not run.path.exists()
    code, said = interrupted(tmp_path, signal.SIGINT, trained(3))
    assert code == 75 and "SIGINT at step" in said and "everything is saved" in said
    saved = run.last_step()
    assert interrupted(tmp_path, signal.SIGKILL, trained(3))[0] == -signal.SIGKILL
    ended = quickstart(tmp_path, "--steps", "14")
    assert ended.returncode == 0, ended.stderr
    went_on = re.search(r"going on after step (\d+)", ended.stderr)
    assert went_on and int(went_on[1]) >= saved
    assert [record.step for record in run.steps()] == list(range(1, 15))
    assert (run.path / "report.html").exists() and "What to type next" in ended.stdout

    started = time.perf_counter()
    again = quickstart(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "It was done before: step 14" in again.stdout and "--minutes" in again.stdout
    assert time.perf_counter() - started < 30, "nothing is done a second time"

    further = quickstart(tmp_path, "--steps", "16")
    assert "It was done before" not in further.stdout, further.stderr
    assert "train.steps: 14 -> 16" in further.stderr
    assert [record.step for record in run.steps()] == list(range(1, 17))
