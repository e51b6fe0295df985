"""Tensors in safetensors files, written as a stream: no second copy of the model in memory.

Reading goes through the safetensors library. Format: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from tilth.core.errors import CheckpointError
from tilth.core.files import disk
from tilth.model.finite import is_finite, no_number

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor to be written: what the header says of it, and how it is had when its turn comes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes and fsyncs a safetensors file: names sorted, the widest types first, so that all stay aligned."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    write_entries(
        path,
        [
            Entry(name, tensors[name].dtype, tuple(tensors[name].shape), partial(tensors.__getitem__, name))
            for name in names
        ],
    )


def write_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Writes and fsyncs a safetensors file in the order given; each tensor is made only when it is written."""
    header, offset = {}, 0
    for entry in entries:
        end = offset + entry.bytes
        header[entry.name] = {
            "dtype": _DTYPES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    disk.write(path, _chunks(text, entries))


def _chunks(header: bytes, entries: Iterable[Entry]) -> Iterator[bytes | memoryview]:
    yield len(header).to_bytes(8, "little") + header
    for entry in entries:
        tensor = entry.make()
        assert tensor.shape == entry.shape, f"{entry.name} is {list(tensor.shape)}, and was to be {list(entry.shape)}"
        if tensor.numel():
            flat = tensor.detach().to("cpu", entry.dtype).contiguous().reshape(-1).view(torch.uint8)
            yield flat.numpy().data.cast("B")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; CheckpointError when it is missing or damaged."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}", "it is missing or damaged: use another checkpoint"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """`read_tensors`, of a model: CheckpointError as well when one holds what is no finite number."""
    tensors = read_tensors(path)
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise no_number(path, name)
    return tensors


def count_elements(path: Path) -> int:
    """How many numbers a safetensors file holds, by its header alone; CheckpointError when it is missing or damaged."""
    try:
        with safe_open(path, "pt") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}", "it is missing or damaged: use another checkpoint"
        ) from error


def load_model(model: torch.nn.Module, tensors: Mapping[str, Tensor], place: Path) -> None:
    """Copies weights into `model`, all and no others; CheckpointError names what is missing, extra or misshapen."""
    copy_into(unique_state(model), tensors, place, "use the recipe that the weights were trained with")


def unique_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state of a model with every tensor once: of those that are tied, by its first name."""
    seen: set[tuple[int, torch.Size]] = set()
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape)
        if not tensor.numel() or key not in seen:
            found[name] = tensor
        seen.add(key)
    return found


def copy_into(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], place: Path, remedy: str) -> None:
    """Copies `tensors` into those of the same names, all and no others, or none of them: a CheckpointError names what
    is missing, extra or misshapen.
    """
    faults = [f"{name} is missing" for name in own if name not in tensors]
    faults += [f"{name} is unknown" for name in tensors if name not in own]
    faults += [
        f"{name} is {list(tensors[name].shape)}, not {list(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if faults:
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        raise CheckpointError(f"{place} does not fit this model: {'; '.join(faults[:5])}{more}", remedy)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
