"""Memory that the allocator of a device refuses: how it is told from other faults, and given back before another try.

    is_of_memory(error)     whether an error is the allocator's
    give_back(device)       what is free, to the device

What cannot be done in smaller pieces by the one process to which it was refused raises `OutOfMemory` on all alike.
"""

from __future__ import annotations

import gc

import torch

from tilth.core.allocator import give_back_freed_blocks

_WORDS = ("can't allocate memory", "out of memory", "bad_alloc", "_STATUS_ALLOC_FAILED")


class OutOfMemory(Exception):  # noqa: N818 - as torch's is called; no error of a user: who asked answers it
    """Memory was refused, in this process or another; nothing is left of the try.

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


def give_back(device: torch.device) -> None:
    """Gives what is free back to the device.

    To be called when the error is handled: its traceback holds the frames, and they the activations.
    """
    gc.collect()  # what a graph or a traceback holds in a circle
    if device.type == "cuda":
        torch.cuda.empty_cache()  # pieces of the size that failed are of no use to smaller ones
    elif device.type == "mps":
        torch.mps.empty_cache()
    else:
        give_back_freed_blocks()  # which lie between others, and are too small or too large for the next
