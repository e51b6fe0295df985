"""Content-addressed tasks: done once, found again by what went into them, redone only when that changes.

    Task                  a function of its arguments alone that fills a folder
    run_tasks(tasks)      runs what is missing of tasks that do not depend on each other
    run_chains(chains)    runs what is missing of chains of tasks, each of which takes up what the one before it gives

A task's folder carries the fingerprint of the function's version and of the identity of all inputs in its name, so a
finished task is recognised by its name, and a half-finished one has none. Where it lies is known before it is run. Who
runs it (executors.py) decides nothing about the bytes, and results come back in the order of the plan.

The functions of a chain are generators: `function(folder, items, **arguments)` gives items on to the next task, and
returns its facts. So one pass over the input makes all folders of a chain. `items` is None for the first that is
missing: it then reads what the folder before it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilth.core import progress
from tilth.core.config import fingerprint
from tilth.core.errors import IntegrityError
from tilth.core.executors import Executor, Inline
from tilth.core.files import new_folder, read_manifest, remove_whole, verify_manifest


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        kind: the function's name in the workspace, for example `clean`.
        function: a module-level function (folder, **arguments) -> facts, which go into the folder's manifest; in a
            chain a generator function (folder, items, **arguments) that returns them.
        arguments: what it is called with.
        identity: plain data that decides the result: configuration and hashes of inputs, no paths and no times.
        version: raised when the function's result changes for the same identity.
    """

    kind: str
    function: Callable[..., Any]
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
"""Called with each finished task, how many of its kind are finished, and how many there are."""


def run_tasks(
    tasks: Sequence[Task],
    workspace: Path,
    executor: Executor | None = None,
    on_done: OnDone | None = None,
    *,
    verify: bool = False,
) -> list[Done]:
    """Runs what is not there yet of tasks that do not depend on each other; results stand in their order.

    A task's TilthError is raised as it is.

    Args:
        executor: who does the work (default: this process).
        verify: compare the hashes of what is there, not its sizes alone; what was altered is made again.
    """
    singles = _Plan([[task] for task in tasks], workspace, on_done)
    return [done for chain in singles.run(executor or Inline(), run_one, verify) for done in chain]


def run_chains(
    chains: Sequence[Sequence[Task]],
    workspace: Path,
    executor: Executor | None = None,
    on_done: OnDone | None = None,
    *,
    verify: bool = False,
) -> list[list[Done]]:
    """Runs what is not there yet of chains that do not depend on each other; results stand as the tasks do.

    Of a chain everything from the first missing task on is made, in one pass.
    """
    return _Plan(chains, workspace, on_done).run(executor or Inline(), run_chain, verify)


class _Plan:
    """Chains of tasks, and how many of each kind are finished."""

    def __init__(self, chains: Sequence[Sequence[Task]], workspace: Path, on_done: OnDone | None) -> None:
        self.chains, self.workspace, self.on_done = chains, workspace, on_done
        self.totals = Counter(task.kind for chain in chains for task in chain)
        self.finished: Counter[str] = Counter()
        self.results: list[list[Done]] = [[] for _ in chains]

    def run(self, executor: Executor, function: Callable[..., None], verify: bool) -> list[list[Done]]:
        progress.plan(self.totals)
        there = [self._there(chain, verify) for chain in self.chains]
        missing = [index for index, chain in enumerate(self.chains) if len(there[index]) < len(chain)]
        for index in sorted(set(range(len(self.chains))) - set(missing)):
            self._finish(index, there[index])
        jobs = [(list(self.chains[index][len(there[index]) :]), self.workspace) for index in missing]
        for place in executor.run(function, jobs):
            index = missing[place]
            made = [_made(task, self.workspace) for task in self.chains[index][len(there[index]) :]]
            self._finish(index, there[index] + made)
        return self.results

    def _there(self, chain: Sequence[Task], verify: bool) -> list[Done]:
        """The tasks at the beginning of a chain that are done. All of it is looked through: a damaged result behind a
        missing one must not be there when it is made again.
        """
        there: list[Done] = []
        for done in [_find(task, self.workspace, verify) for task in chain]:
            if done is None:
                break
            there.append(done)
        return there

    def _finish(self, index: int, results: list[Done]) -> None:
        self.results[index] = results
        for done in results:
            kind = done.task.kind
            self.finished[kind] += 1
            if self.on_done is not None:
                self.on_done(done, self.finished[kind], self.totals[kind])


def _find(task: Task, workspace: Path, verify: bool) -> Done | None:
    folder = task.folder(workspace)
    if not folder.exists():
        return None
    try:
        return Done(task, folder, (verify_manifest if verify else read_manifest)(folder), reused=True)
    except IntegrityError:
        remove_whole(folder)  # a derived result that is not whole: it is made again from its inputs
        return None


def _made(task: Task, workspace: Path) -> Done:
    """What was made just now, and hashed as it was written: its files are not read again."""
    folder = task.folder(workspace)
    try:
        return Done(task, folder, read_manifest(folder), reused=False)
    except IntegrityError as error:
        raise IntegrityError(
            f"{error.message}, though it has just been made",
            "see that nothing else writes there, and that the disk is sound; then type the same command",
        ) from error


def run_one(tasks: Sequence[Task], workspace: Path) -> None:
    """What an executor runs for a task that stands alone."""
    [task] = tasks
    facts = _first_facts(task)
    final = task.folder(workspace)
    with progress.counted(workspace, final.name), new_folder(final, facts, replace_damaged=True) as folder:
        facts.update(task.function(folder, **task.arguments))


def run_chain(tasks: Sequence[Task], workspace: Path) -> None:
    """What an executor runs for the missing end of a chain."""
    with progress.counted(workspace, tasks[0].folder(workspace).name, len(tasks)), ExitStack() as folders:
        items: Iterator[Any] | None = None
        for task in tasks:
            facts = _first_facts(task)
            folder = folders.enter_context(new_folder(task.folder(workspace), facts, replace_damaged=True))
            items = _with_facts(task.function(folder, items, **task.arguments), facts)
        for _ in items or ():
            pass


def _first_facts(task: Task) -> dict[str, Any]:
    return {"kind": task.kind, "key": task.key}


def _with_facts(items: Generator[Any, None, dict[str, Any]], facts: dict[str, Any]) -> Iterator[Any]:
    facts.update((yield from items))
