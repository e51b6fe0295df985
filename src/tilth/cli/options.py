"""Options that several commands have, in one spelling."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tilth.core.errors import RecipeError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
CheckpointOption = Annotated[
    str, typer.Option("--checkpoint", metavar="WHICH", help="Which weights: final, latest, best or a step.")
]


def which(checkpoint: str) -> Any:
    """What `--checkpoint` names."""
    if checkpoint.isascii() and checkpoint.isdigit():
        return int(checkpoint)
    if checkpoint not in ("final", "latest", "best"):
        raise RecipeError(f"--checkpoint {checkpoint!r} names no weights", "give final, latest, best or a step")
    return checkpoint
