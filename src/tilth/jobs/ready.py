"""What a run begins with: the checkpoint of `model.from`, and the dataset that it trains on, prepared already or now.

    find_base_together(recipe) -> Base | None
    check_before(recipe, base, run)     what would end the run after hours of preparation is told before them
    check_base(base)                    of that what lies in the files of `model.from`
    dataset_for_training(recipe, base, …) -> (Dataset, notes)

Under torchrun process 0 does this, and tells the others which revision and folder to open; they need neither sources
nor locks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tilth.core.environment import launched
from tilth.core.errors import DataError
from tilth.core.progress import Board
from tilth.core.rundir import RunFolder
from tilth.core.tasks import OnDone
from tilth.data.dataset import Dataset, open_dataset
from tilth.jobs.base import Base, find_base
from tilth.jobs.prepare import DEFAULT_WORKSPACE, find_prepared, prepare_data
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import stored_recipe

Say = Callable[[str], None]


def find_base_together(recipe: Recipe) -> Base | None:
    """`find_base`, under torchrun the same revision in all processes: the one that process 0 found."""
    from tilth.distributed.runtime import long_from_main

    found: list[Base | None] = []

    def find() -> str | None:
        base = find_base(recipe)
        found.append(base)
        return base.exact_name if base else None

    told = long_from_main(find)
    return found[0] if found else find_base(recipe, told)


def check_base(base: Base | None, say: Say = lambda text: None) -> None:
    """An error when the files of a checkpoint do not hold what its configuration says, as far as their headers tell, or
    when what somebody else wrote holds what is no number: those are read through once.
    """
    from tilth.checkpoint.read_through import read_through
    from tilth.jobs.start import check_files

    if weights := check_files(base):
        read_through(weights, say)


def check_before(recipe: Recipe, base: Base | None, run: Path, say: Say = lambda text: None) -> None:
    """An error when the checkpoint that it starts from, device, memory or run folder are of no use to this recipe.

    Args:
        say: is told when looking takes a while.
    """
    from tilth.distributed.runtime import long_from_main, pick_device
    from tilth.jobs.forecasting.room import check_room

    def look() -> None:
        check_base(base, say)
        check_room(recipe, recipe.model, pick_device(recipe.train.device))
        folder = RunFolder(run)
        folder.check()
        folder.changes(recipe.plain(), lambda _: stored_recipe(folder).plain())

    long_from_main(look)  # one process tells of it


def dataset_for_training(
    recipe: Recipe,
    base: Base | None,
    workspace: Path = DEFAULT_WORKSPACE,
    workers: int | None = None,
    root: Path | None = None,
    on_done: OnDone | None = None,
    board: Board | None = None,
) -> tuple[Dataset, list[str]]:
    """The dataset of a recipe and what a run should know of how it was had; arguments as for `prepare_data`."""
    notes: list[str] = []

    def make() -> Dataset:
        if found := find_prepared(recipe, base, workspace, root):
            notes.extend([found.note] if found.note else [])
            return found.dataset
        return prepare_data(recipe, workspace, workers, root, on_done, say=notes.append, board=board, base=base)

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
