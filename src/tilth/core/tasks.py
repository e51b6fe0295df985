"""Content-addressed tasks: done once, found again by what went into them, redone only when that changes.

A `Task` is a function of its arguments alone that fills a folder. The folder's name carries the fingerprint of the
function's version and of the identity of all inputs, so a finished task is recognised by its name, and a
half-finished one has none. `run_tasks` runs what is missing, inline or in worker processes; results come back in the
order of the tasks, and their bytes do not depend on who made them.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilth.core.config import fingerprint
from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import disk, new_folder, read_manifest, verify_manifest


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        kind: the function's name in the workspace, for example `clean`.
        function: a module-level function (folder, **arguments) -> facts, which go into the folder's manifest.
        arguments: what it is called with.
        identity: plain data that decides the result: configuration and hashes of inputs, no paths and no times.
        version: raised when the function's result changes for the same identity.
    """

    kind: str
    function: Callable[..., dict[str, Any]]
    arguments: dict[str, Any]
    identity: Any
    version: int = 1

    @property
    def key(self) -> str:
        """The fingerprint of everything that decides the result."""
        return fingerprint([self.kind, self.version, self.identity])

    def folder(self, workspace: Path) -> Path:
        """Where the result stands when it is there."""
        return workspace / "tasks" / f"{self.kind}-{self.key[:20]}"


@dataclass(frozen=True)
class Done:
    """A finished task: its folder, the facts of its manifest, and whether it had been done before."""

    task: Task
    folder: Path
    facts: dict[str, Any] = field(repr=False)
    reused: bool


OnDone = Callable[[Done, int, int], None]


def run_tasks(
    tasks: Sequence[Task], workspace: Path, workers: int = 1, on_done: OnDone | None = None, *, verify: bool = False
) -> list[Done]:
    """Runs what is not there yet; results stand in the order of `tasks`. A task's TilthError is raised as it is.

    Args:
        verify: compare the hashes of what is there, not its sizes alone; what was altered is made again.
    """
    results: dict[int, Done] = {}

    def finish(index: int, done: Done) -> None:
        results[index] = done
        if on_done is not None:
            on_done(done, len(results), len(tasks))

    missing = []
    for index, task in enumerate(tasks):
        done = _find(task, workspace, verify)
        if done is None:
            missing.append(index)
        else:
            finish(index, done)
    workers = min(workers, len(missing))
    run = _run_inline if workers <= 1 else _run_in_processes
    for index in run([(index, tasks[index]) for index in missing], workspace, workers):
        done = _find(tasks[index], workspace)
        assert done is not None, "a task that ended well has left its folder"
        finish(index, Done(done.task, done.folder, done.facts, reused=False))
    return [results[index] for index in range(len(tasks))]


def _find(task: Task, workspace: Path, verify: bool = False) -> Done | None:
    folder = task.folder(workspace)
    if not folder.exists():
        return None
    try:
        return Done(task, folder, (verify_manifest if verify else read_manifest)(folder), reused=True)
    except IntegrityError:
        disk.remove(folder)  # a derived result that is not whole: it is made again from its inputs
        return None


def _run_one(task: Task, workspace: Path) -> None:
    facts: dict[str, Any] = {"kind": task.kind, "key": task.key}
    with new_folder(task.folder(workspace), facts) as folder:
        facts.update(task.function(folder, **task.arguments))


def _run_inline(tasks: list[tuple[int, Task]], workspace: Path, workers: int) -> Iterator[int]:
    for index, task in tasks:
        _run_one(task, workspace)
        yield index


def _run_in_processes(tasks: list[tuple[int, Task]], workspace: Path, workers: int) -> Iterator[int]:
    # spawn, not fork: the parent may hold threads (Arrow, BLAS), and a forked lock never opens again.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)) as pool:
        with _without_main():
            futures: dict[Future[None], int] = {pool.submit(_run_one, task, workspace): index for index, task in tasks}
        try:
            while futures:
                finished, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    yield futures.pop(future)
        except BrokenProcessPool:
            raise DataError(
                "a worker process ended without a word (killed, or out of memory)",
                "type the same command to go on: finished tasks are kept; with less memory use --workers 1",
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hides the main module from spawned workers: they need nothing of it, and must not run a user's script again."""
    names: dict[str, Any] = vars(sys.modules["__main__"])
    hidden = {name: names.pop(name) for name in ("__file__", "__spec__") if name in names}
    names["__spec__"] = None
    try:
        yield
    finally:
        for name, value in hidden.items():
            names[name] = value


def _start_worker(parent: int) -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)
