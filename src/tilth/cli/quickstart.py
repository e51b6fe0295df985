"""`tilth quickstart`: the whole way, told step by step to someone who sees it for the first time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from tilth.cli.output import results
from tilth.cli.screen import say, show
from tilth.cli.show import is_main_process, print_dataset, print_metrics, shown_training, typed
from tilth.cli.tables import count, duration, plural, printable
from tilth.core.files import read_json
from tilth.core.rundir import RunFolder

if TYPE_CHECKING:
    from tilth.data.dataset import Dataset
    from tilth.jobs.recipe import Recipe
    from tilth.jobs.whole_run import Shown

_USUAL = 115.0
"""Seconds of training that are enough on two cores with nothing else to do: the recipe's two minutes, about."""


def run_quickstart(run: Path, workspace: Path, workers: int | None, minutes: float | None, steps: int | None) -> None:
    """Collects, trains, measures, samples and reports; done before, it says so and offers more."""
    from tilth.jobs.pages.report import write_report
    from tilth.jobs.quickstart import quickstart_recipe, xz_bits_per_byte
    from tilth.jobs.whole_run import prepare_and_train

    recipe = quickstart_recipe(run, minutes, steps)
    shown = shown_training(recipe, run)
    if not is_main_process():  # under torchrun the others train along, and have nothing to show
        prepare_and_train(recipe, run, workspace, workers, shown)
        return
    dataset, result = prepare_and_train(recipe, run, workspace, workers, _with_headings(shown))
    validation, xz = read_json(run / "result.json")["validation"], xz_bits_per_byte(dataset, run)
    commands = next_steps(run, workspace, result)
    report = write_report(run, {"xz_bits_per_byte": xz, "next_steps": commands})
    with results():
        if not result["new_steps"]:
            print(f"It was done before: step {count(result['step'])}, {duration(result['seconds'])} of training.")
        say_step("3/4", "Measuring it on text that it has not seen")
        print_metrics(validation)
        _compare(validation["bits_per_byte"], xz)
        if said := too_little(recipe, result, validation["bits_per_byte"] < xz, _longer(run, workspace, result)):
            say(said)
        say_step("4/4", "What it writes")
        _print_samples(run)
        print(f"\nThe whole story, with curves and counts: {report}\n\nWhat to type next:")
        for command in commands:
            print(f"  {command}")


def _with_headings(shown: Shown) -> Shown:
    @contextlib.contextmanager
    def preparing() -> Iterator[None]:
        with results():
            say("tilth quickstart: the text that came with Python becomes a small language model of your own.\n")
            say_step("1/4", "Text: collecting, cleaning, dividing and tokenising it")
        with shown.preparing:
            yield

    def prepared(dataset: Dataset) -> None:
        shown.prepared(dataset)
        with results():
            print_dataset(dataset)
            say_step("2/4", "Training: the model learns to predict the next token")

    return replace(shown, preparing=preparing(), prepared=prepared)


def next_steps(run: Path, workspace: Path, result: dict[str, Any]) -> list[str]:
    """Commands that make sense now."""
    text = _text_here()
    return [
        typed("generate", str(run)) + " --prompt 'def'",
        typed("evaluate", str(run), *(["--data", text] if text else [])),
        _longer(run, workspace, result),
        typed("init", "my-text.yaml"),
    ]


def _longer(run: Path, workspace: Path, result: dict[str, Any]) -> str:
    """The command that goes on, for three times as long in all."""
    minutes = max(5, round(result["seconds"] / 60 * 3))
    same = [] if run == Path("runs/quickstart") else ["--run", str(run)]
    same += [] if workspace == Path("work") else ["--workspace", str(workspace)]
    return typed("quickstart", *same, "--minutes", str(minutes))


def too_little(recipe: Recipe, result: dict[str, Any], below_xz: bool, longer: str) -> str:
    """What to say of a model that has learned too little to be looked at; empty where it has not."""
    step, schedule = result["step"], recipe.train.schedule
    if below_xz and step > schedule.warmup(recipe.train.steps):
        return ""
    done = f"{plural(step, 'step')} in {duration(result['seconds'])}"
    # Who asked for less than the recipe gives knows why there are few.
    slow = result["seconds"] >= _USUAL and recipe.train.steps is None
    why = ": this machine is slow, or was busy with other things" if slow else ""
    return f"it has learned little in {done}{why}; {longer} goes on from here"


def _text_here() -> str:
    """A text in the current folder that the model has not seen; empty where there is none."""
    there = sorted(p.name for p in Path().glob("*.md") if p.is_file() and p.stat().st_size)
    return min(there, key=lambda name: name != "README.md", default="")


def say_step(number: str, text: str) -> None:
    """What comes next, as a heading."""
    print(flush=True)
    show(Text(f"{number}  {text}", "bold"))


def _compare(model: float, xz: float) -> None:
    verdict = "fewer than" if model < xz else "more than"
    say(f"bits per byte of the held-out text: this model {model:.3f}, {verdict} xz -9e with {xz:.3f}")


def _print_samples(run: Path) -> None:
    samples = RunFolder(run).events("sample")
    last = samples[-1]["step"] if samples else 0
    for sample in (s for s in samples if s["step"] == last):
        show(Text(f"after {sample['prompt']!r}:", "dim"))
        print(printable(sample["prompt"] + sample["text"], lines=True), end="\n\n")
