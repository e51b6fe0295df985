"""Where tasks of data preparation run, and what the pipeline hands from one group of them to the next.

    Workshop          workspace, executor, who is told
    Cleaned           a part at the end of its way through `clean:`
    Compared          what deduplication found
    content, hash_of  what a finished task left, by its bytes: the identity of whatever is made of it

Tasks that need many parts, or come after such, are named by the content of what they are made of and not by the tasks
that made it: where a stage is changed and leaves the same documents, nothing after it is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tilth.core.config import fingerprint
from tilth.core.executors import Executor, Inline
from tilth.core.tasks import Done, OnDone, Task, run_chains, run_tasks
from tilth.data.tasks.cleaning import DIGESTS
from tilth.data.tasks.examples import EXAMPLES
from tilth.data.tasks.parts import LEDGER, Part


def content(done: Done) -> str:
    """The fingerprint of what a task left for the next one: all its files but those that say what happened."""
    files = done.facts["files"]
    return fingerprint({name: files[name]["sha256"] for name in sorted({*files} - {LEDGER, EXAMPLES})})


def hash_of(done: Done, name: str) -> str:
    """The SHA-256 of a file that a task left."""
    digest: str = done.facts["files"][name]["sha256"]
    return digest


@dataclass(frozen=True)
class Workshop:
    """Where and how tasks run."""

    workspace: Path
    executor: Executor = field(default_factory=Inline)
    on_done: OnDone | None = None
    verify: bool = False
    """Compare the hashes of everything that is there, and make again what was altered."""
    say: Callable[[str], None] = lambda note: None
    """Is told what should be known and is no error."""
    used: set[str] = field(default_factory=set)
    """The names of the folders of all tasks that were run or found."""

    def run(self, tasks: Sequence[Task], *, verify: bool = False) -> list[Done]:
        """Runs what is missing of `tasks`; with `verify` also what was altered."""
        verify = verify or self.verify
        return self._noted(run_tasks(tasks, self.workspace, self.executor, self.on_done, verify=verify))

    def run_one(self, task: Task, *, verify: bool = False) -> Done:
        """Runs a task, if it is missing."""
        return self.run([task], verify=verify)[0]

    def run_chains(self, chains: Sequence[Sequence[Task]]) -> list[list[Done]]:
        """Runs what is missing of chains."""
        results = run_chains(chains, self.workspace, self.executor, self.on_done, verify=self.verify)
        return [self._noted(chain) for chain in results]

    def _noted(self, results: list[Done]) -> list[Done]:
        self.used.update(done.folder.name for done in results)
        return results


@dataclass(frozen=True)
class Cleaned:
    """A part after all stages, and what it is compared by."""

    part: Part
    source: str
    stages: tuple[Done, ...]
    digests: Done
    signatures: Done | None

    @property
    def key(self) -> str:
        """The identity of its documents, in their batches."""
        key: str = self.digests.facts["content"]
        return key

    @property
    def measures(self) -> str:
        """The identity of all that is known of them without their text and meta data."""
        return hash_of(self.digests, DIGESTS)


@dataclass(frozen=True)
class Compared:
    """What deduplication found: documents that stood before, and near-duplicates."""

    exact: Done | None = None
    near: Done | None = None

    @property
    def done(self) -> list[Done]:
        """The tasks that dropped documents."""
        return [done for done in (self.exact, self.near) if done is not None]

    def total(self, key: str) -> int:
        """Documents, characters or bytes that were dropped."""
        return sum(done.facts[key] for done in self.done)
