"""Memory that is refused while a model trains: how it is told, in words, and how it is given back.

    is_of_memory(error)        whether an error is the allocator's
    forget(model, device)      gives back what a step that failed has left
    no_room(rows, reason)      what is told to the user when nothing smaller can be tried

A step that fails so raises `OutOfMemory` on every process alike; the trainer does it again in smaller pieces.
"""

from __future__ import annotations

import gc

import torch
from torch import nn

from tilth.core.errors import RecipeError

SMALLER = "choose a smaller model.hidden_size or model.num_hidden_layers, or a smaller preset"
_WORDS = ("can't allocate memory", "out of memory", "bad_alloc", "_STATUS_ALLOC_FAILED")


class OutOfMemory(Exception):  # noqa: N818 - as torch's is called; no error of a user: the trainer answers it
    """Memory was refused within a step, in this process or another; nothing is left of the try.

    Args:
        reason: the allocator's words, or that they are another process's.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_of_memory(error: Exception) -> bool:
    """Whether memory was refused. torch's CPU allocator, C++ libraries and the workspaces of cuBLAS and cuDNN say it by
    a plain RuntimeError.
    """
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(words in str(error) for words in _WORDS)


def forget(model: nn.Module, device: torch.device) -> None:
    """Drops all gradients, and gives what is free back to the device.

    To be called when the error is handled: its traceback holds the frames, and they the activations.
    """
    for parameter in model.parameters():
        parameter.grad = None
    gc.collect()  # what a graph or a traceback holds in a circle
    if device.type == "cuda":
        torch.cuda.empty_cache()  # pieces of the size that failed are of no use to smaller ones
    elif device.type == "mps":
        torch.mps.empty_cache()


def no_room(rows: int, reason: str) -> RecipeError:
    """What is told when memory was refused and nothing was done about it.

    Args:
        rows: that went through the model at once.
    """
    fewer = (
        f"add --set train.micro_batch={(rows + 1) // 2}: it goes on after the last checkpoint, and but for dropout "
        "the result is the same"
    )
    return RecipeError(
        f"out of memory with {rows} row{'s' if rows > 1 else ''} at once: {reason}",
        fewer if rows > 1 else f"{SMALLER}, and another run folder",
    )
