"""Progress: what work counts is seen by who watches, here and in worker processes, and stops nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tilth.core import progress
from tilth.core.executors import Executor, Inline, Processes
from tilth.core.progress import Board, Running
from tilth.core.tasks import Task, run_chains, run_tasks

pytestmark = pytest.mark.slow


def wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"nobody made {path}")


def slow(folder: Path, number: int, go: Path) -> dict[str, Any]:
    """A task that stops half way until it is seen there."""
    progress.expect(100)
    progress.advance(10)
    time.sleep(0.6)  # longer than a task keeps its counts to itself
    progress.advance(40)
    wait_for(go)
    (folder / "made").write_text(str(number))
    return {}


def link(folder: Path, items: Iterator[int] | None, number: int, go: Path) -> Any:
    del folder
    for item in range(4) if items is None else items:
        if number == 0:
            progress.expect(4)
            time.sleep(0.3)
            progress.advance(1)
        if item == 3:
            wait_for(go)
        yield item
    return {}


def watched(workspace: Path, run: Any, enough: Any) -> tuple[list[Running], Board]:
    """Runs while a thread waits for the board to show enough, and then lets the tasks end."""
    board, seen = Board(), list[Running]()

    def watch() -> None:
        for _ in range(3000):
            running = board.running()
            if enough(running):
                seen.extend(running)
                break
            time.sleep(0.01)
        (workspace / "go").touch()

    thread = threading.Thread(target=watch)
    with board.watching(workspace):
        thread.start()
        run()
        thread.join()
    return seen, board


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_are_seen_half_way_wherever_they_run(tmp_path: Path, workers: int) -> None:
    tasks = [Task("slow_kind", slow, {"number": n, "go": tmp_path / "go"}, n) for n in range(workers)]
    executor: Executor = Processes(workers) if workers > 1 else Inline()
    with executor:
        seen, board = watched(
            tmp_path,
            lambda: run_tasks(tasks, tmp_path, executor),
            lambda running: len(running) == workers and all(one.share == 0.5 for one in running),
        )
    assert seen == [Running("slow_kind", 50, 100, 1)] * workers
    assert board.running() == [] and not (tmp_path / progress.FOLDER).exists()
    assert board.planned == {"slow_kind": workers}


def test_a_chain_counts_as_all_its_tasks(tmp_path: Path) -> None:
    chain = [Task(f"kind{n}", link, {"number": n, "go": tmp_path / "go"}, n) for n in range(3)]
    seen, _ = watched(tmp_path, lambda: run_chains([chain], tmp_path), lambda running: running and running[0].done >= 2)
    [one] = seen
    assert (one.kind, one.total, one.tasks) == ("kind0", 4, 3) and 0.5 <= one.share <= 1


def test_a_result_does_not_depend_on_who_watches(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    task = Task("slow_kind", slow, {"number": 1, "go": tmp_path / "go"}, 1)
    with Board().watching(tmp_path / "a"):
        run_tasks([task], tmp_path / "a")
    run_tasks([task], tmp_path / "b")
    name = task.folder(Path()).name
    a, b = (tmp_path / place / "tasks" / name / "manifest.json" for place in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_what_a_killed_task_left_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / progress.FOLDER).mkdir()
    (tmp_path / progress.FOLDER / "collect-0-1").write_bytes(b"\0" * 24)
    board = Board()
    with board.watching(tmp_path):
        assert board.running() == []
        (tmp_path / progress.FOLDER / "collect-0-1").write_bytes(b"half")  # it is being written
        assert board.running() == []


def test_a_folder_that_cannot_be_written_stops_no_work(tmp_path: Path) -> None:
    (tmp_path / progress.FOLDER).write_text("in the way")
    with Board().watching(tmp_path), progress.counted(tmp_path, "collect-0"):
        progress.advance(1)
    assert (tmp_path / progress.FOLDER).read_text() == "in the way"


def test_bytes_are_counted_beside_pages_and_never_as_pages() -> None:
    with progress.measured("crawling", "a", "page", 10) as meter:
        progress.expect(5000)
        progress.advance(700)
        progress.reach(9)
        meter.had(2)
        meter.add(1, 50)
    assert (meter.done, meter.before, meter.size, meter.total) == (3, 2, 750, 10) and meter.ended is not None


def test_a_reader_that_jumps_is_put_right_at_the_end() -> None:
    with progress.measured("reading", "a") as meter:
        progress.advance(700)
        progress.reach(500)
        progress.advance(1)
    progress.advance(1)  # nothing is under way any more
    assert meter.done == meter.size == 501
