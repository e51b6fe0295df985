"""Memory that is refused while a model trains: how it is given back, and how it is told, in words.

    forget(model, device)             gives back what a step that failed has left
    no_room(rows, reason)             what is told to the user when nothing smaller can be tried
    no_room_to_evaluate(reason)       the same of an evaluation, of which not one row went through

A step that fails so raises `OutOfMemory` on every process alike; the trainer does it again in smaller pieces.
"""

from __future__ import annotations

import torch
from torch import nn

from tilth.core.errors import RecipeError
from tilth.distributed.refused import give_back

SMALLER = "choose a smaller model.hidden_size or model.num_hidden_layers, or a smaller preset"


def forget(model: nn.Module, device: torch.device) -> None:
    """Drops all gradients, and gives what is free back to the device; when the error is handled (`give_back`)."""
    for parameter in model.parameters():
        parameter.grad = None
    give_back(device)


def no_room(rows: int, reason: str, *, layers_kept: bool = False) -> RecipeError:
    """What is told when memory was refused and nothing was done about it.

    Args:
        rows: that went through the model at once.
        layers_kept: there are layers that could be computed again on the way back.
    """
    again = "add --set train.activation_checkpointing=full, of which the result is the same; or " if layers_kept else ""
    fewer = (
        f"add --set train.micro_batch={(rows + 1) // 2}: it goes on after the last checkpoint, and but for dropout "
        "the result is the same"
    )
    return RecipeError(
        f"out of memory with {rows} row{'s' if rows > 1 else ''} at once: {reason}",
        fewer if rows > 1 else f"{again}{SMALLER}, and another run folder",
    )


def no_room_to_evaluate(reason: str) -> RecipeError:
    """What is told when an evaluation got no memory for a single row; all that was trained is saved."""
    return RecipeError(
        f"out of memory in an evaluation, with 1 row at once: {reason}",
        "make memory free (other programs hold some), and type the same command: it goes on with this evaluation; or "
        "train in another run folder with a smaller model.context_length",
    )
