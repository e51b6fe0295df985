"""The Python API: the same jobs as the command line's, with its defaults."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tilth.core.arguments import check_choice
from tilth.core.errors import RecipeError
from tilth.core.executors import ExecutorName
from tilth.core.faults import short
from tilth.core.rundir import EvaluationRecord, Event, RunFolder, SampleRecord, StepRecord
from tilth.data.dataset import Dataset
from tilth.evaluation.metrics import Metrics
from tilth.exporting.hf import DtypeName, Exported
from tilth.jobs.batches import planned_steps
from tilth.jobs.evaluate import evaluate_run
from tilth.jobs.export import export_adapter, export_model
from tilth.jobs.lines import Lines
from tilth.jobs.places import Which
from tilth.jobs.preflight import Preflight, look
from tilth.jobs.prepare import DEFAULT_WORKSPACE, prepare_data
from tilth.jobs.ready import check_base, dataset_for_training, find_base_together
from tilth.jobs.recipe import Recipe, load_recipe
from tilth.jobs.whole_run import Shown, prepare_and_train

ExportFormat = Literal["hf", "peft"]


def prepare(
    recipe: Recipe | Path | str,
    workspace: Path | str = DEFAULT_WORKSPACE,
    workers: int | None = None,
    executor: ExecutorName = "processes",
) -> Dataset:
    """The dataset of a recipe, or of its file, made where it is missing. Relative paths of sources start from the
    current folder.

    Args:
        workers: how many tasks run at a time (default: one for each processor). Neither they nor the executor change a
            byte of the result.
        executor: `processes` of this machine, or `ray`: the cluster that RAY_ADDRESS names, whose nodes all see
            workspace and sources, or one that is started here.
    """
    check_choice("executor", executor, ExecutorName)
    return prepare_data(_recipe(recipe), Path(workspace), workers, executor=executor)


def check(
    recipe: Recipe | Path | str,
    workspace: Path | str = DEFAULT_WORKSPACE,
    workers: int | None = None,
    run: Path | str | None = None,
) -> Preflight:
    """What training by a recipe, or by its file, would read, and what is wrong with it, before anything is spent:
    `.ok`, `.errors`, `.warnings`, `.rows` (print one: what is trained stands in [[ ]]), and all counts as `.plain()`.
    What is not prepared yet, is.

    What comes to nothing before there are rows to look at is raised, with its remedy: RecipeError of the recipe and of
    a checkpoint that does not fit it, DataError of sources of which nothing is left or too much cannot be used,
    CheckpointError where the files of `model.from` do not hold what its config.json says. (`tilth check --json` has
    them among `errors`, as `recipe`, `data` and `checkpoint`.) Of a run that must not begin, `.rows` may be empty.

    Args:
        run: the folder that the run will have (default: runs/NAME), for the room on its disk.
    """
    recipe = _recipe(recipe)
    base = find_base_together(recipe)
    check_base(base)
    dataset, _ = dataset_for_training(recipe, base, Path(workspace), workers)
    with dataset.held():
        return look(recipe, dataset, run=None if run is None else Path(run), base=base)


def train(
    recipe: Recipe | Path | str,
    run: Path | str | None = None,
    workspace: Path | str = DEFAULT_WORKSPACE,
    workers: int | None = None,
    emit: Callable[[Event], None] | Literal["lines"] | None = "lines",
) -> dict[str, Any]:
    """Prepares what is missing and trains, going on where the run folder left off.

    Args:
        recipe: what `load_recipe` gives, or the file: `train("my-text.yaml")` is `tilth train my-text.yaml`.
        run: the run folder (default: runs/NAME).
        emit: `lines`, plain ones on standard error of how far it is, as the command writes them where no terminal is;
            a function, which receives each step, evaluation, sample, checkpoint and message instead; None: neither.

    Returns:
        run, step, tokens, train_loss, validation_loss, seconds, stopped_by, checkpoint, forecast; new_steps: those
        that this call did, 0 where the run was past its end already (`emit` is told so).
    """
    if not callable(emit):
        check_choice("emit", emit, Literal["lines"] | None)
    recipe = _recipe(recipe)
    folder = Path(run or Path("runs") / recipe.name)
    shown = _in_lines(recipe) if emit == "lines" else Shown(training=lambda _: nullcontext(emit))
    return prepare_and_train(recipe, folder, Path(workspace), workers, shown)[1]


def _recipe(asked: Recipe | Path | str) -> Recipe:
    if isinstance(asked, str | Path):
        return load_recipe(asked)
    if not isinstance(asked, Recipe):
        raise RecipeError(
            f"{short(asked)} is no recipe",
            "name its file, or give what tilth.load_recipe(FILE) or tilth.make_recipe({…}) returns",
        )
    return asked


def _in_lines(recipe: Recipe) -> Shown:
    lines = Lines()

    def training(dataset: Dataset) -> AbstractContextManager[Lines]:
        lines.expect(None if recipe.train.hours else planned_steps(recipe, dataset))  # the clock may end it before
        return nullcontext(lines)

    return Shown(say=lines.say, on_done=lines.done, training=training)


def evaluate(
    run: Path | str,
    data: Path | str | None = None,
    which: Which = "final",
    format: str | None = None,
    field: str | None = None,
    adapter: Path | str | None = None,
    pseudo_tokens: int | None = None,
    wrapped: bool | None = None,
) -> Metrics:
    """Loss, perplexity, bits per byte and accuracy on the run's validation split, or on the text of `data`: of all
    tokens, of answers alone (sft), or of tokens that are hidden (masked_lm).

    Args:
        format: how to read `data`, and
        field: which key or column of it holds the text; by default as the run's sources were read, or by suffix.
        adapter: another adapter to put beside the model, or `none`: without its own.
        pseudo_tokens: of a masked language model, measure its pseudo-perplexity too, on at most so many tokens.
        wrapped: of a Hugging Face folder: use transformers' own class.
    """
    reading = {key: value for key, value in (("format", format), ("field", field)) if value is not None}
    options: dict[str, Any] = {"adapter": adapter, "pseudo_tokens": pseudo_tokens, "wrapped": wrapped}
    return evaluate_run(run, data, which, reading=reading, **options)


def export(
    path: Path | str,
    out: Path | str,
    to: ExportFormat = "hf",
    which: Which = "final",
    dtype: DtypeName | None = None,
    base: str | None = None,
    wrapped: bool | None = None,
) -> Exported:
    """Writes what `load(path)` gives into the new folder `out`, with a card made from its run.

    Args:
        to: `hf`, a whole model for transformers (an adapter is merged into its base), or `peft`, the adapter alone.
        dtype: of hf weights: `float32`, `bfloat16` or `float16`; by default float32, and of a checkpoint as it is
            stored.
        base: what a peft adapter is to be loaded beside, in Hugging Face's format; by default as the run says.
        wrapped: of a Hugging Face folder: use transformers' own class.

    RecipeError when `out` exists, nothing of Hugging Face computes the model, or an argument is not of that format.
    """
    check_choice("to", to, ExportFormat)
    check_choice("dtype", dtype, DtypeName | None)
    if to == "peft":
        if dtype is not None:
            raise RecipeError(f'dtype {dtype} is for to="hf"', "leave it out: an adapter is written as it was trained")
        if wrapped is not None:
            raise RecipeError('wrapped is for to="hf"', "leave it out: a run knows what its adapter is beside")
        return export_adapter(path, out, which, base)
    if base is not None:
        raise RecipeError('base is for to="peft"', "leave it out: an adapter is merged into its base")
    return export_model(path, out, which, dtype, wrapped=wrapped)


@dataclass(frozen=True)
class History:
    """What a run recorded: its steps, its passes over held-out text, and what it wrote on the way."""

    steps: list[StepRecord]
    evaluations: list[EvaluationRecord]
    samples: list[SampleRecord]


def history(run: Path | str) -> History:
    """The records of a run folder, also of one that is still going on. RecipeError when it is none, IntegrityError when
    a line of them is damaged.
    """
    folder = RunFolder(Path(run))
    folder.recipe()
    return History(
        folder.steps(),
        [EvaluationRecord(**_without_kind(event)) for event in folder.events("evaluation")],
        [SampleRecord(**_without_kind(event)) for event in folder.events("sample")],
    )


def _without_kind(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "kind"}
