"""The dataset that a run trains on: what is prepared already, else prepared now; by one process for all.

    dataset_for_training(recipe, …) -> (Dataset, notes)

Under torchrun process 0 does this, and tells the others which folder to open; they need neither sources nor locks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from tilth.core import errors
from tilth.core.errors import DataError, TilthError
from tilth.core.executors import ExecutorName
from tilth.core.tasks import OnDone
from tilth.data.dataset import Dataset, open_dataset
from tilth.jobs.prepare import DEFAULT_WORKSPACE, find_prepared, prepare_data
from tilth.jobs.recipe import Recipe


def dataset_for_training(
    recipe: Recipe,
    workspace: Path = DEFAULT_WORKSPACE,
    workers: int | None = None,
    base: Path | None = None,
    on_done: OnDone | None = None,
    executor: ExecutorName = "processes",
) -> tuple[Dataset, list[str]]:
    """The dataset of a recipe and what a run should know of how it was had; arguments as for `prepare_data`."""
    notes: list[str] = []

    def make() -> Dataset:
        if found := find_prepared(recipe, workspace, base):
            notes.extend([found.note] if found.note else [])
            return found.dataset
        return prepare_data(recipe, workspace, workers, base, on_done, executor, say=notes.append)

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return make(), notes
    return _together(make), notes


def _together(make: Callable[[], Dataset]) -> Dataset:
    """What process 0 makes, opened by all; its error is everybody's."""
    from tilth.distributed.runtime import told_by_main

    made: list[Dataset] = []

    def tell() -> str:
        try:
            made.append(make())
        except TilthError as error:
            made_of = {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
            return json.dumps(made_of)
        return json.dumps({"folder": str(made[0].folder.absolute()), "fingerprint": made[0].fingerprint})

    told = json.loads(told_by_main("dataset", tell))
    if "error" in told:
        raise getattr(errors, told["error"])(told["message"], told["remedy"])
    if made:
        return made[0]
    folder = Path(told["folder"])
    if not folder.is_dir() or (dataset := open_dataset(folder)).fingerprint != told["fingerprint"]:
        raise DataError(
            f"process {os.environ.get('RANK')} does not see the dataset {folder} that process 0 made",
            "put the workspace on a disk that all nodes have under the same path (--workspace DIR)",
        )
    return dataset
