"""`tilth quickstart --chat`: a model from scratch that is then tuned to answer, measured, and talked with."""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from tilth.cli.output import results
from tilth.cli.quickstart import say_step
from tilth.cli.screen import say, show
from tilth.cli.show import is_main_process, shown_training, typed
from tilth.cli.tables import BareTable, count, duration, printable
from tilth.core.rundir import RunFolder
from tilth.data.dataset import Dataset
from tilth.jobs.recipe import Recipe

_SETS = {"unread": "modules that it has never read", "read": "modules that pretraining read"}


def run_quickstart_chat(
    run: Path, workspace: Path, workers: int | None, minutes: float | None, steps: int | None
) -> None:
    """Pretrains, tunes, measures before and after, shows answers, and opens a chat; what is done is not done again."""
    from tilth.jobs.quickstart import quickstart_recipe
    from tilth.jobs.quickstart_chat import answer_figures, chat_recipe, chat_run, check_pretrained

    tuned = chat_run(run)
    RunFolder(tuned).check()  # told before minutes of pretraining
    _begin("1/4", "Pretraining: it reads the text that came with Python")
    pretrained = _trained(quickstart_recipe(run, minutes, steps), run, workspace, workers)
    recipe = chat_recipe(run, minutes, steps)
    check_pretrained(recipe, tuned)
    _begin("2/4", "Tuning: an adapter learns to answer questions about docstrings")
    questions = _trained(recipe, tuned, workspace, workers)
    if not is_main_process():  # under torchrun the others train along, and have nothing to show
        return
    _begin("3/4", "Measuring it on questions that it has not seen")
    figures = answer_figures(tuned, questions, pretrained)
    with results():
        _print_figures(figures)
        say_step("4/4", "What it answers: the first of each form that it was asked")
        _print_answers(figures)
    _talk(tuned)


def _begin(number: str, text: str) -> None:
    if is_main_process():
        with results():
            say_step(number, text)


def _trained(recipe: Recipe, run: Path, workspace: Path, workers: int | None) -> Dataset:
    """Prepares and trains what is missing, and says how it ended."""
    from tilth.jobs.whole_run import prepare_and_train

    dataset, result = prepare_and_train(recipe, run, workspace, workers, shown_training(recipe, run))
    if result:
        documents = dataset.facts["splits"]["train"]["documents"]
        done = "done" if result["new_steps"] else "done before"
        with results():
            say(
                f"{done}: {run}, {count(documents)} documents, step {count(result['step'])}, "
                f"{duration(result['seconds'])}, validation loss {result['validation_loss']:.4f}"
            )
    return dataset


def _print_figures(figures: dict[str, Any]) -> None:
    """Loss and ROUGE-L of each set, and what was left out of it."""
    table = BareTable(box=None, pad_edge=False, header_style="bold")
    for name in ("held-out questions about", "before", "after", "by form alone"):
        table.add_column(name, justify="left" if name.startswith("held") else "right")
    for name, about in _SETS.items():
        before, after = (figures[when][name] for when in ("before", "after"))
        table.add_row(f"{about}: {count(after['questions'])}")
        table.add_row("  loss of a token of the answers", f"{before['loss']:.3f}", f"{after['loss']:.3f}", "")
        rouge = [before["rouge_l"], after["rouge_l"], after["form_rouge_l"]]
        table.add_row(f"  ROUGE-L of {after['asked']} that it wrote", *(f"{value:.3f}" for value in rouge))
    show(table)
    copies = sum(counts["answers_in_training"] for counts in figures["questions"].values())
    parted = sum(counts["of_the_other_kind"] for counts in figures["questions"].values())
    say(
        f"not counted: {count(copies)} questions whose answer stands in training too, or nearly; {parted} whose module "
        "belongs to the other kind\n"
        "before: the pretrained model, asked in the same way, which has never seen a question\n"
        "by form alone: its answers beside those to other questions of the same form; what goes beyond that, it knows"
    )


def _print_answers(figures: dict[str, Any]) -> None:
    for row in figures["shown"]:
        print()
        for name, key in (("question", "question"), ("docstring", "answer"), ("before", "before"), ("after", "after")):
            text = printable(" ".join(row[key].split())) or "(nothing)"
            show(Text.assemble((f"{name:<10} ", "dim"), text))


def _talk(tuned: Path) -> None:
    """Opens a chat where somebody sits at a terminal, or has piped lines to be answered; says what to type in any
    case.
    """
    with results():
        say(
            "\nIt is small, and was trained for minutes: its answers have the form of docstrings, and most are wrong.\n"
            f"The whole story, with curves and counts: {tuned}/report.html\n\nWhat to type next:"
        )
        for words in (["chat", "--temperature", "0"], ["evaluate"], ["evaluate", "--adapter", "none"]):
            print(f"  {typed(words[0], str(tuned), *words[1:])}")
        if sys.stdin.isatty() and sys.stdout.isatty():
            say(
                "\nAsk it something, such as: What does textwrap.dedent do? It was tuned on single questions: /reset "
                "before the next."
            )
        elif not _lines_wait():
            return
        else:
            print("\nWhat it answers to standard input:", flush=True)
        _open_chat(tuned)


def _lines_wait() -> bool:
    """Whether lines were piped to this command. An open pipe that holds nothing is what many services start programs
    with: nobody waits for it.
    """
    try:
        place = sys.stdin.fileno()
    except OSError:
        return False
    kind = os.fstat(place).st_mode
    if not (stat.S_ISFIFO(kind) or stat.S_ISREG(kind)):
        return False
    return place in select.select([place], [], [], 0)[0]


def _open_chat(tuned: Path) -> None:
    from tilth.cli.chat import run_chat
    from tilth.generate.config import SamplingConfig
    from tilth.generate.text import TextOptions
    from tilth.jobs.load import load
    from tilth.jobs.talk import Talk

    options = TextOptions(sampling=SamplingConfig(temperature=0.0))
    with results(), Talk(load(tuned), options) as talk:
        run_chat(talk)
