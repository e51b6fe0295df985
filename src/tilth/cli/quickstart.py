"""`tilth quickstart`: the whole way, told step by step to someone who sees it for the first time."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from tilth.cli.show import command_name, print_dataset, print_metrics, ready_shown, train_shown
from tilth.cli.tables import count, duration, printable
from tilth.core.rundir import RunFolder


def run_quickstart(run: Path, workspace: Path, workers: int | None, minutes: float | None, steps: int | None) -> None:
    """Collects, trains, measures, samples and reports; done before, it says so and offers more."""
    from tilth.jobs.quickstart import quickstart_recipe, xz_bits_per_byte
    from tilth.jobs.report import write_report

    RunFolder(run).check()
    recipe = quickstart_recipe(run, minutes, steps)
    before = RunFolder(run).last_step()
    print("tilth quickstart: the text that came with Python becomes a small language model of your own.\n", flush=True)
    _say("1/4", "Text: collecting, cleaning, dividing and tokenising it")
    dataset, notes = ready_shown(recipe, workspace, workers)
    print_dataset(dataset)
    _say("2/4", "Training: the model learns to predict the next token")
    result = train_shown(recipe, dataset, run, notes)
    done_before = result["step"] == before
    if done_before:
        print(f"It was done before: step {count(before)}, {duration(result['seconds'])} of training.")
    _say("3/4", "Measuring it on text that it has not seen")
    validation = RunFolder(run).events("evaluation")[-1]["metrics"]
    print_metrics(validation)
    xz = xz_bits_per_byte(dataset, run)
    _compare(validation["bits_per_byte"], xz)
    _say("4/4", "What it writes")
    _print_samples(run)
    commands = next_steps(run, result)
    report = write_report(run, {"xz_bits_per_byte": xz, "next_steps": commands})
    print(f"\nThe whole story, with curves and counts: {report}\n\nWhat to type next:")
    for command in commands:
        print(f"  {command}")


def next_steps(run: Path, result: dict[str, Any]) -> list[str]:
    """Commands that make sense now."""
    longer = max(5, round(result["seconds"] / 60 * 3))
    extra = "" if run == Path("runs/quickstart") else f" --run {run}"
    tilth, text = command_name(), _text_here()
    return [
        f"{tilth} generate {run} --prompt 'def'",
        f"{tilth} evaluate {run}" + (f" --data {shlex.quote(text)}" if text else ""),
        f"{tilth} quickstart{extra} --minutes {longer}",
        f"{tilth} init my-text.yaml",
    ]


def _text_here() -> str:
    """A text in the current folder that the model has not seen; empty where there is none."""
    there = sorted(p.name for p in Path().glob("*.md") if p.is_file() and p.stat().st_size)
    return min(there, key=lambda name: name != "README.md", default="")


def _say(number: str, text: str) -> None:
    print(flush=True)
    Console().print(f"[bold]{number}  {text}[/bold]")


def _compare(model: float, xz: float) -> None:
    verdict = "fewer than" if model < xz else "more than"
    print(f"bits per byte of the held-out text: this model {model:.3f}, {verdict} xz -9e with {xz:.3f}")


def _print_samples(run: Path) -> None:
    samples = RunFolder(run).events("sample")
    last = samples[-1]["step"] if samples else 0
    for sample in (s for s in samples if s["step"] == last):
        Console().print(f"[dim]after {sample['prompt']!r}:[/dim]")
        print(printable(sample["prompt"] + sample["text"], lines=True), end="\n\n")
