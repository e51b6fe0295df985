"""Tasks are done once, found again by their inputs, and give the same bytes whoever runs them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tilth.core.errors import DataError
from tilth.core.files import hash_file
from tilth.core.tasks import Done, Task, run_tasks


def double(folder: Path, number: int, log: str) -> dict[str, Any]:
    (folder / "out.txt").write_text(str(2 * number))
    with Path(log).open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    return {"number": number}


def refuse(folder: Path) -> dict[str, Any]:
    raise DataError("the value 7 is bad", "use 8")


def die(folder: Path) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def tasks(log: Path, numbers: range, version: int = 1) -> list[Task]:
    return [Task("double", double, {"number": n, "log": str(log)}, {"number": n}, version) for n in numbers]


def runs(log: Path) -> list[int]:
    return sorted(int(line.split()[0]) for line in log.read_text().splitlines())


def test_only_what_is_missing_is_done(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = run_tasks(tasks(log, range(3)), tmp_path)
    assert [done.facts["number"] for done in first] == [0, 1, 2] and not any(done.reused for done in first)
    again = run_tasks(tasks(log, range(4)), tmp_path)
    assert [done.reused for done in again] == [True, True, True, False]
    assert runs(log) == [0, 1, 2, 3]
    run_tasks(tasks(log, range(1), version=2), tmp_path)
    assert runs(log) == [0, 0, 1, 2, 3], "a new version is done anew"


def test_a_damaged_result_is_done_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    [done] = run_tasks(tasks(log, range(1)), tmp_path)
    (done.folder / "out.txt").write_text("")
    [done] = run_tasks(tasks(log, range(1)), tmp_path)
    assert (done.folder / "out.txt").read_text() == "0" and runs(log) == [0, 0]


def test_processes_give_the_same_bytes_in_the_same_order(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def watch(done: Done, finished: int, total: int) -> None:
        seen.append((finished, total))

    one = run_tasks(tasks(tmp_path / "l1", range(5)), tmp_path / "one")
    two = run_tasks(tasks(tmp_path / "l2", range(5)), tmp_path / "two", workers=2, on_done=watch)
    assert [d.folder.name for d in one] == [d.folder.name for d in two]
    for a, b in zip(one, two, strict=True):
        assert {p.name: hash_file(p) for p in a.folder.iterdir()} == {p.name: hash_file(p) for p in b.folder.iterdir()}
    assert seen == [(n, 5) for n in range(1, 6)]
    assert str(os.getpid()) not in (tmp_path / "l2").read_text(), "the work was done by others"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tasks_error_comes_back_as_it_is(tmp_path: Path, workers: int) -> None:
    with pytest.raises(DataError, match="the value 7 is bad") as caught:
        run_tasks([Task("refuse", refuse, {}, n) for n in range(2)], tmp_path, workers)
    assert caught.value.remedy == "use 8"
    assert not list(tmp_path.glob("tasks/*")), "nothing half-made is left"


def test_a_killed_worker_is_told_and_finished_work_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_tasks(tasks(log, range(2)), tmp_path)
    bad = [Task("die", die, {}, n) for n in range(2)]
    with pytest.raises(DataError, match="a worker process ended"):
        run_tasks([*tasks(log, range(2)), *bad], tmp_path, workers=2)
    assert all(done.reused for done in run_tasks(tasks(log, range(2)), tmp_path))
