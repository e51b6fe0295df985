"""`tilth export`: a model for other programs, in a folder, and onto the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth.cli.options import CheckpointOption, Json, WrappedOption, which
from tilth.core.errors import RecipeError


def export(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A run, a checkpoint, a model's folder, or ORG/NAME of the hub.")
    ],
    to: Annotated[
        Literal["hf", "peft"],
        typer.Option(help="hf: a whole model for transformers (an adapter is merged); peft: the adapter alone."),
    ] = "hf",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder to write; it must not exist yet.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="What hf weights are written in.  [default: float32; a checkpoint as it is stored]"),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="DIR|ORG/NAME", help="What a peft adapter is loaded beside.  [default: as the run says]"),
    ] = None,
    checkpoint: CheckpointOption = "final",
    wrapped: WrappedOption = False,
    push: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Upload the folder to the hub; without --out, PATH itself.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that --push makes is private.")] = False,
    as_json: Json = False,
) -> None:
    """Write a model as Hugging Face or PEFT has it.

    With a card made from its run; uploaded if asked.
    """
    from tilth.cli.output import print_json, results

    _check(to, out, dtype, base, push, private, wrapped)
    if push is not None:
        from tilth.exporting.push import make_repository

        make_repository(push, private)  # before the work, which a missing login would make vain
    said: dict[str, Any] = {"folder": str(out or path)}
    if out is not None:
        said |= _written(path, to, out, dtype, base, which(checkpoint), push, wrapped)
    pushed = None
    if push is not None:
        from tilth.jobs.export import push_folder

        pushed = push_folder(out or path, push)
    with results():
        if out is not None:
            print(f"{out}: {said['architecture']}, {said['parameters']:,} parameters, {len(said['files'])} files")
        if pushed is not None:
            print(f"pushed to {pushed.repository}, commit {pushed.commit}\n{pushed.address}")
        if as_json:
            print_json({**said, "pushed": pushed.plain() if pushed else None})


def _check(
    to: str, out: Path | None, dtype: str | None, base: str | None, push: str | None, private: bool, wrapped: bool
) -> None:
    if out is None and push is None:
        raise RecipeError("tilth export needs a place to write to", "add --out DIR")
    for option, value, needs, there in (
        ("--dtype", dtype, "--to hf", to == "hf" and out is not None),
        ("--wrapped", wrapped, "--to hf", to == "hf" and out is not None),
        ("--base", base, "--to peft", to == "peft" and out is not None),
        ("--private", private, "--push ORG/NAME", push is not None),
    ):
        if value and not there:
            raise RecipeError(
                f"{option} without {needs}{'' if out or push is None else ' and --out'}", f"leave {option} out"
            )


def _written(
    path: str, to: str, out: Path, dtype: Any, base: str | None, chosen: Any, name: str | None, wrapped: bool
) -> dict[str, Any]:
    """Writes the folder; what is told of it."""
    from tilth.cli.show import say_note
    from tilth.jobs.export import export_adapter, export_model

    if to == "hf":
        written = export_model(path, out, chosen, dtype, name=name, wrapped=wrapped or None, say=say_note)
    else:
        written = export_adapter(path, out, chosen, base, name=name, say=say_note)
    return {
        "format": to,
        "architecture": written.architecture,
        "parameters": written.parameters,
        "files": list(written.files),
    }
