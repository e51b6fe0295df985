"""Code of torch run on paper: shapes, no numbers, no memory; what it would hold and compute is counted.

    with Paper() as meter:          tensors made within claim their device, and take nothing
        ...                         the very code that a run executes
    meter.tape                      memory taken and given back, in order
    meter.work                      products and passes over memory, by kind and size
    play(tapes, keeps=True)         the most that is taken at once, by what it is of

Whatever the code does is counted as it is done: saved activations, copies in another precision, pieces of the loss,
temporaries of the optimizer. Nothing has to be kept true by hand. What a kernel takes inside itself is not seen.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tilth.model.paper import is_seen, times

_aten = torch.ops.aten
SMALL = 48 << 20
"""From this size on glibc maps a block by itself and gives it back whole (core/environment.py); below, freed ones leave
holes."""
_PASSING = {"activations", "loss", "working"}
_PRODUCTS = {"mm", "addmm", "addmm_", "bmm", "baddbmm"}
_KNOWN = {"gelu", "softmax", "layer_norm", "rms_norm", "silu", "tanh", "exp", "logsumexp", "dropout", "bernoulli"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work of one size.

    Attributes:
        name: `product`, `attention`, `update` (the optimizer's fused kernel), `slow` (a pass that computes more than it
            reads) or `pass`.
        dtype: in which the work is done, as torch calls it (`float32`).
        flops, bytes: of one call; bytes are those read and written.
    """

    name: str
    dtype: str
    flops: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Take:
    """Memory for a new tensor."""

    block: int
    size: int
    part: str


@dataclass(frozen=True, slots=True)
class Give:
    """The memory of a tensor is given back."""

    block: int


@dataclass(frozen=True, slots=True)
class Call:
    """The memory of a tensor is counted as another part from here on."""

    block: int
    part: str


Tape = list[Take | Give | Call]


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the memory of every new tensor until it is let go of, and the work of every operation.

    `part` is what new tensors are counted as. Numbers are not known on paper: where the code asks for one, it gets 0,
    or true.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = "other"
        self.tape: Tape = []
        self.work: Counter[Kind] = Counter()
        self._blocks: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return dtype == torch.bool or (0.0 if dtype.is_floating_point else 0)
        out = func(*args, **(kwargs or {}))
        if not is_seen():
            return out
        made = _tensors(out)
        new = [tensor for tensor in made if self._is_new(tensor)]
        self._count(func, args, kwargs, made, new)
        return out

    def _is_new(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        if storage in self._blocks:
            return False
        block = self._blocks[storage] = next(self._numbers)
        weakref.finalize(storage, self._let_go, block)
        self.tape.append(Take(block, storage.nbytes(), self.part))
        return True

    def _let_go(self, block: int) -> None:
        self.tape.append(Give(block))

    def call(self, tensor: Tensor, part: str) -> None:
        """Counts the memory of a tensor as `part` from here on."""
        self.tape.append(Call(self._blocks[tensor.untyped_storage()], part))

    def begin(self, part: str) -> None:
        """New tensors are of `part`, tape and work are new."""
        self.part, self.tape, self.work = part, [], Counter()

    def _count(self, func: Any, args: Any, kwargs: Any, made: list[Tensor], new: list[Tensor]) -> None:
        name = func._opname
        read = _tensors((*args, *(kwargs or {}).values()))
        in_place = func._schema.is_mutable
        if not read or not (new or in_place):  # a view, or memory that nothing was written to yet
            return
        size = sum(t.numel() * t.element_size() for t in (*read, *new))
        first = made[0] if made else read[0]
        kind, flops, dtype = "pass", 0, first.dtype
        if name in _PRODUCTS:
            left = args[1 if "add" in name else 0]  # addmm(input, left, right)
            kind, flops = "product", 2 * first.numel() * left.shape[-1]
        elif name.startswith("_scaled_dot_product"):
            kind, flops = "attention", _attention_flops(name, read)
        elif name.startswith("_fused_"):
            kind, dtype = "update", torch.float32
        elif any(known in name for known in _KNOWN):
            kind = "slow"
        self.work[Kind(kind, str(dtype).removeprefix("torch."), flops, size)] += times()


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in a value: itself, or in lists and tuples."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (list, tuple)) else []


def _attention_flops(name: str, read: list[Tensor]) -> int:
    """Two products forward, five on the way back, over all pairs of positions."""
    back = "backward" in name
    query, key = (read[1], read[2]) if back else (read[0], read[1])
    return (10 if back else 4) * math.prod(query.shape) * key.shape[-2]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes that were taken at once.

    Attributes:
        total: of tensors.
        parts: what they were of.
        small: of blocks of less than 48 MiB that come and go with a step.
        idle: of blocks below that size what was taken once and no tensor was in at that moment: the allocator keeps it.
    """

    total: int
    parts: dict[str, int]
    small: int
    idle: int


def play(tapes: Sequence[Tape], *, keeps: bool) -> Peak:
    """What is taken at the largest when the tapes are played one after the other.

    Args:
        keeps: whether small blocks that are given back stay with the process until the tape ends
            (core/environment.py).
    """
    live, held, peak = Counter[str](), dict[int, Take](), Peak(0, {}, 0, 0)
    total, heap, most = 0, 0, 0

    def add(block: Take, sign: int) -> None:
        nonlocal heap
        live[block.part] += sign * block.size
        heap += sign * block.size * (block.size < SMALL)
        live["small"] += sign * block.size * (block.size < SMALL and block.part in _PASSING)

    for tape in tapes:
        high = heap
        for event in tape:
            if isinstance(event, Take):
                held[event.block] = event
                add(event, 1)
                total, high = total + event.size, max(high, heap)
                idle = high - heap if keeps else 0
                if total + idle > most:
                    parts = dict(live)
                    most, peak = total + idle, Peak(total, parts, parts.pop("small"), idle)
                continue
            before = held.pop(event.block)
            add(before, -1)
            if isinstance(event, Call):
                held[event.block] = Take(event.block, before.size, event.part)
                add(held[event.block], 1)
            else:
                total -= before.size
    return peak


class Paper:
    """Within, tensors have shape, dtype and device and no memory; real ones may be read. It can be entered again, and
    what was made within before is then still there.
    """

    def __init__(self) -> None:
        self._shapes, self._meter = FakeTensorMode(allow_non_fake_inputs=True), Meter()
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> Meter:
        self._entered.enter_context(self._shapes)
        self._entered.enter_context(self._meter)
        return self._meter

    def __exit__(self, *failure: object) -> None:
        self._entered.close()
