"""The dataset that a run trains on: what is prepared already, else prepared now; by one process for all.

    check_before(recipe, run)           what would end the run after hours of preparation is told before them
    check_base(recipe)                  of that what lies in the files of `model.from`
    dataset_for_training(recipe, …) -> (Dataset, notes)

Under torchrun process 0 does this, and tells the others which folder to open; they need neither sources nor locks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tilth.core.environment import launched
from tilth.core.errors import DataError
from tilth.core.executors import ExecutorName
from tilth.core.progress import Board
from tilth.core.rundir import RunFolder
from tilth.core.tasks import OnDone
from tilth.data.dataset import Dataset, open_dataset
from tilth.jobs.base import find_base
from tilth.jobs.prepare import DEFAULT_WORKSPACE, find_prepared, prepare_data
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import stored_recipe

Say = Callable[[str], None]


def check_base(recipe: Recipe, say: Say = lambda text: None) -> None:
    """An error when the checkpoint that it starts from is of no use to this recipe, as far as the headers of its files
    tell, and when what somebody else wrote holds what is no number: those are read through once.
    """
    from tilth.checkpoint.read_through import read_through
    from tilth.jobs.start import check_files

    if weights := check_files(find_base(recipe)):
        read_through(weights, say)


def check_before(recipe: Recipe, run: Path, say: Say = lambda text: None) -> None:
    """An error when the checkpoint that it starts from, device, memory or run folder are of no use to this recipe.

    Args:
        say: is told when looking takes a while.
    """
    from tilth.distributed.runtime import long_from_main, pick_device
    from tilth.jobs.room import check_room

    def look() -> None:
        check_base(recipe, say)
        check_room(recipe, recipe.model, pick_device(recipe.train.device))
        folder = RunFolder(run)
        folder.check()
        folder.changes(recipe.plain(), lambda _: stored_recipe(folder).plain())

    long_from_main(look)  # one process tells of it


def dataset_for_training(
    recipe: Recipe,
    workspace: Path = DEFAULT_WORKSPACE,
    workers: int | None = None,
    base: Path | None = None,
    on_done: OnDone | None = None,
    executor: ExecutorName = "processes",
    board: Board | None = None,
) -> tuple[Dataset, list[str]]:
    """The dataset of a recipe and what a run should know of how it was had; arguments as for `prepare_data`."""
    notes: list[str] = []

    def make() -> Dataset:
        if found := find_prepared(recipe, workspace, base):
            notes.extend([found.note] if found.note else [])
            return found.dataset
        return prepare_data(recipe, workspace, workers, base, on_done, executor, say=notes.append, board=board)

    return _together(make) if launched().world_size > 1 else make(), notes


def _together(make: Callable[[], Dataset]) -> Dataset:
    """What process 0 makes, opened by all."""
    from tilth.distributed.runtime import long_from_main

    made: list[Dataset] = []

    def tell() -> dict[str, str]:
        made.append(make())
        return {"folder": str(made[0].folder.absolute()), "fingerprint": made[0].fingerprint}

    told = long_from_main(tell)
    if made:
        return made[0]
    folder = Path(told["folder"])
    if not folder.is_dir() or (dataset := open_dataset(folder)).fingerprint != told["fingerprint"]:
        raise DataError(
            f"process {launched().rank} does not see the dataset {folder} that process 0 made",
            "put the workspace on a disk that all nodes have under the same path (--workspace DIR)",
        )
    return dataset
