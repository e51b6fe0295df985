"""Whether the weights that somebody else wrote are numbers: read through once, and known from then on by their files.

    read_through(tensors, say)      CheckpointError for the first tensor that holds NaN or infinity

What was found good is remembered in the user's cache, under the size, time and place of each file: who checks a
checkpoint and then trains from it reads it through once. A file that changed is another one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from tilth.checkpoint.safetensors_files import FLOATS, Stored
from tilth.core.config import fingerprint
from tilth.core.environment import cache_folder
from tilth.core.errors import TilthError
from tilth.core.files import disk, write_file
from tilth.model.finite import is_finite, no_number

VERSION = 1
LARGE = 1 << 30
"""Bytes: to read so many takes about a second, and is said."""
_MOST = 1000  # checkpoints that are remembered


def read_through(tensors: Collection[Stored], say: Callable[[str], None] = lambda text: None) -> None:
    """CheckpointError for the first of these tensors that holds what is no finite number.

    Args:
        say: is told when this will take a while.
    """
    weights = sorted(
        (tensor for tensor in tensors if tensor.dtype in FLOATS and tensor.elements),
        key=lambda tensor: (tensor.file, tensor.start),
    )
    mark = _mark(weights)
    if os.path.exists(mark):  # noqa: PTH110 - Path.exists raises where the folder may not be looked into
        return
    size = sum(tensor.elements * FLOATS[tensor.dtype].itemsize for tensor in weights)
    if size >= LARGE:
        say(f"{weights[0].file.parent}: {size / 1e9:.3g} GB of weights are read through once, for NaN and infinity")
    for tensor in weights:
        whole = tensor if tensor.shape else replace(tensor, shape=(1,))
        if not all(is_finite(rows) for _, rows in whole.pieces()):
            raise no_number(tensor.file, tensor.name)
    with contextlib.suppress(TilthError, OSError):  # where nothing can be kept they are read each time
        disk.make_folder(mark.parent)
        _make_room(mark.parent)
        write_file(mark, b"")


def _mark(weights: Collection[Stored]) -> Path:
    """The file that says that these tensors, in files as they are now, are good."""
    files = {}
    for path in sorted({tensor.file for tensor in weights}):
        found = path.stat()
        files[str(path.resolve())] = [found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev]
    names = [tensor.name for tensor in weights]
    return cache_folder() / "finite" / fingerprint([VERSION, files, names])[:32]


def _make_room(folder: Path) -> None:
    """Forgets the older half where there are many."""
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in files[: len(files) // 2] if len(files) >= _MOST else ():
        disk.remove(path)
