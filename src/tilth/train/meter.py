"""Code of torch run on paper: shapes, no numbers, no memory; what it would hold and compute is counted.

    with on_paper() as meter:       tensors made within claim their device, and take nothing
        ...                         the very code that a run executes
    meter.peak                      the most bytes alive at once, by what they are
    meter.work                      products and passes over memory, by kind and size

Whatever the code does is counted as it is done: saved activations, copies in another precision, pieces of the loss,
temporaries of the optimizer. Nothing has to be kept true by hand. What a kernel takes inside itself is not seen.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
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


@dataclass(slots=True)
class _Held:
    size: int
    part: str


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes that were alive at once, and what they were of."""

    total: int = 0
    parts: dict[str, int] = field(default_factory=dict)


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the memory of every new tensor until it is let go of, and the work of every operation.

    `part` is what new tensors are counted as. Numbers are not known on paper: where the code asks for one, it gets 0,
    or true.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = "other"
        self.live: Counter[str] = Counter()
        self.total = 0
        self.peak = Peak()
        self.work: Counter[Kind] = Counter()
        self._held: weakref.WeakKeyDictionary[Any, _Held] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _aten._local_scalar_dense.default:
            return args[0].dtype == torch.bool or 0.0
        out = func(*args, **(kwargs or {}))
        made = _tensors(out)
        new = [tensor for tensor in made if self._is_new(tensor)]
        self._count(func, args, kwargs, made, new)
        return out

    def _is_new(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        if storage in self._held:
            return False
        held = self._held[storage] = _Held(storage.nbytes(), self.part)
        weakref.finalize(storage, self._let_go, held)
        self.live[held.part] += held.size
        self.total += held.size
        if self.total > self.peak.total:
            self.peak = Peak(self.total, dict(self.live))
        return True

    def _let_go(self, held: _Held) -> None:
        self.live[held.part] -= held.size
        self.total -= held.size

    def call(self, tensor: Tensor, part: str) -> None:
        """Counts the memory of a tensor as `part` from here on."""
        held = self._held.get(tensor.untyped_storage())
        if held is not None:
            self.live[held.part] -= held.size
            held.part = part
            self.live[part] += held.size

    def begin(self, part: str) -> None:
        """New tensors are of `part`; peak and work are counted anew."""
        self.part, self.peak, self.work = part, Peak(self.total, dict(self.live)), Counter()

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
            kind, flops = "product", 2 * first.numel() * read[-1].shape[-2]
        elif name.startswith("_scaled_dot_product"):
            kind, flops = "attention", _attention_flops(name, read)
        elif name.startswith("_fused_"):
            kind, dtype = "update", torch.float32
        elif any(known in name for known in _KNOWN):
            kind = "slow"
        self.work[Kind(kind, str(dtype).removeprefix("torch."), flops, size)] += 1


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


@contextlib.contextmanager
def on_paper() -> Iterator[Meter]:
    """Within, tensors have shape, dtype and device and no memory; real ones may be read."""
    with FakeTensorMode(allow_non_fake_inputs=True), Meter() as meter:
        yield meter
