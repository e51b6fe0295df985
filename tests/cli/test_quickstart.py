"""The newcomer's command, whole: from the text that came with Python to a report; again; further."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.jobs.helpers import tilth
from tilth.cli.quickstart import next_steps


def test_the_next_steps_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run, result = Path("runs/quickstart"), {"seconds": 100.0}
    assert not any("--data" in command for command in next_steps(run, result)), "there is no text here"
    (tmp_path / "my notes.md").write_text("soil")
    assert any("--data 'my notes.md'" in command for command in next_steps(run, result))
    (tmp_path / "README.md").write_text("rain")
    assert any("--data README.md" in command for command in next_steps(run, result))


@pytest.mark.slow
def test_quickstart_ends_well_says_so_again_and_goes_on(tmp_path: Path) -> None:
    first = tilth("quickstart", "--steps", "3", cwd=tmp_path, OMP_NUM_THREADS="2")
    assert first.returncode == 0, first.stderr
    figures = re.search(r"this model (\d\.\d+), (?:more|fewer) than xz -9e with (\d\.\d+)", first.stdout)
    assert figures is not None, first.stdout
    report = (tmp_path / "runs" / "quickstart" / "report.html").read_text()
    assert all(figure in report for figure in figures.groups()), "the report shows both figures"
    assert "http" not in report
    assert (
        "dropped by deduplicate/exact_duplicate" in first.stdout
        and "tilth generate runs/quickstart --prompt" in first.stdout
    )

    started = time.perf_counter()
    again = tilth("quickstart", cwd=tmp_path, OMP_NUM_THREADS="2")
    assert again.returncode == 0, again.stderr
    assert "It was done before: step 3" in again.stdout and "--minutes" in again.stdout
    assert time.perf_counter() - started < 30, "nothing is done a second time"

    further = tilth("quickstart", "--steps", "5", cwd=tmp_path, OMP_NUM_THREADS="2")
    assert "It was done before" not in further.stdout, further.stderr
    assert "train.steps: 3 -> 5" in further.stderr
    steps = (tmp_path / "runs" / "quickstart" / "steps.jsonl").read_text().splitlines()
    assert len(steps) == 5
