"""The Python API: the same jobs as the command line's, with its defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tilth.core.executors import ExecutorName
from tilth.core.rundir import Event
from tilth.data.dataset import Dataset
from tilth.evaluate.metrics import Metrics
from tilth.jobs.evaluate import evaluate_run
from tilth.jobs.places import Which
from tilth.jobs.preflight import before_training
from tilth.jobs.prepare import DEFAULT_WORKSPACE, prepare_data
from tilth.jobs.ready import check_before, dataset_for_training
from tilth.jobs.recipe import Recipe
from tilth.jobs.train import train_model


def prepare(
    recipe: Recipe,
    workspace: Path | str = DEFAULT_WORKSPACE,
    workers: int | None = None,
    executor: ExecutorName = "processes",
) -> Dataset:
    """The dataset of a recipe, made where it is missing. Relative paths of sources start from the current folder.

    Args:
        workers: how many tasks run at a time (default: one for each processor). Neither they nor the executor change a
            byte of the result.
        executor: `processes` of this machine, or `ray`: the cluster that RAY_ADDRESS names, whose nodes all see
            workspace and sources, or one that is started here.
    """
    return prepare_data(recipe, Path(workspace), workers, executor=executor)


def train(
    recipe: Recipe,
    run: Path | str | None = None,
    workspace: Path | str = DEFAULT_WORKSPACE,
    workers: int | None = None,
    emit: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Prepares what is missing and trains, going on where the run folder left off.

    Args:
        run: the run folder (default: runs/NAME).
        emit: receives each step, evaluation, sample, checkpoint and message.

    Returns:
        run, step, tokens, train_loss, validation_loss, seconds, stopped_by, checkpoint.
    """
    folder = Path(run or Path("runs") / recipe.name)
    check_before(recipe, folder)
    dataset, notes = dataset_for_training(recipe, Path(workspace), workers)
    notes += before_training(recipe, dataset, folder)
    return train_model(recipe, dataset, folder, emit, notes)


def evaluate(
    run: Path | str,
    data: Path | str | None = None,
    which: Which = "final",
    format: str | None = None,
    field: str | None = None,
) -> Metrics:
    """Loss, perplexity, bits per byte and accuracy on the run's validation split, or on the text of `data`.

    Args:
        format: how to read `data`, and
        field: which key or column of it holds the text; by default as the run's sources were read, or by suffix.
    """
    reading = {key: value for key, value in (("format", format), ("field", field)) if value is not None}
    return evaluate_run(run, data, which, reading=reading)
