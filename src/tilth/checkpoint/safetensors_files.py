"""The tensors of a folder that somebody else wrote: found, checked against the files' own sizes, read in pieces.

    open_folder(folder) -> {name: Stored}     one file, or shards with an index; nothing is read but headers
    Stored.pieces(bytes)                      rows after rows, so that no tensor is held twice

A header is hostile until it was compared with its file: whatever it claims, no more is allocated than the file holds.
Format: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tilth.core.errors import CheckpointError
from tilth.core.faults import short

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_HEADER = 100 << 20
PIECE = 16 << 20
FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_BITS = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
_SIZES = {**{name: dtype.itemsize for name, dtype in FLOATS.items()}, **_BITS, "F8_E4M3": 1, "F8_E5M2": 1}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor in a file: its type and shape, and where its bytes lie."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def pieces(self, bytes_at_once: int = PIECE) -> Iterator[tuple[int, Tensor]]:
        """(first row, rows) in order; the memory of the rows is used again for the next ones."""
        dtype, row = FLOATS[self.dtype], self.shape[1:]
        width = math.prod(row)
        rows = max(1, bytes_at_once // max(1, width * dtype.itemsize))
        buffer = bytearray(min(rows, self.shape[0]) * width * dtype.itemsize)
        with self.file.open("rb") as file:
            file.seek(self.start)
            for first in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - first)
                view = memoryview(buffer)[: count * width * dtype.itemsize]
                if file.readinto(view) != len(view):
                    raise CheckpointError(f"{self.file} ended while {self.name} was read", "get the file again")
                yield first, torch.frombuffer(buffer, dtype=dtype, count=count * width).view(count, *row)


def open_folder(folder: Path) -> dict[str, Stored]:
    """Every tensor by its name. CheckpointError names the file or tensor that is missing or damaged."""
    if (folder / SINGLE).is_file():
        return read_header(folder / SINGLE)
    if not (folder / INDEX).is_file():
        raise _no_weights(folder)
    wanted = _read_index(folder / INDEX)
    found: dict[str, Stored] = {}
    for name in sorted(set(wanted.values())):
        for tensor, stored in read_header(_shard(folder, name)).items():
            if tensor in found:
                raise CheckpointError(
                    f"{tensor} is in {found[tensor].file.name} and in {name}", "the shards are of two checkpoints"
                )
            found[tensor] = stored
    if missing := sorted(set(wanted) - set(found)):
        raise CheckpointError(
            f"{folder / wanted[missing[0]]} lacks {', '.join(missing[:5])}, which {INDEX} says it has",
            "index and shards are of two checkpoints: get them again",
        )
    return found


def _shard(folder: Path, name: str) -> Path:
    # No safe_join: the hub's cache is made of links that lead out of the folder. A plain name cannot.
    if Path(name).name != name or "\\" in name:
        raise CheckpointError(
            f"{folder / INDEX}: the name {name!r} leads out of the folder", "do not use this checkpoint"
        )
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, and {INDEX} names it", "get the shard: the checkpoint is not whole")
    return path


def _read_index(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > LARGEST_HEADER:
            raise ValueError("it is too large")
        table = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not table or not all(isinstance(value, str) for value in table.values()):
            raise ValueError("weight_map does not name files")
        return dict(table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}", "get the file again") from None


def _no_weights(folder: Path) -> CheckpointError:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        return CheckpointError(
            f"{folder} has its weights only as pickles ({', '.join(pickles[:3])}), which can run any code when read",
            "look for a revision with safetensors (the hub converts on request), or convert them where nothing can be "
            "harmed: AutoModel.from_pretrained(…).save_pretrained(…)",
        )
    return CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}", "name a folder with weights in safetensors")


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of one file; CheckpointError when the header and the file's size contradict each other."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER):
                raise ValueError(f"the header claims {length:,} bytes, and the file has {size:,}")
            header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("the header is no mapping")
        header.pop("__metadata__", None)
        found = {name: _stored(path, name, entry, 8 + length) for name, entry in header.items()}
        _cover(list(found.values()), 8 + length, size)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no safetensors file, or damaged: {error}", "get the file again") from None
    return found


def _stored(path: Path, name: str, entry: dict[str, Any], base: int) -> Stored:
    dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = [*shape, start, end]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError(f"{name} has the shape {short(shape)} at {short([start, end])}")
    if dtype not in _SIZES:
        raise ValueError(f"{name} is of the type {short(dtype)}, which is not known")
    if end - start != math.prod(shape) * _SIZES[dtype]:
        raise ValueError(f"{name} has {end - start:,} bytes, and {short(shape)} of {dtype} takes another number")
    return Stored(path, name, dtype, tuple(shape), base + start)


def _cover(tensors: list[Stored], start: int, size: int) -> None:
    """Whether they fill the file from its header to its end, without gaps and overlaps."""
    end = start
    for stored in sorted(tensors, key=lambda stored: (stored.start, stored.elements)):
        if stored.start != end:
            raise ValueError(f"{stored.name} does not begin where the tensor before it ends")
        end += stored.elements * _SIZES[stored.dtype]
    if end != size:
        raise ValueError(f"its tensors end at byte {end:,}, and the file has {size:,}")
