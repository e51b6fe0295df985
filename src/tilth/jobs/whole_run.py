"""The whole of `tilth train`, for the command, both quickstarts and the Python API: each shows it in its own way.

prepare_and_train(recipe, run, …) -> (Dataset, result)
Shown                                what is told of it on the way
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilth.core.progress import Board
from tilth.core.tasks import OnDone
from tilth.data.dataset import Dataset
from tilth.jobs.preflight import before_training
from tilth.jobs.ready import check_before, dataset_for_training, find_base_together
from tilth.jobs.recipe import Recipe
from tilth.jobs.saying import Emit
from tilth.jobs.train import train_model


@dataclass(frozen=True)
class Shown:
    """What is told on the way; by default nothing.

    Attributes:
        say: is told when looking at a checkpoint takes a while.
        preparing: is open while data is prepared, or found.
        on_done, board: as of `prepare_data`.
        prepared: is given the dataset, before preflight looks at it.
        training: what is open while a dataset is trained on; it gives what every event of the run goes to.
    """

    say: Callable[[str], None] = lambda text: None
    preparing: AbstractContextManager[object] = field(default_factory=nullcontext)
    on_done: OnDone | None = None
    board: Board | None = None
    prepared: Callable[[Dataset], None] = lambda dataset: None
    training: Callable[[Dataset], AbstractContextManager[Emit | None]] = lambda dataset: nullcontext()


def prepare_and_train(
    recipe: Recipe, run: Path, workspace: Path, workers: int | None, shown: Shown
) -> tuple[Dataset, dict[str, Any]]:
    """Checks what can be checked at once, prepares what is missing, looks at what would be trained on, and trains, or
    goes on where the run folder left off. Under torchrun all processes come here.

    Returns:
        the dataset, and the result that `tilth train --json` prints: empty in all processes but one.
    """
    base = find_base_together(recipe)
    check_before(recipe, base, run, shown.say)
    with shown.preparing:
        dataset, notes = dataset_for_training(
            recipe, base, workspace, workers, on_done=shown.on_done, board=shown.board
        )
    shown.prepared(dataset)
    notes += before_training(recipe, dataset, base, run)
    with shown.training(dataset) as emit:
        return dataset, train_model(recipe, dataset, base, run, emit, notes)
