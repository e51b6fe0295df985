"""The job behind `tilth prepare --prune`: what a workspace holds that nothing needs, counted or removed.

A workspace only grows while recipes change. After `tilth prepare` it is said how much of it no dataset refers to, where
that is much.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tilth.core.errors import IntegrityError
from tilth.core.files import FolderLock, disk, read_sealed
from tilth.data.dataset import Dataset
from tilth.data.tidying import Unneeded, older_datasets, prune, unneeded

Prune = Literal["tasks", "datasets"]


@dataclass(frozen=True)
class Tidied:
    """What is, or was, not needed.

    Attributes:
        left: what no dataset refers to and is still there.
        gone: what was removed.
        used: datasets that stayed because somebody reads them.
    """

    left: list[Unneeded]
    gone: list[Unneeded]
    used: list[Unneeded]

    def summary(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "unneeded": {"folders": len(self.left), "bytes": sum(item.size for item in self.left)},
            "removed": {"folders": len(self.gone), "bytes": sum(item.size for item in self.gone)},
        }


def tidy(workspace: Path, name: str, dataset: Dataset, wanted: Prune | None = None) -> Tidied:
    """Counts what is not needed; removes it where that is wanted.

    Args:
        name: the recipe's. dataset: its current one.
        wanted: `tasks`: task folders that no dataset refers to, and refused downloads; `datasets`: before that, the
            older datasets of this name.
    """
    if wanted is None:
        return Tidied(unneeded(workspace, _kept(workspace)), [], [])
    with FolderLock(workspace, "the workspace"):
        gone, used = prune(older_datasets(workspace, name, dataset)) if wanted == "datasets" else ([], [])
        _forget(workspace)
        more, _ = prune(unneeded(workspace, _kept(workspace)))
        return Tidied([], gone + more, used)


def _records(workspace: Path) -> list[tuple[Path, dict[str, Any]]]:
    records = []
    for path in sorted((workspace / "prepared").glob("*.json")):
        try:
            records.append((path, read_sealed(path)))
        except IntegrityError:
            records.append((path, {}))
    return records


def _stands(workspace: Path, record: dict[str, Any]) -> bool:
    return bool(record) and (workspace / "datasets" / str(record.get("dataset"))).is_dir()


def _kept(workspace: Path) -> set[str]:
    """Tasks that led a recipe to its dataset: others may have led there before, and are named in its manifest."""
    return {task for _, record in _records(workspace) if _stands(workspace, record) for task in record.get("tasks", ())}


def _forget(workspace: Path) -> None:
    for path, record in _records(workspace):
        if not _stands(workspace, record):
            disk.remove(path)
