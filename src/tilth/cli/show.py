"""Jobs with their displays: what several commands share."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.cli.dataset_table import dataset_table
from tilth.cli.prepare_display import PrepareDisplay
from tilth.cli.screen import show
from tilth.cli.tables import metrics_table, plural, printable, result_table, size
from tilth.core.environment import launched
from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import read_json

if TYPE_CHECKING:
    from tilth.core.executors import ExecutorName
    from tilth.data.dataset import Dataset
    from tilth.data.tidying import Unneeded
    from tilth.generate.text import TextOptions
    from tilth.jobs.base import Base
    from tilth.jobs.load import LanguageModel
    from tilth.jobs.recipe import Recipe
    from tilth.jobs.tidy import Prune, Tidied
    from tilth.jobs.whole_run import Shown


WORTH_TELLING = 50_000_000
"""Bytes that no dataset refers to: less is left by any first tries, and matters on no disk."""


def is_main_process() -> bool:
    """False in all but one of the processes that torchrun starts: they do not speak."""
    return launched().rank == 0


def say_note(text: str) -> None:
    """A line on standard error, with nothing in it that a terminal would obey."""
    print(printable(text), file=sys.stderr, flush=True)


def prepare_shown(
    recipe: Recipe,
    workspace: Path,
    workers: int | None,
    executor: ExecutorName = "processes",
    *,
    verify: bool = False,
    base: Base | None = None,
) -> Dataset:
    """Prepares the data and shows it; arguments as for `prepare_data`."""
    from tilth.data.lean import without_pandas
    from tilth.jobs.prepare import prepare_data

    without_pandas()
    notes: list[str] = []
    try:
        with PrepareDisplay() as display:
            dataset = prepare_data(
                recipe,
                workspace,
                workers,
                on_done=display,
                executor=executor,
                verify=verify,
                say=notes.append,
                board=display.board,
                base=base,
            )
    finally:  # also where nothing is left: what was met before may be why
        for note in notes:
            say_note(note)
    if display.made_something:  # what was said before is not said again by every command
        _say_vocabulary(recipe, dataset)
    return dataset


def tidy_shown(recipe: Recipe, again: list[str], workspace: Path, dataset: Dataset, wanted: Prune | None) -> Tidied:
    """Says what the workspace holds that nothing needs, where that is much, or what of it was removed.

    Args:
        again: what `tilth prepare` was given that says which recipe and workspace.
    """
    from tilth.jobs.tidy import tidy

    tidied = tidy(workspace, recipe.name, dataset, wanted)
    for item in tidied.used:
        say_note(f"{item.path} stays: it is in use")
    if sum(item.size for item in tidied.left) >= WORTH_TELLING:
        command = typed("prepare", *again, "--prune")
        say_note(f"{_folders(tidied.left)} in {workspace} that no dataset refers to: {command} removes them")
    elif wanted is not None:
        print(f"removed: {_folders(tidied.gone)}", file=sys.stderr)
    return tidied


def _folders(items: Sequence[Unneeded]) -> str:
    number = plural(len(items), "result") if items else "nothing"
    return f"{number}, {size(sum(item.size for item in items))}"


def shown_training(recipe: Recipe, run: Path) -> Shown:
    """How a run, and the preparation of its data, are shown while they go on."""
    from tilth.cli.display import Limits, TrainDisplay
    from tilth.data.lean import without_pandas
    from tilth.jobs.batches import planned_steps
    from tilth.jobs.whole_run import Shown

    if not is_main_process():
        return Shown()
    without_pandas()
    display = PrepareDisplay()

    def prepared(dataset: Dataset) -> None:
        if display.made_something:
            _say_vocabulary(recipe, dataset)

    def training(dataset: Dataset) -> TrainDisplay:
        limits = Limits(planned_steps(recipe, dataset), recipe.train.hours, seconds_before(run))
        return TrainDisplay(limits, metrics=recipe.evaluate.metrics)

    return Shown(say_note, display, display, display.board, prepared, training)


def say_mixture(recipe: Recipe, dataset: Dataset) -> None:
    """A line where training would refuse the recipe's mixture: what it asks for is known once tokens are counted."""
    from tilth.jobs.mixing import planned_mixture

    try:
        planned_mixture(recipe, dataset)
    except DataError as impossible:
        say_note(f"training will not begin: {impossible.message}; {impossible.remedy}")


def _say_vocabulary(recipe: Recipe, dataset: Dataset) -> None:
    from tilth.jobs.chats import added_tokens

    if recipe.data.chat and (added := added_tokens(recipe)):
        writes = f"data.chat.template {recipe.data.chat.template} writes them"
        print(f"the tokenizer has {', '.join(added)} besides: {writes}", file=sys.stderr)
    asked, got = recipe.tokenizer.vocab_size, dataset.facts["vocab_size"]
    if recipe.model.from_ is None and recipe.tokenizer.kind == "bpe" and got < asked:
        print(f"the text gives {got:,} tokens, not {asked:,}: no further pair occurs twice", file=sys.stderr)


def seconds_before(run: Path) -> float:
    """How long the run has trained so far, for the display's clock."""
    try:
        newest = max((run / "checkpoints").glob("step-" + "[0-9]" * 8 + "/state.json"), default=None)
        return float(read_json(newest)["progress"]["seconds"]) if newest else 0.0
    except (IntegrityError, OSError, LookupError, TypeError, ValueError):
        return 0.0  # a damaged checkpoint is not the display's affair


def say_not_the_end(path: Path | str, which: str | int, used: Path) -> None:
    """Says where a run's weights are used though there are later ones, or will be."""
    from tilth.jobs.runs import not_the_end

    if said := not_the_end(path, which, used):
        say_note(said)


def typed(*words: str) -> str:
    """A command of tilth as it is typed here and in this shell: by its name where that is found, else by its path."""
    return " ".join([command_name(), shlex.join(words)])


def command_name() -> str:
    """What a command begins with here."""
    if shutil.which("tilth"):
        return "tilth"
    if Path(sys.argv[0]).name == "__main__.py":
        return "python -m tilth"
    path = Path(sys.argv[0]).absolute()
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def print_dataset(dataset: Dataset) -> None:
    """Counts by stage and rule, to standard output."""
    show(dataset_table(dataset.facts, dataset.tokenizer.training))


def print_result(result: Mapping[str, Any]) -> None:
    """How a run ended, and what to type next."""
    show(result_table(result))
    run = result["run"]
    print(f"curves and counts: {run}/report.html")
    further = [*_to_write(run), typed("evaluate", run)]
    print("next:  " + "\n       ".join(further))


def _to_write(run: str) -> list[str]:
    """How the model of a run is asked for text; not at all where it fills in masked tokens."""
    if (Path(run) / "tokenizer" / "chat_template.jinja").exists():
        return [typed("chat", run)]
    from tilth.training.config import OBJECTIVES

    traits = OBJECTIVES[read_json(Path(run) / "recipe.json")["train"]["objective"]]
    return [] if traits.looks_both_ways else [f'{typed("generate", run)} --prompt "…"']


def print_metrics(metrics: Mapping[str, float]) -> None:
    """Figures with what they mean."""
    show(metrics_table(metrics))


def stream_generated(language_model: LanguageModel, prompt: str | list[dict[str, str]], options: TextOptions) -> None:
    """Prints samples in order, each as it is written: the first that has not ended goes out, later ones are held. Of
    messages the answers alone are printed.
    """
    from tilth.generate.text import stream_texts

    model, tokenizer = language_model.model, language_model.tokenizer
    asked, options = language_model.asked(prompt, options)
    given = prompt if isinstance(prompt, str) else "".join(message["content"] for message in prompt)
    if tokenizer.kind == "char" and (unknown := tokenizer.unknown_characters(given)):  # type: ignore[attr-defined]
        shown = " ".join(map(repr, unknown))
        print(f"the prompt has characters that the tokenizer does not know, such as {shown}", file=sys.stderr)
    begun = prompt if isinstance(prompt, str) else ""
    for sample, piece in in_order(stream_texts(model, tokenizer, asked, options)):
        heading = f"--- {sample + 1} of {options.samples}\n" if options.samples > 1 else ""
        print(heading + begun if piece is None else printable(piece, lines=True), end="", flush=True)


def in_order(pieces: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str | None]]:
    """What several samples write at once (an empty piece ends one), sample after sample: None opens each, then its
    pieces as early as order allows, then a line's end.
    """
    held: dict[int, list[str]] = {}
    current, opened = 0, False
    for sample, piece in pieces:
        held.setdefault(sample, []).append(piece)
        while current in held:
            if not opened:
                yield current, None
                opened = True
            waiting = held.pop(current)
            yield current, "".join(waiting)
            if waiting[-1]:
                break
            yield current, "\n"
            current, opened = current + 1, False
