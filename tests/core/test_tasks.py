"""Tasks are done once, found again by their inputs, and give the same bytes whoever runs them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tilth.core.chosen_executor import open_executor
from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.core.executors import Call, Executor, ExecutorName, Inline, Processes
from tilth.core.files import hash_file
from tilth.core.tasks import Done, Task, run_chains, run_tasks


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
    with Processes(2) as executor:
        two = run_tasks(tasks(tmp_path / "l2", range(5)), tmp_path / "two", executor, watch)
    assert [d.folder.name for d in one] == [d.folder.name for d in two]
    for a, b in zip(one, two, strict=True):
        assert {p.name: hash_file(p) for p in a.folder.iterdir()} == {p.name: hash_file(p) for p in b.folder.iterdir()}
    assert seen == [(n, 5) for n in range(1, 6)]
    assert str(os.getpid()) not in (tmp_path / "l2").read_text(), "the work was done by others"


@pytest.mark.parametrize("executor", [Inline(), Processes(2)])
def test_a_tasks_error_comes_back_as_it_is(tmp_path: Path, executor: Executor) -> None:
    with executor, pytest.raises(DataError, match="the value 7 is bad") as caught:
        run_tasks([Task("refuse", refuse, {}, n) for n in range(2)], tmp_path, executor)
    assert caught.value.remedy == "use 8"
    assert not list(tmp_path.glob("tasks/*")), "nothing half-made is left"


def test_a_killed_worker_is_told_and_finished_work_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_tasks(tasks(log, range(2)), tmp_path)
    bad = [Task("die", die, {}, n) for n in range(2)]
    with Processes(2) as executor, pytest.raises(DataError, match="a worker process ended"):
        run_tasks([*tasks(log, range(2)), *bad], tmp_path, executor)
    assert all(done.reused for done in run_tasks(tasks(log, range(2)), tmp_path))


def count(folder: Path, items: Iterator[int] | None, most: int, log: str) -> Generator[int, None, dict[str, Any]]:
    """The first link of a chain: numbers."""
    with Path(log).open("a") as file:
        file.write("count\n")
    (folder / "most.txt").write_text(str(most))
    yield from range(most)
    return {"most": most}


def add(
    folder: Path, items: Iterator[int] | None, before: list[Path], number: int, log: str
) -> Generator[int, None, dict[str, Any]]:
    """A further link: each number plus `number`; on its own it reads what the links before it left."""
    with Path(log).open("a") as file:
        file.write(f"add {number}\n")
    if items is None:
        most, *added = before
        shift = sum(int((path / "added.txt").read_text()) for path in added)
        items = iter(range(shift, shift + int((most / "most.txt").read_text())))
    total = 0
    (folder / "added.txt").write_text(str(number))
    for item in items:
        total += item + number
        yield item + number
    return {"total": total}


def chain(workspace: Path, log: Path, most: int, numbers: list[int]) -> list[Task]:
    tasks = [Task("count", count, {"most": most, "log": str(log)}, most)]
    for number in numbers:
        before = [task.folder(workspace) for task in tasks]
        arguments = {"before": before, "number": number, "log": str(log)}
        tasks.append(Task("add", add, arguments, [tasks[-1].key, number]))
    return tasks


def test_a_chain_is_one_pass_and_only_its_end_is_done_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = run_chains([chain(tmp_path, log, 4, [10, 20])], tmp_path)[0]
    assert [done.facts.get("total") for done in first] == [None, 46, 126]
    assert not any(done.reused for done in first)
    log.unlink()
    changed = run_chains([chain(tmp_path, log, 4, [10, 30])], tmp_path)[0]
    assert [done.reused for done in changed] == [True, True, False]
    assert changed[-1].facts["total"] == 166 and log.read_text() == "add 30\n"


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("damaged", [(0, 2), (1, 2), (1, 3), (0, 1, 2, 3)])
def test_all_damaged_results_of_a_chain_are_made_again_at_once(
    tmp_path: Path, damaged: tuple[int, ...], verify: bool
) -> None:
    names, tasks = ("most", *["added"] * 3), chain(tmp_path, tmp_path / "log", 4, [10, 20, 30])
    first = run_chains([tasks], tmp_path)[0]
    whole = hashes(tmp_path / "tasks")
    for place in damaged:
        file = first[place].folder / f"{names[place]}.txt"
        file.write_text("9" * file.stat().st_size if verify else "")  # only its hash says so, or its size too
    again = run_chains([tasks], tmp_path, verify=verify)[0]
    assert hashes(tmp_path / "tasks") == whole
    assert [done.reused for done in again] == [place < damaged[0] for place in range(4)]
    assert [done.facts for done in again] == [done.facts for done in first]


def test_a_result_that_is_damaged_while_others_are_made_is_told(tmp_path: Path) -> None:
    def spoil(done: Done, finished: int, total: int) -> None:
        (second.folder(tmp_path) / "out.txt").write_text("of another size")

    first, second = tasks(tmp_path / "log", range(2))
    with pytest.raises(IntegrityError, match=r"out\.txt is .*, though it has just been made") as caught:
        run_tasks([first, second], tmp_path, Late(), spoil, verify=True)
    assert "the same command" in caught.value.remedy
    assert not any(done.reused for done in run_tasks([second], tmp_path, verify=True))


class Late(Executor):
    """Says that calls have ended when all have."""

    def run(self, function: Call, arguments: Sequence[tuple[Any, ...]]) -> Iterator[int]:
        for values in arguments:
            function(*values)
        yield from range(len(arguments))

    def close(self) -> None:
        """Nothing is held."""


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hash_file(path) for path in folder.rglob("*") if path.is_file()}


def test_a_chain_that_fails_leaves_nothing_half_made(tmp_path: Path) -> None:
    tasks = chain(tmp_path, tmp_path / "log", 4, [10])
    bad = Task("fail", fail, {}, [tasks[-1].key])
    with pytest.raises(DataError, match="item 11 is bad"):
        run_chains([[*tasks, bad]], tmp_path)
    assert not list((tmp_path / "tasks").iterdir())


def fail(folder: Path, items: Iterator[int]) -> Generator[int, None, dict[str, Any]]:
    for item in items:
        if item == 11:
            raise DataError("item 11 is bad", "leave it out")
        yield item
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["processes", "ray"])
def test_every_executor_gives_the_same_bytes_and_errors(tmp_path: Path, name: ExecutorName) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    log = tmp_path / "log"
    run_chains([chain(here, log, n, [n, 2]) for n in range(1, 5)], here)
    seen: list[tuple[str, int, int]] = []
    with open_executor(name, 2) as executor:
        tasks = [chain(there, log, n, [n, 2]) for n in range(1, 5)]
        run_chains(tasks, there, executor, lambda done, n, total: seen.append((done.task.kind, n, total)))
        with pytest.raises(DataError, match="the value 7 is bad") as caught:
            run_tasks([Task("refuse", refuse, {}, n) for n in range(2)], there, executor)
    assert caught.value.remedy == "use 8"
    both = [{p.relative_to(root): hash_file(p) for p in root.rglob("*") if p.is_file()} for root in (here, there)]
    assert both[0] == both[1] and len(both[0]) > 20
    assert ("count", 4, 4) in seen and ("add", 8, 8) in seen


def test_a_ray_cluster_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(RecipeError, match=r"cannot be reached.*refused") as caught:
            open_executor("ray", 2)
    assert "--executor processes" in caught.value.remedy


NOTE = """
import ray
from pathlib import Path
def note(name):
    (Path({folder!r}) / name).write_text(ray.get_runtime_context().gcs_address)
"""
# A script that is in a cluster already. Killed instead of aborted, as Ray does to itself, for want of a core file.
ON_RAY = """
import os, signal, sys
from pathlib import Path
import ray
from tilth.core.errors import DataError, RecipeError
from tilth.core.chosen_executor import open_executor
from on_ray import note
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
before = signal.getsignal(signal.SIGTERM)
with open_executor("ray", 2) as executor:
    list(executor.run(note, [("first",)]))
    try:
        list(executor.run(os.kill, [(executor._driver.process.pid, signal.SIGKILL)]))
    except DataError as error:
        assert "has ended (signal SIGKILL)" in error.message, error
    else:
        sys.exit("the death of the driver was not told")
    list(executor.run(note, [("second",)]))
assert ray.is_initialized() and signal.getsignal(signal.SIGTERM) == before
here = ray.get_runtime_context().gcs_address
assert Path("first").read_text() == Path("second").read_text() == here
"""


@pytest.mark.slow
def test_the_death_of_rays_driver_is_an_error_and_the_callers_cluster_is_used(tmp_path: Path) -> None:
    (tmp_path / "on_ray.py").write_text(NOTE.format(folder=str(tmp_path)))
    assert in_a_process(ON_RAY, tmp_path)[:2] == (0, "")


INTERRUPTED = """
import os, signal, time
from pathlib import Path
from multiprocessing import forkserver
from tilth.core.executors import warm_up
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
warm_up("slow")
while not Path("began").exists():
    time.sleep(0.01)
os.killpg(0, signal.SIGINT)
while not Path("ended").exists():
    time.sleep(0.01)
    assert os.waitpid(forkserver._forkserver._forkserver_pid, os.WNOHANG) == (0, 0), "the server has ended"
assert heard == [1]
"""


def test_ctrl_c_does_not_reach_the_server_while_it_imports(tmp_path: Path) -> None:
    slow = "from pathlib import Path\nimport time\nPath('began').touch()\ntime.sleep(0.3)\nPath('ended').touch()\n"
    (tmp_path / "slow.py").write_text(slow)
    assert in_a_process(INTERRUPTED, tmp_path) == (0, "", "")


UNSERVED = """
import os, signal, sys, threading
from multiprocessing import forkserver
from tilth.core.errors import DataError
from tilth.core.executors import Processes, warm_up
warm_up()
server = forkserver._forkserver._forkserver_pid
os.kill(server, signal.SIGSTOP)  # it is there, and asked for workers, before it ends
threading.Timer(0.2, os.kill, (server, signal.SIGKILL)).start()
with Processes(2) as executor:
    try:
        list(executor.run(print, [(1,), (2,)]))
    except DataError as error:
        sys.exit(error.exit_code if "a worker process ended" in error.message else 1)
"""


def test_the_death_of_the_server_before_it_has_made_workers_is_told(tmp_path: Path) -> None:
    assert in_a_process(UNSERVED, tmp_path) == (3, "", "")


ARRAYS = """
import os, sys
from pathlib import Path
import numpy
class Last:
    def __del__(self):
        print("taken apart", file=sys.stderr)
last = Last()
Path("threads").write_text(str(len(os.listdir("/proc/self/task"))))
"""
SERVED = """
import os
from multiprocessing import forkserver
from tilth.core.executors import process_pool, warm_up
warm_up("arrays")
with process_pool(1) as pool:
    assert pool.submit(os.getenv, "OPENBLAS_NUM_THREADS").result() == os.environ.get("OPENBLAS_NUM_THREADS")
server = forkserver._forkserver._forkserver_pid
os.close(forkserver._forkserver._forkserver_alive_fd)
assert os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) == 0
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted there")
@pytest.mark.parametrize("threads", [None, "2"])
def test_the_server_of_workers_holds_no_thread_and_leaves_at_once(
    tmp_path: Path, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "arrays.py").write_text(ARRAYS)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if threads:  # whoever asks for them gets them
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    assert in_a_process(SERVED, tmp_path) == (0, "", "")
    assert (tmp_path / "threads").read_text() == (threads or "1")


def in_a_process(script: str, folder: Path) -> tuple[int, str, str]:
    """Exit status, output and errors of a script that finds the modules of `folder`, in a session of its own."""
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr
