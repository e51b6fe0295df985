"""What a workspace holds that nothing needs any more, and how it is removed.

    unneeded(workspace, keep)      task folders that no dataset refers to, downloads that were refused
    older_datasets(workspace, …)   datasets of the same name that are not the current one
    prune(items)                   removes them, but for datasets that somebody reads

A dataset's manifest names all tasks that led to it. They are not needed to read it, for its files are links; they save
the work when something else changes. What no dataset names is left of recipes that were changed since.

For whoever holds the workspace's lock: tasks are made and read under it. A dataset is read without it, under a shared
lock of its own (`Dataset.held`).
"""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tilth.core.errors import DataError
from tilth.core.files import MANIFEST, read_sealed, remove_whole, storage_errors
from tilth.data.dataset import Dataset, open_dataset


@dataclass(frozen=True, slots=True)
class Unneeded:
    """A folder or file that can go: what it is, and the bytes that its removal sets free."""

    path: Path
    what: str
    size: int


def unneeded(workspace: Path, keep: Iterable[str] = ()) -> list[Unneeded]:
    """Tasks that no dataset refers to, and downloads that were set aside because they were not what was asked for.

    Args:
        keep: names of task folders that are needed besides.
    """
    needed = {*keep}
    for folder in _datasets(workspace):
        needed |= _tasks_of(folder)
    tasks = sorted(path for path in _inside(workspace / "tasks") if path.is_dir() and path.name not in needed)
    wrong = sorted(path for path in (workspace / "downloads").rglob("*.wrong") if path.is_file())
    return [Unneeded(path, "task", _size(path)) for path in tasks] + [
        Unneeded(path, "download", _size(path)) for path in wrong
    ]


def _tasks_of(folder: Path) -> set[str]:
    try:
        return set(open_dataset(folder).facts["tasks"])
    except DataError:
        pass  # damaged, or of another version: its tasks would save the work of making it again
    with contextlib.suppress(DataError, KeyError):
        return set(read_sealed(folder / MANIFEST)["tasks"])
    return set()


def older_datasets(workspace: Path, name: str, current: Dataset) -> list[Unneeded]:
    """The other datasets that were made under this name."""
    pattern = re.compile(re.escape(name) + r"-[0-9a-f]{12}")
    others = (path for path in _datasets(workspace) if pattern.fullmatch(path.name))
    return [Unneeded(path, "dataset", _size(path)) for path in others if path.name != current.folder.name]


def _datasets(workspace: Path) -> list[Path]:
    return sorted(path for path in _inside(workspace / "datasets") if path.is_dir())


def _inside(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else iter(())


def _size(path: Path) -> int:
    """Bytes that are free when it is gone: a file that has another name elsewhere stays on the disk."""
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    states = (file.stat() for file in files)
    return sum(state.st_size for state in states if state.st_nlink == 1)


def prune(items: Iterable[Unneeded]) -> tuple[list[Unneeded], list[Unneeded]]:
    """Removes them; returns what went, and the datasets that stayed because somebody reads them."""
    gone: list[Unneeded] = []
    used: list[Unneeded] = []
    for item in items:
        with storage_errors(item.path):
            stays = item.what == "dataset" and not _remove_dataset(item.path)
            if item.what != "dataset":
                remove_whole(item.path)
        (used if stays else gone).append(item)
    return gone, used


def _remove_dataset(folder: Path) -> bool:
    """False when somebody reads it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):
            file = stack.enter_context((folder / MANIFEST).open("rb"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        remove_whole(folder)
    return True
