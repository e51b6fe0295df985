"""`tilth check`: a run before it begins, for people on standard output, and as JSON.

    check_shown(path, …) -> bool     prepares what is missing, looks, shows; whether the run may begin

Trained tokens are green and special ones reversed; where there are no colours, trained stretches stand in [[ ]].
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from tilth.cli.output import print_json, results
from tilth.cli.screen import OutConsole, show
from tilth.cli.show import prepare_shown, say_note
from tilth.cli.tables import bare_grid, count, duration, percent, plural, printable, size
from tilth.core.errors import CheckpointError, DataError, RecipeError
from tilth.core.words import left_out
from tilth.data.leaks.exam_words import passed_over

if TYPE_CHECKING:
    from tilth.data.dataset import Dataset
    from tilth.jobs.base import Base
    from tilth.jobs.preflight import Preflight
    from tilth.jobs.preflight.fault import Fault
    from tilth.jobs.preflight.sight import Row, Stretch
    from tilth.jobs.recipe import Recipe

DOCUMENTS = 6
"""Of a row, that are shown."""
FEW = 5
"""Documents: shares of fewer are the same ones over again."""
CHARACTERS = 400
"""Of a stretch, that are shown."""


def check_shown(
    path: Path,
    sets: Sequence[str],
    workspace: Path,
    workers: int | None,
    *,
    as_json: bool,
    fit: str | None = None,
    run: Path | None = None,
) -> bool:
    """Looks at the run of a recipe, and shows what was found.

    Args:
        fit: memory for which to show what would fit, as `24GiB`.
        run: the folder that the run will have, where it is not runs/NAME.

    Raises:
        RecipeError: recipe, data or the checkpoint to start from come to nothing; said as JSON as well.
    """
    from tilth.jobs.recipe import load_recipe

    with _refusals(as_json):
        recipe = load_recipe(path, sets)  # a mistyped name is answered before torch is imported
    from tilth.jobs.base import find_base
    from tilth.jobs.forecasting.fit import parse_bytes
    from tilth.jobs.preflight import look
    from tilth.jobs.ready import check_base

    room = None if fit is None else parse_bytes(fit)
    with _refusals(as_json):
        base = find_base(recipe)
        check_base(base, say_note)
        dataset = _dataset(recipe, base, workspace, workers)
        with dataset.held():
            found = look(recipe, dataset, room, say_note, run, base)
    said = found.plain()
    with results():
        colours = OutConsole().color_system is not None
        show(Group(*_rows(found, colours), *_tables(said), *_judgement(found)))
        if as_json:
            print_json(said)
    return found.ok


@contextlib.contextmanager
def _refusals(as_json: bool) -> Iterator[None]:
    """What comes to nothing here ends the command, and is said as JSON where that was asked for."""
    try:
        yield
    except (RecipeError, DataError, CheckpointError) as error:
        if as_json:
            from tilth.jobs.preflight.summary import refused

            rule = {RecipeError: "recipe", CheckpointError: "checkpoint"}.get(type(error), "data")
            with results():
                print_json(refused(rule, error))
        raise RecipeError(error.message, error.remedy) from error


def _dataset(recipe: Recipe, base: Base | None, workspace: Path, workers: int | None) -> Dataset:
    """What is prepared; else it is prepared now, and said."""
    from tilth.jobs.prepare import find_prepared

    if there := find_prepared(recipe, base, workspace):
        note = f"; {there.note}" if there.note else ""
        say_note(f"looking at {there.dataset.folder}, prepared before{note}")
        return there.dataset
    print("nothing is prepared of this recipe yet: that comes first", file=sys.stderr)
    return prepare_shown(recipe, workspace, workers, base=base)


def faults_text(word: str, style: str, faults: Sequence[Fault]) -> Iterator[Text]:
    """A block for each: rule and message, and below it the line to change."""
    for fault in faults:
        text = Text.assemble((f"{word} {printable(fault.rule)}", style), f": {printable(fault.message)}")
        yield text.append(f"\n  change  {printable(fault.remedy)}")


def _judgement(found: Preflight) -> Iterator[Text]:
    yield Text()
    yield from faults_text("error", "bold red", found.errors)
    yield from faults_text("warning", "yellow", found.warnings)
    warned = f", with {plural(len(found.warnings), 'warning')}" if found.warnings else ""
    if found.ok:
        yield Text(f"ok: the run can begin{warned}", "bold green")
    else:
        yield Text(f"it must not run: {plural(len(found.errors), 'error')}{warned}", "bold red")


def _rows(found: Preflight, colours: bool) -> Iterator[Text]:
    for row in found.rows:
        padding = f", {plural(row.padding, 'position')} of padding" if row.padding else ""
        yield Text(f"row {row.sample + 1} of training: {plural(len(row.documents), 'document')}{padding}", "bold")
        yield from _documents(row, colours)
        yield Text()


def _documents(row: Row, colours: bool) -> Iterator[Text]:
    for number, stretches in enumerate(row.documents[:DOCUMENTS], 1):
        tokens, trained = (sum(s.tokens for s in stretches if s.trained or not only) for only in (False, True))
        yield Text(f"--- document {number}: {plural(tokens, 'token')}, {count(trained)} trained", "dim")
        yield Text().join(_stretch(stretch, colours) for stretch in stretches)
    if (more := len(row.documents) - DOCUMENTS) > 0:
        yield Text(f"--- and {plural(more, 'document')} more", "dim")


def _stretch(stretch: Stretch, colours: bool) -> Text:
    text, style = _shortened(stretch.text), ["green"] if stretch.trained else []
    if not colours:
        return Text(f"[[{text}]]" if stretch.trained else text)
    return Text(text, " ".join([*style, *(["reverse"] if stretch.special else [])]))


def _shortened(text: str) -> str:
    shown = printable(text, lines=True)
    half = CHARACTERS // 2
    if len(shown) <= CHARACTERS + half:  # or the cut would save nothing
        return shown
    return f"{shown[:half]} … {count(len(shown) - 2 * half)} characters … {shown[-half:]}"


def _tables(said: dict[str, Any]) -> Iterator[RenderableType]:
    for title, lines in (
        ("training documents", _document_lines(said)),
        ("vocabulary", _vocabulary_lines(said["vocabulary"])),
        ("run", _run_lines(said["forecast"])),
        ("memory that stays", _memory_lines(said["forecast"])),
        ("forecast", forecast_lines(said["forecast"]["run"], _why_unknown(said["forecast"], said["errors"]))),
        ("what would fit: rows at once", _fit_lines(said["fits"])),
    ):
        table = bare_grid(title)
        for label, value in lines:
            table.add_row(label, Text(printable(value)))
        if table.row_count:
            yield table
            yield Text()


def _document_lines(said: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from tilth.jobs.preflight.facts import COUNTED_IN, OF_ALL

    train, held = said["splits"]["train"], said["splits"]["validation"]
    yield "in all", f"{count(said['rows'])}, {plural(train['tokens'], 'token')}; validation {count(held['documents'])}"
    if train["read"] < train["tokens"]:
        yield "looked at", f"the first {plural(train['read'], 'token')}: what follows is of them"
    yield "tokens of each", _lengths(said["lengths"], train["documents"])
    for label, key in (
        ("too long for a row", "too_long"),
        ("  truncated", "truncated"),
        ("  split", "split"),
        ("  dropped", "dropped"),
        ("wholly masked", "masked"),
        ("without an end", "without_end"),
        ("empty", "empty"),
        ("duplicates", "duplicates"),
    ):
        below = sum(said["unusable"].get(rule, 0) for rule in COUNTED_IN.get(key, ()))  # with its rule
        yield label, "not known" if said[key] is None else count(said[key] - below)
    for rule, number in said["unusable"].items():
        yield f"left out: {printable(rule)}", f"{count(number)} {OF_ALL}"
    for rule, number in said["lost"].items():
        yield f"not whole: {printable(rule)}", f"{count(number)} {OF_ALL}"
    for rule, one in said["passed_over"].items():
        named = f": {left_out(rule, one['first'], one['files'])}" if one["first"] else ""
        yield f"left out: {printable(rule)}", f"{count(one['files'])}{named}"
    for told in passed_over(said["evaluation_files"]):
        yield "left out", printable(told)
    yield "validation in training", f"{count(said['leaks'])}, {count(said['shared'])} word for word ({_looked(said)})"


def _lengths(quantiles: dict[str, int], documents: int) -> str:
    if documents < FEW and quantiles:
        longest = count(max(quantiles.values()))
        return longest if documents == 1 else f"up to {longest}"
    return ", ".join(f"{name} up to {count(length)}" for name, length in quantiles.items()) or "there is none"


def _looked(said: dict[str, Any]) -> str:
    taken = (
        f"; for their sake {plural(said['leaks_taken_out'], 'training document')} left out or cut"
        if said["leaks_taken_out"]
        else ""
    )
    known = "preparing keeps them apart" if said["leaks_looked_for"] == "prepared so" else said["leaks_looked_for"]
    return f"{known}{taken}"


def _vocabulary_lines(ids: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "tokenizer", f"{plural(ids['tokenizer'], 'id')}, {count(ids['unused'])} of them not in the training text"
    grown = f"; the checkpoint has {count(ids['checkpoint'])}" if ids["checkpoint"] is not None else ""
    yield "model", f"{plural(ids['model'], 'row')}{grown}" if ids["model"] is not None else f"not known{grown}"
    if ids["new_tokens"]:
        yield "new tokens", ", ".join(ids["new_tokens"])
    stops = ids["generation_ends"]
    yield "texts end with", ids["end"] + (f"; generation_config.json: {stops}" if stops is not None else "")


def _run_lines(forecast: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if forecast["rows_per_step"] is None:
        yield "unknown", "there are no rows to read"
        return
    ends = f"{forecast['hours']:g} hours" if forecast["hours"] else "a metric"
    if forecast["steps"] is None:
        yield "steps", f"until {ends} ends it"
    else:
        yield "steps", count(forecast["steps"])
        yield "tokens", f"{count(forecast['tokens'])}, {forecast['epochs']:.2f} epochs"
    share = f", {percent(forecast['warmup_share'])} of the run" if forecast["warmup_share"] is not None else ""
    yield "warm-up", f"{plural(forecast['warmup_steps'], 'step')}{share}"
    yield "rows", f"{count(forecast['rows_per_step'])} a step, {count(forecast['rows_per_epoch'])} an epoch"
    yield "of their positions", f"{percent(forecast['filled'])} filled, {percent(forecast['trained'])} trained"


def _memory_lines(forecast: dict[str, Any]) -> Iterator[tuple[str, str]]:
    memory = forecast["memory"]
    if memory is None:
        yield "unknown", "the model cannot be counted"
        return
    trained = f", {count(forecast['trained_parameters'])} of them train"
    yield "parameters", count(forecast["parameters"]) + trained
    for name, taken in memory.items():
        yield name, size(taken)
    yield "not in it", "; ".join(forecast["left_out"])


def _why_unknown(forecast: dict[str, Any], errors: Sequence[Any]) -> str:
    if not errors:
        return "the model cannot be run without numbers (transformers' own classes, some of them)"
    why = "the model cannot be counted" if forecast["parameters"] is None else "there are no rows to read"
    return f"{why}: see the error below"


def forecast_lines(run: dict[str, Any] | None, unknown: str) -> Iterator[tuple[str, str]]:
    """Memory at its peak, by part; time and cost; or why that is unknown."""
    if run is None:
        yield "unknown", unknown
        return
    yield (
        "memory",
        f"{size(run['memory'])} at the most, in {'an evaluation' if run['when'] == 'evaluation' else 'a step'}",
    )
    for name, taken in sorted(run["parts"].items(), key=lambda part: -part[1]):
        if taken > 0.005 * run["memory"]:
            yield f"  {name}", size(taken)
    fewer = "; measured when the run starts: perhaps fewer" if run["micro_batch_open"] else ""
    yield "  rows at once", f"{count(run['micro_batch'])}{fewer}"
    if (again := run["activation_checkpointing"]) not in ("auto", "none"):
        yield "  layers computed again", "all" if again == "full" else f"the first {again}"
    yield "a step", f"{run['step_seconds']:.3g} s, at the rates of this machine (measured {run['calibrated']})"
    if run["seconds"] is not None:
        yield "all steps", duration(run["seconds"])
    if run["cost"] is not None:
        yield "cost", f"{run['cost']:.2f}"


def _fit_lines(fits: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for fit in fits:
        way = f"{fit['trains']}, activation_checkpointing {fit['activation_checkpointing']}"
        fewer = fit["evaluate_tokens"]
        with_fewer = f", with evaluate.batch_tokens: {fewer}" if fewer else ""
        more = " or more" if fit["or_more"] else ""
        taken = f"{count(fit['micro_batch'])}{more}, which take {size(fit['memory'])}{with_fewer}"
        yield way, taken if fit["micro_batch"] else f"none: one row takes {size(fit['memory'])}"
