"""Arguments and options that several commands have, and what they are read as."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth.core.errors import RecipeError

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML recipe; `tilth init` writes one.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/quickstart.")]
DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA|RUN", help="A dataset's folder, a run's, or a recipe's name (the dataset prepared last)."
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Changes one value of the recipe: train.steps=100."),
]
RunOption = Annotated[Path | None, typer.Option("--run", metavar="DIR", help="The run folder.  [default: runs/NAME]")]
Workspace = Annotated[Path, typer.Option(metavar="DIR", help="Where prepared data lies.")]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Processes that prepare.  [default: one a processor]")
]
ExecutorOption = Annotated[
    Literal["processes", "ray"],
    typer.Option(
        "--executor",
        help="Who prepares: processes of this machine, or a Ray cluster (RAY_ADDRESS, else one started here).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
CheckpointOption = Annotated[
    str, typer.Option("--checkpoint", metavar="WHICH", help="Which weights: final, latest, best or a step.")
]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--adapter", metavar="FOLDER|none", help="Put this adapter beside the model; none: leave its own out."
    ),
]
WeightTypeOption = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option("--dtype", help="What weights are held in; bfloat16 takes half the memory, and is faster with g++."),
]
WrappedOption = Annotated[
    bool, typer.Option("--wrapped", help="Of a Hugging Face folder: use transformers' own class.")
]


def file_to_write(option: str, path: Path) -> Path:
    """The file that an option names, as it was typed; RecipeError where that is a folder (`.`, as is an empty one)."""
    if path.is_dir() or not path.name:
        raise RecipeError(f"{option} {path}: this is a folder", f"name a file, such as {option} {path / 'page.html'}")
    return path


def which(checkpoint: str) -> Any:
    """The weights that `--checkpoint` names: a word, or a step."""
    if checkpoint.isascii() and checkpoint.isdigit():
        return int(checkpoint)
    if checkpoint not in ("final", "latest", "best"):
        raise RecipeError(f"--checkpoint {checkpoint!r} names no weights", "give final, latest, best or a step")
    return checkpoint
