"""Where a process runs: its device, its rank, and the few collectives that training needs.

    start(device) -> Runtime       joins the process group when `torchrun` started us, and picks the device
    told_by_main(key, make)        what process 0 makes, told to all

One process works the same without a group: every collective is then the identity.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tilth.core.environment import DeviceName
from tilth.core.errors import RecipeError


@dataclass(frozen=True)
class Runtime:
    """This process among `world_size`, on `device`."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and speaks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_floats(self, values: list[float]) -> list[float]:
        """The sums over all processes of a few numbers, in double precision (which mps, for one, does not have)."""
        if self.world_size == 1:
            return values
        place = self.device if self.device.type == "cuda" else torch.device("cpu")
        summed: list[float] = self.sum(torch.tensor(values, dtype=torch.float64, device=place)).tolist()
        return summed

    def sum_all(self, tensors: list[Tensor]) -> None:
        """Sums many tensors over all processes, in place, with one message per dtype instead of one per tensor."""
        if self.world_size == 1:
            return
        for dtype in dict.fromkeys(t.dtype for t in tensors):  # in one order on every process
            group = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.flatten() for t in group])
            dist.all_reduce(flat)
            offset = 0
            for tensor in group:
                tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
                offset += tensor.numel()

    def any(self, flag: bool) -> bool:
        """True on every process when `flag` is true on one (a signal reaches processes at different steps)."""
        if self.world_size == 1:
            return flag
        return self.sum_floats([float(flag)])[0] > 0

    def main_value(self, value: float) -> float:
        """Process 0's value on every process: what is decided by a clock must be decided once."""
        if self.world_size == 1:
            return value
        return self.sum_floats([value if self.is_main else 0.0])[0]

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.world_size > 1:
            dist.barrier()

    def stop(self) -> None:
        """Leaves the process group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


_STORES: list[Any] = []
"""The store through which the processes of this launch find each other, once one was needed."""


def _store() -> Any:
    if not _STORES:
        store, _, _ = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        _STORES.append(store)
    return _STORES[0]


def told_by_main(key: str, make: Callable[[], str]) -> str:
    """What process 0 makes, on every process, however long it takes to make. Before `start` or after it.

    It goes through the store and not through the group, whose messages may not take longer than some minutes.
    """
    store = dist.PrefixStore("tilth", _store())  # type: ignore[attr-defined]
    if int(os.environ.get("RANK", "0")) == 0:
        value = make()
        store.set(key, value)
        return value
    while True:
        try:
            store.wait([key], timedelta(seconds=30))
            return bytes(store.get(key)).decode()
        except dist.DistStoreError:  # not yet; were process 0 dead, torchrun would end us too
            continue


def start(device: DeviceName = "auto") -> Runtime:
    """Picks the device, and joins the group of processes when `torchrun` set WORLD_SIZE (nccl on CUDA, gloo
    elsewhere).
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local_rank)
        torch.cuda.set_device(chosen)
    if world_size > 1:
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=_store(), rank=rank, world_size=world_size)
    return Runtime(chosen, rank, world_size)


def pick_device(name: DeviceName = "auto") -> torch.device:
    """The device of that name; `auto` is cuda, else mps, else cpu. RecipeError when the machine lacks it."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available[name]:
        here = ", ".join(kind for kind, there in available.items() if there)
        raise RecipeError(f"device: {name} is not available here (there is {here})", "set train.device: auto")
    return torch.device(name)
