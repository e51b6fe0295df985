"""Where a process runs: its device, its rank, and the few collectives that training needs.

    start(device) -> Runtime       joins the process group when `torchrun` started us, and picks the device
    long_from_main(work)           what process 0 makes, however long it takes, told to all

One process works the same without a group: every collective is then the identity.

No process waits for one that failed. What process 0 does alone goes through `from_main`, which tells the others how it
ended (what may take hours, before there is a group, through `long_from_main`); a process that fails anywhere else is
missed by the others in their next collective, and never for longer than PATIENCE.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from tilth.core.environment import DeviceName, forget_peak_memory, launched, peak_memory_bytes
from tilth.core.errors import PeerError, RecipeError
from tilth.core.words import plural

PlainT = TypeVar("PlainT")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: what one does alone (a checkpoint, a sample) may take minutes."""
_MESSAGE = 1 << 26
"""Numbers that go in one message, about: gathered into one they take memory besides."""
_ENVELOPE = 1024  # bytes of the first message from process 0, which is the only one where all fits into it


@contextlib.contextmanager
def _with_the_others() -> Iterator[None]:
    """What torch says of a process that is gone, in words; its own message and exit code say why it went."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise PeerError(
            f"another process of this run is gone, or did not answer for {PATIENCE} ({reason})",
            "what it said itself is the cause: mend that, then type the same command to go on",
        ) from error


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

    def peak_memory_bytes(self) -> int:
        """The most memory that this process has held: of the GPU on CUDA, of the machine elsewhere."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_memory_bytes()

    def forget_peak_memory(self) -> None:
        """From here on `peak_memory_bytes` is of what comes."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        forget_peak_memory()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            with _with_the_others():
                dist.all_reduce(tensor)
        return tensor

    def sum_floats(self, values: list[float]) -> list[float]:
        """The sums over all processes of a few numbers, in double precision (which mps, for one, does not have)."""
        if self.world_size == 1:
            return values
        message = self.sum(torch.tensor(values, dtype=torch.float64, device=self._mailbox))
        with _with_the_others():  # nccl says here, and not before, that one is gone
            summed: list[float] = message.tolist()
        return summed

    def largest(self, value: float) -> float:
        """The largest that a process has of this number; it must be one."""
        if self.world_size == 1:
            return value
        message = torch.tensor(value, dtype=torch.float64, device=self._mailbox)
        with _with_the_others():
            dist.all_reduce(message, dist.ReduceOp.MAX)
            return float(message)

    @property
    def _mailbox(self) -> torch.device:
        """Where small messages lie: nccl takes them from the GPU only."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    def sum_all(self, tensors: list[Tensor]) -> None:
        """Sums many tensors over all processes, in place, with few messages instead of one per tensor."""
        if self.world_size == 1:
            return
        for group in _messages(tensors):
            flat = self.sum(torch.cat([t.flatten() for t in group]))
            offset = 0
            for tensor in group:
                tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
                offset += tensor.numel()

    def any(self, flag: bool) -> bool:
        """True on every process when `flag` is true on one (a signal reaches processes at different steps)."""
        if self.world_size == 1:
            return flag
        return self.sum_floats([float(flag)])[0] > 0

    def from_main(self, work: Callable[[], PlainT]) -> PlainT:
        """Does `work` in process 0 and gives what it returns (plain data, as JSON has it) to every process.

        When it fails there, every other process leaves as well: with a PeerError that has the same exit code.
        """
        if self.world_size == 1:
            return work()
        return _told(self.is_main, work, self._tell, self._heard)

    def copy_of_main(self, tensor: Tensor) -> Tensor:
        """What process 0 holds where this one holds `tensor`, of the same shape and type."""
        if self.world_size == 1 or not tensor.numel():
            return tensor.clone()
        message = tensor.to(self._mailbox, copy=True, memory_format=torch.contiguous_format)
        with _with_the_others():
            dist.broadcast(message.view(-1).view(torch.uint8), 0)  # as bytes: no backend knows all types
        return message.to(tensor.device)

    def _tell(self, letter: dict[str, Any]) -> None:
        content = json.dumps(letter).encode()
        whole = len(content).to_bytes(8, "little") + content
        self._broadcast(torch.frombuffer(bytearray(whole[:_ENVELOPE].ljust(_ENVELOPE, b" ")), dtype=torch.uint8))
        if len(whole) > _ENVELOPE:
            self._broadcast(torch.frombuffer(bytearray(whole[_ENVELOPE:]), dtype=torch.uint8))

    def _heard(self) -> dict[str, Any]:
        first = self._broadcast(torch.empty(_ENVELOPE, dtype=torch.uint8))
        length, content = int.from_bytes(first[:8], "little"), first[8:]
        if length > len(content):
            content += self._broadcast(torch.empty(length - len(content), dtype=torch.uint8))
        letter: dict[str, Any] = json.loads(content[:length])
        return letter

    def _broadcast(self, message: Tensor) -> bytes:
        message = message.to(self._mailbox)
        with _with_the_others():
            dist.broadcast(message, 0)
            return message.cpu().numpy().tobytes()

    def stop(self) -> None:
        """Leaves the process group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _messages(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one dtype, of about `_MESSAGE` numbers together: the same, in one order, on every process."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group: list[Tensor] = []
        size = 0
        for tensor in tensors:
            if tensor.dtype != dtype:
                continue
            if group and size + tensor.numel() > _MESSAGE:
                yield group
                group, size = [], 0
            group.append(tensor)
            size += tensor.numel()
        yield group


def _told(
    is_main: bool,
    work: Callable[[], PlainT],
    tell: Callable[[dict[str, Any]], None],
    hear: Callable[[], dict[str, Any]],
) -> PlainT:
    """Process 0 does the work and tells how it ended; the others hear of it."""
    if not is_main:
        letter = hear()
        if "value" in letter:
            value: PlainT = letter["value"]
            return value
        error = PeerError("process 0 of this run failed", "it says what to do")
        error.exit_code, error.told = letter["exit_code"], True
        raise error
    try:
        value = work()
    except BaseException as error:  # whatever it is, the others must not wait
        with contextlib.suppress(PeerError):
            tell({"exit_code": getattr(error, "exit_code", 1)})
        raise
    tell({"value": value})
    return value


_STORES: list[Any] = []
"""The store through which the processes of this launch find each other, once one was needed."""
_PLACES = itertools.count()


def _place(name: str) -> Any:
    """A place of its own in that store: the same in every process, for all ask for as many before it."""
    if not _STORES:
        store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))  # type: ignore[attr-defined]
        _STORES.append(store)
    return dist.PrefixStore(f"tilth/{name}/{next(_PLACES)}", _STORES[0])  # type: ignore[attr-defined]


def long_from_main(work: Callable[[], PlainT]) -> PlainT:
    """`Runtime.from_main` for what may take longer than PATIENCE; before `start` or after it.

    It goes through the store and not through the group, whose messages may not take so long.
    """
    launch = launched()
    if launch.world_size <= 1:
        return work()
    with _with_the_others():
        store = _place("letter")

    def tell(letter: dict[str, Any]) -> None:
        with _with_the_others():
            store.set("letter", json.dumps(letter))

    def hear() -> dict[str, Any]:
        while True:
            with _with_the_others(), contextlib.suppress(dist.DistStoreError):  # not yet; who is gone is another error
                store.wait(["letter"], timedelta(seconds=30))
                letter: dict[str, Any] = json.loads(store.get("letter"))
                return letter

    return _told(launch.rank == 0, work, tell, hear)


def start(device: DeviceName = "auto") -> Runtime:
    """Picks the device, and joins the group of processes when `torchrun` set WORLD_SIZE (nccl on CUDA, gloo
    elsewhere).
    """
    launch = launched()
    rank, world_size = launch.rank, launch.world_size
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", launch.local_rank)
        torch.cuda.set_device(chosen)
    if world_size > 1:
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        with _with_the_others():
            store = _place("group")
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=PATIENCE)
    return Runtime(chosen, rank, world_size)


def pick_device(name: DeviceName = "auto", remedy: str = "set train.device: auto") -> torch.device:
    """The device of that name; `auto` is cuda, else mps, else cpu. RecipeError, with `remedy`, when the machine lacks
    it.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available[name]:
        here = ", ".join(kind for kind, there in available.items() if there)
        raise RecipeError(f"device: {name} is not available here (there is {here})", remedy)
    return torch.device(name)


def asked_device(asked: str | torch.device) -> torch.device:
    """The device that a caller in Python names: as of `pick_device`, or one of several GPUs (`cuda:1`), or as torch has
    it. RecipeError when there is none of that name.
    """
    kind, numbered, number = str(asked).partition(":")
    known = isinstance(asked, str | torch.device) and kind in get_args(DeviceName)
    if not known or (numbered and (kind == "auto" or not (number.isascii() and number.isdigit()))):
        there = ", ".join(map(repr, get_args(DeviceName)))
        raise RecipeError(f"device {asked!r} is not known", f"one of: {there}; 'cuda:N' is one of several GPUs")
    found = pick_device(cast(DeviceName, kind), "leave device out: it is then the best that there is")
    if not numbered or kind != "cuda":
        return found
    if int(number) >= (gpus := torch.cuda.device_count()):
        raise RecipeError(f"device {asked}: this machine has {plural(gpus, 'GPU')}", f"name cuda:0 to cuda:{gpus - 1}")
    return torch.device("cuda", int(number))
