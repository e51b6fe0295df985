"""`tilth prepare --dry-run`: what a recipe would make of its sources, as a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tilth.cli.output import results
from tilth.cli.prepare_display import PrepareDisplay
from tilth.cli.screen import show
from tilth.cli.show import say_note
from tilth.cli.tables import bare_table, brief_count, duration, printable, size
from tilth.core.errors import RecipeError
from tilth.core.words import bytes_of, left_out

_Shown = Callable[[float], str]

if TYPE_CHECKING:
    from tilth.core.executors import ExecutorName
    from tilth.data.forecast import Estimate, Forecast
    from tilth.jobs.recipe import Recipe

_LEAST = 100_000
_LEFT_OUT = "  left out by "


def parse_size(text: str) -> int:
    """`32MB` -> 32000000; RecipeError when it is no size."""
    number = bytes_of(text)
    if number is None:
        raise RecipeError(f"--sample {text!r} is no size", "write a number with kB, MB or GB, such as --sample 32MB")
    if number < _LEAST:
        raise RecipeError(f"--sample {text!r} is too little to tell anything", f"sample at least {size(_LEAST)}")
    return number


def forecast_shown(
    recipe: Recipe, workspace: Path, workers: int | None, executor: ExecutorName, sample: int
) -> Forecast:
    """Runs the forecast and shows it."""
    from tilth.data.forecast import Terms
    from tilth.jobs.dry_run import forecast_data

    print(f"a sample of {size(sample)} goes through every step, in parts; nothing is kept of it", file=sys.stderr)
    with PrepareDisplay(label="trial: ") as display:
        forecast = forecast_data(
            recipe, workspace, workers, terms=Terms(sample_bytes=sample), on_done=display, executor=executor
        )
    with results():
        show(forecast_table(forecast))
    for note in _remarks(forecast):
        say_note(note)
    return forecast


def forecast_table(forecast: Forecast) -> Table:
    """What is foretold, with the ends of its 95% intervals."""
    table = bare_table("forecast", ("what", "left"), *((name, "right") for name in ("expected", "at least", "at most")))
    notes = []
    for label, estimate, shown, bold in _rows(forecast):
        values = (shown(value) for value in (estimate.value, estimate.low, estimate.high))
        table.add_row(Text(printable(label)), *values, style="bold" if bold else None)
        rule = label.removeprefix(_LEFT_OUT)
        if names := forecast.passed_over.get(rule):
            notes.append(f"{printable(rule)}: {printable(left_out(rule, names, round(estimate.value)))}")
    table.notes = notes
    return table


def _rows(forecast: Forecast) -> Iterator[tuple[str, Estimate, _Shown, bool]]:
    quantities, rules = forecast.quantities, forecast.rules
    early = {rule for rule in rules["dropped"] if rule.partition("/")[0] in ("list", "fetch", "read")}
    yield from ((f"{_LEFT_OUT}{rule}", rules["dropped"][rule], brief_count, False) for rule in sorted(early))
    yield "documents read", quantities["read_documents"], brief_count, True
    yield "text read", quantities["read_text_bytes"], size, True
    yield from ((f"  changed by {rule}", one, brief_count, False) for rule, one in rules["changed"].items())
    late = (item for item in rules["dropped"].items() if item[0] not in early)
    yield from ((f"  dropped by {rule}", one, brief_count, False) for rule, one in late)
    yield from ((f"  + pieces by {step}", one, brief_count, False) for step, one in forecast.pieces.items())
    yield "documents after cleaning", quantities["cleaned_documents"], brief_count, True
    yield "text after cleaning", quantities["cleaned_text_bytes"], size, True
    for name, growth in forecast.growth.items():
        label = f"  {name} duplicates" if name in ("exact", "near") else f"  dropped by {name}"
        grows = f"power {growth.power:.2f}" if growth.fitted else "not known"
        yield f"{label} (growth: {grows})", growth.estimate, brief_count, False
    yield "documents kept", quantities["kept_documents"], brief_count, True
    yield "text kept", quantities["kept_text_bytes"], size, True
    yield "tokens", quantities["tokens"], brief_count, True
    yield f"time with {forecast.workers} workers", quantities["seconds"], duration, True
    yield "disk", quantities["disk_bytes"], size, True
    yield "  of it the dataset", quantities["dataset_bytes"], size, False


def _remarks(forecast: Forecast) -> Iterator[str]:
    for source in forecast.sources:
        if source["bytes"]:
            share = source["sampled_bytes"] / source["bytes"]
            yield (
                f"source {source['name']}: {size(source['sampled_bytes'])} sampled of {size(source['bytes'])} in "
                f"{source['files']:,} files ({share:.2%})"
            )
        for why in source["not_sampled"][:5]:
            yield f"source {source['name']}: not in the forecast: {why}"
        if len(source["not_sampled"]) > 5:
            yield f"source {source['name']}: and {len(source['not_sampled']) - 5} more"
    yield from forecast.notes
