"""`tilth trace` and `tilth report`: what became of documents, and what a dataset is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilth.cli.options import DataArgument, Json, Workspace, file_to_write
from tilth.core.errors import RecipeError


def trace(
    data: DataArgument,
    doc: Annotated[
        str | None, typer.Option(metavar="ID|URL|LOCATOR", help="What became of this document, and which steps saw it.")
    ] = None,
    step: Annotated[int | None, typer.Option(min=1, help="Which documents this step of a RUN saw.")] = None,
    workspace: Workspace = Path("work"),
    as_json: Json = False,
) -> None:
    """Follow a document to its steps, or a step back.

    From its source to the training steps that saw it, or from a step to its documents.
    """
    from tilth.cli.output import print_json, results
    from tilth.cli.trace_display import print_documents, print_step
    from tilth.jobs.locate import locate_data
    from tilth.jobs.trace import trace_documents, trace_step

    if (doc is None) == (step is None):
        raise RecipeError("tilth trace needs a document or a step", "give --doc ID|URL|LOCATOR, or --step N of a run")
    dataset, run = locate_data(data, workspace)
    if step is not None and run is None:
        raise RecipeError(f"{data} is no run: only a run has steps", "name the folder of a run, for example runs/NAME")
    if doc is not None:
        found = trace_documents(dataset, doc, run)
        with results():
            print_documents(found)
            if as_json:
                print_json(found[0] if len(found) == 1 else {"documents": found})
        return
    assert run is not None and step is not None
    traced = trace_step(dataset, run, step)
    with results():
        print_step(traced)
        if as_json:
            print_json(traced)


def report(
    data: DataArgument,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page for people, whole in itself.")] = None,
    workspace: Workspace = Path("work"),
    as_json: Json = False,
) -> None:
    """Show what a dataset is made of, and what each rule did to it."""
    from tilth.cli.output import print_json, results
    from tilth.cli.show import say_note
    from tilth.cli.trace_display import print_report
    from tilth.jobs.locate import locate_data
    from tilth.jobs.pages.data_report import report_data, write_page

    page = None if html is None else file_to_write("--html", html)
    dataset, _ = locate_data(data, workspace)
    figures = report_data(dataset)
    if page is not None:
        say_note(f"page: {write_page(dataset, figures, page)}")
    with results():
        print_report(figures)
        if as_json:
            print_json(figures)
