"""How fast this machine does what a step is made of: measured in seconds, kept with its date, measured anew when torch,
processor, threads or the number of processes beside this one change.

    calibrated(device) -> Calibration       the kept one, else a new one
    doubt(device)                           forgets the kept one: a run took much longer, or shorter, than it said
    calibration.seconds(work)               of counted work (meter.py)

A curve is a few measured (size, seconds) of one kind of work; between them the logarithms are joined by lines, beyond
them the rate is that of the nearest.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tilth.core.config import fingerprint
from tilth.core.environment import cache_folder, launched, processor_features, processor_name
from tilth.core.errors import TilthError
from tilth.core.files import disk, read_sealed, write_sealed
from tilth.training.meter import Kind
from tilth.training.torch_optim import AdamW

VERSION = 3
REPEATS = 3
PATIENCE = 0.1
"""Seconds for which each measurement is repeated: on a busy machine one of many repeats is undisturbed."""
LONGEST = 1.0
"""Seconds after which none is repeated, though it may have been done only once: a processor that emulates bf16, or is
taken up by other work, would take minutes for all of them."""
_DTYPES = (torch.float32, torch.bfloat16)
_SIDES = ((128, 128, 128), (512, 256, 256), (1024, 768, 768))
_NUMBERS = (1 << 12, 1 << 18, 1 << 23)
_ATTENTION = ((2, 4, 256, 64),)
_PARAMETERS = (1 << 21,)
_LARGER: dict[str, tuple[Any, ...]] = {
    "sides": ((4096, 1024, 1024), (16384, 1024, 4096)),
    "numbers": (1 << 27,),
    "attention": ((8, 12, 1024, 64),),
    "parameters": (1 << 26,),
}
"""Besides, on a GPU, which is not at work yet with what fills a CPU."""
_CACHE, _MOST = 96 << 20, 128
"""Bytes that a measurement goes over before it comes to the same again; sets of tensors at the most."""
_CHAIN = 50
_aten = torch.ops.aten

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        made: the day, as ISO 8601 has it.
        key: of what it was measured on; another machine has another.
        curves: by kind of work and dtype (`product/bfloat16`), sizes rising: operations of products and attention, else
            bytes.
        call: seconds of an operation on almost nothing.
    """

    made: str
    key: str
    curves: dict[str, Curve]
    call: float

    def seconds(self, work: Counter[Kind]) -> float:
        """What this work should take, one operation after the other."""
        return sum(calls * max(self.call, self._one(kind)) for kind, calls in work.items())

    def _one(self, kind: Kind) -> float:
        curve = self.curves.get(f"{kind.name}/{kind.dtype}") or self.curves[f"{kind.name}/float32"]
        return along(curve, kind.flops or kind.bytes)


def along(curve: Sequence[tuple[float, float]], size: float) -> float:
    """Seconds at a size, by the curve."""
    if size <= 0:
        return 0.0
    sizes = [point[0] for point in curve]
    place = bisect(sizes, size)
    if place in (0, len(curve)):
        nearest, seconds = curve[min(place, len(curve) - 1)]
        return seconds if place == 0 else seconds * size / nearest
    (low, first), (high, last) = curve[place - 1], curve[place]
    share = math.log(size / low) / math.log(high / low)
    return math.exp(math.log(first) + share * math.log(last / first))


def calibrated(device: torch.device) -> Calibration:
    """The calibration of this machine with the threads that torch has now, and with as many processes at work as
    torchrun has started on it; measured if there is none. Then all of them should measure at once.
    """
    key = _key(device)
    path = _path(key)
    with contextlib.suppress(TilthError, KeyError, TypeError, ValueError):
        kept = read_sealed(path)
        if kept["key"] == key:
            curves = {name: [(float(a), float(b)) for a, b in curve] for name, curve in kept["curves"].items()}
            return Calibration(str(kept["made"]), key, curves, float(kept["call"]))
    made = measure(device, key)
    with contextlib.suppress(TilthError, OSError):  # where nothing can be kept it is measured each time
        disk.make_folder(path.parent)
        write_sealed(path, asdict(made))
    return made


def is_kept(device: torch.device) -> bool:
    """Whether there is a calibration of this machine with the threads and processes that there are now."""
    return os.path.exists(_path(_key(device)))  # noqa: PTH110 - Path.exists raises where it may not be looked for


def doubt(device: torch.device) -> None:
    """Forgets the kept calibration of this machine, so that the next forecast measures anew: it was busy, perhaps."""
    path = _path(_key(device))
    with contextlib.suppress(OSError):
        if path.exists():
            disk.remove(path)


def _path(key: str) -> Path:
    return cache_folder() / f"calibration-{key[:16]}.json"


def _key(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    facts = [VERSION, torch.__version__, name, processor_features(), torch.get_num_threads(), device.type]
    facts += [beside] if (beside := launched().local_size) > 1 else []  # they share its cores
    return fingerprint(facts)


def measure(device: torch.device, key: str) -> Calibration:
    """Two seconds or so of measuring, and on a processor without a unit for bf16 some seconds more."""
    curves: dict[str, Curve] = {}

    def sizes(of_a_cpu: tuple[Any, ...], larger: str) -> tuple[Any, ...]:
        return of_a_cpu + _LARGER[larger] if device.type == "cuda" else of_a_cpu

    for dtype in _DTYPES:
        name = str(dtype).removeprefix("torch.")
        curves[f"product/{name}"] = [_product(device, dtype, *sides) for sides in sizes(_SIDES, "sides")]
        shapes = sizes(_ATTENTION, "attention")
        curves[f"attention/{name}"] = [_attention(device, dtype, shape) for shape in shapes]
    for name, work in (("pass", torch.neg), ("slow", _aten.gelu.out)):
        curves[f"{name}/float32"] = [_pass(device, work, numbers) for numbers in sizes(_NUMBERS, "numbers")]
    curves["update/float32"] = [_update(device, numbers) for numbers in sizes(_PARAMETERS, "parameters")]
    return Calibration(date.today().isoformat(), key, curves, _call(device))


def _best(device: torch.device, works: Sequence[Callable[[], Any]]) -> float:
    """Seconds of one of them: all are done in turn, and the shortest turn counts, the first one left out. Of long ones
    fewer are done in a turn: they go over so much memory that none finds the cache warm.
    """
    one = min(_turn(device, works[:1]) for _ in range(2))  # the first of all may load what it is done by
    if one >= LONGEST:
        return one
    works = works[: max(1, int(LONGEST / (REPEATS + 1) / one))]
    found: list[float] = []
    while (len(found) <= REPEATS or sum(found) < PATIENCE) and sum(found) < LONGEST:
        found.append(_turn(device, works))
    return min(found[1:] or found) / len(works)


def _turn(device: torch.device, works: Sequence[Callable[[], Any]]) -> float:
    start = time.perf_counter()
    for work in works:
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - start


def _cold(size: int) -> range:
    """As many times as tensors of `size` bytes in all are to be there, so that each is out of the cache when it is used
    again: that is how a step finds them.
    """
    return range(max(1, min(_MOST, _CACHE // size)))


def _product(device: torch.device, dtype: torch.dtype, rows: int, width: int, inner: int) -> tuple[float, float]:
    """The three of a linear layer: its output, and the gradients of its input and of its weight."""

    def layer() -> Callable[[], Any]:
        shapes = ((rows, width), (inner, width), (rows, inner))
        x, weight, out = (torch.ones(shape, device=device, dtype=dtype) for shape in shapes)
        dx, dweight = torch.empty_like(x), torch.empty_like(weight)

        def all_three() -> None:
            torch.mm(x, weight.T, out=out)
            torch.mm(out, weight, out=dx)
            torch.mm(out.T, x, out=dweight)

        return all_three

    size = 2 * (rows * width + inner * width + rows * inner) * dtype.itemsize
    return 2.0 * rows * width * inner, _best(device, [layer() for _ in _cold(size)]) / 3


def _attention(device: torch.device, dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[float, float]:
    def layer() -> Callable[[], Any]:
        q, k, v = (torch.ones(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3))

        def both() -> None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            torch.autograd.grad(out, (q, k, v), torch.ones_like(out))

        return both

    works = [layer() for _ in _cold(8 * math.prod(shape) * dtype.itemsize)]
    return 14.0 * math.prod(shape) * shape[2], _best(device, works)


def _pass(device: torch.device, work: Callable[..., Tensor], numbers: int) -> tuple[float, float]:
    def one() -> Callable[[], Tensor]:
        x = torch.ones(numbers, device=device)
        return partial(work, x, out=torch.empty_like(x))

    return 8.0 * numbers, _best(device, [one() for _ in _cold(8 * numbers)])


def _update(device: torch.device, numbers: int) -> tuple[float, float]:
    parameter = torch.nn.Parameter(torch.ones(numbers, device=device))
    parameter.grad = torch.ones_like(parameter)
    optimizer = AdamW([parameter], fused=True)
    return 16.0 * parameter.numel(), _best(device, [optimizer.step])


def _call(device: torch.device) -> float:
    """Seconds of an operation on almost nothing, forward and back; on a GPU, of asking for it."""
    tiny = torch.ones(8, device=device, requires_grad=True)

    def chain() -> None:
        out = tiny
        for _ in range(_CHAIN):
            out = out * 1.0
        torch.autograd.grad(out, tiny, torch.ones_like(out))

    return _best(device, [chain]) / (2 * _CHAIN)
