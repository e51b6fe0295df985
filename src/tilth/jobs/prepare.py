"""The job behind `tilth prepare`: a recipe's sources to a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilth.core.environment import launched, usable_cpus
from tilth.core.executors import ExecutorName, open_executor
from tilth.core.files import FolderLock, remove_leftovers
from tilth.core.tasks import OnDone
from tilth.data.dataset import Dataset
from tilth.data.pipeline import Workshop, prepare
from tilth.jobs.recipe import Recipe

DEFAULT_WORKSPACE = Path("work")


def prepare_data(
    recipe: Recipe,
    workspace: Path = DEFAULT_WORKSPACE,
    workers: int | None = None,
    base: Path | None = None,
    on_done: OnDone | None = None,
    executor: ExecutorName = "processes",
) -> Dataset:
    """Makes the dataset of a recipe, or opens it when nothing changed since it was made.

    Args:
        workspace: where all intermediate results and the dataset lie; one process at a time.
        workers: processes (default: one for each processor). The result does not depend on it.
        base: where relative paths of sources start (default: the current folder).
        on_done: called after each task, with how many are done of how many.
        executor: `processes` of this machine, or `ray`: a cluster whose nodes all see the workspace and the sources.
    """
    # Under torchrun every process comes here: the first does the work, the others wait and find it done.
    together = launched().world_size > 1
    with FolderLock(workspace, "the workspace", wait=together):
        remove_leftovers(workspace / "tasks", r"[a-z_]+-[0-9a-f]{20}")
        remove_leftovers(workspace / "datasets", r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{12}")
        place, root = workspace, base or Path()
        if executor == "ray":  # its workers start in another folder
            place, root = place.absolute(), root.absolute()
        with open_executor(executor, workers or usable_cpus()) as opened:
            return prepare(recipe.data, recipe.tokenizer, recipe.name, root, Workshop(place, opened, on_done))


def summary(dataset: Dataset) -> dict[str, Any]:
    """What `tilth prepare --json` prints."""
    facts = dataset.facts
    return {
        "documents": facts["documents"],
        "dropped": facts["rules"]["dropped"],
        "tokens": {name: split["tokens"] for name, split in facts["splits"].items()},
        "folder": str(dataset.folder),
    }
