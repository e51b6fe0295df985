"""This machine and its software: the fingerprint that is kept with every run, and what memory it uses.

Nothing here imports torch, and nothing is guessed: a device whose peak rate is not in the table has none.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tilth.core.errors import RecipeError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

_PACKAGES = ("tilth", "torch", "numpy", "pyarrow", "tokenizers", "tiktoken", "safetensors")

# Peak FLOP/s of dense products, from the makers' data sheets, by the whole name that the driver gives: the same chip on
# another board is slower. fp32 is without TF32, which torch leaves off; 16 bits are with sums in fp32.
_HOPPER_SXM = {"fp32": 67e12, "bf16": 989.5e12, "fp16": 989.5e12}
_A100 = {"fp32": 19.5e12, "bf16": 312e12, "fp16": 312e12}
_PEAK_FLOPS: dict[str, dict[str, float]] = {
    "NVIDIA H100 80GB HBM3": _HOPPER_SXM,
    "NVIDIA H200": _HOPPER_SXM,
    "NVIDIA H100 PCIe": {"fp32": 51e12, "bf16": 756.5e12, "fp16": 756.5e12},
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA L40S": {"fp32": 91.6e12, "bf16": 362e12, "fp16": 362e12},
    "NVIDIA L4": {"fp32": 30.3e12, "bf16": 121e12, "fp16": 121e12},
    "NVIDIA GeForce RTX 4090": {"fp32": 82.6e12, "bf16": 165.2e12, "fp16": 165.2e12},
    "NVIDIA GeForce RTX 3090": {"fp32": 35.6e12, "bf16": 71e12, "fp16": 71e12},
    "Tesla V100-SXM2-16GB": {"fp32": 15.7e12, "fp16": 125e12},
    "Tesla V100-SXM2-32GB": {"fp32": 15.7e12, "fp16": 125e12},
    "Tesla T4": {"fp32": 8.1e12, "fp16": 65e12},
}


def fingerprint_environment(threads: int, device: str, also: Sequence[str] = ()) -> dict[str, Any]:
    """What must be equal for two runs to give the same bits: processor, device, threads and versions.

    Args:
        also: further packages that compute in this run.
    """
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "features": processor_features(),
        "threads": threads,
        "device": device,
        "packages": {name: installed_version(name) for name in (*_PACKAGES, *also)},
    }


def processor_name() -> str:
    """The processor's name as the system gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_vendor() -> str:
    """Its maker as Linux names it, for example "GenuineIntel" or "AuthenticAMD"; "" where that is not said."""
    return _cpuinfo("vendor_id") or ""


def processor_features() -> list[str]:
    """The instruction sets that decide how fast products are (empty where the system does not say)."""
    flags = set((_cpuinfo("flags") or "").split())
    return [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16") if name in flags]


def _cpuinfo(key: str) -> str | None:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return None
    match = re.search(rf"^{key}\s*:\s*(.*)$", path.read_text(), re.MULTILINE)
    return match[1].strip() if match else None


def installed_version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def peak_flops(device_name: str, precision: Precision) -> float | None:
    """The peak rate of an accelerator's products in a precision, FLOP/s; None where it is not known.

    Args:
        device_name: as `torch.cuda.get_device_name` gives it, whole.
    """
    return _PEAK_FLOPS.get(device_name, {}).get(precision)


def peak_memory_bytes() -> int:
    """The most memory that this process has held (resident), since `forget_peak_memory` where the system can."""
    if (peak := _status("VmHWM")) is not None:
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory_bytes() -> int | None:
    """What this process holds now (resident); None where the system does not say."""
    return _status("VmRSS")


def forget_peak_memory() -> None:
    """From here on `peak_memory_bytes` counts anew: what came before (data that this process prepared) is no part of
    it. Linux; where the system does not let it, it stays what it was from the process' start.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak, and nothing else


def _status(key: str) -> int | None:
    """A size of /proc/self/status, bytes."""
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def total_memory_bytes(root: Path = Path("/")) -> int | None:
    """What all processes of this machine, or of the container that this one is in, can hold together, swap included;
    None where the system does not say.

    Args:
        root: where /proc and /sys are.
    """
    try:
        machine = (root / "proc/meminfo").read_text()
    except OSError:
        return None
    memory, swap = (
        int(found[1]) * 1024 if (found := re.search(rf"^{key}:\s+(\d+) kB$", machine, re.MULTILINE)) else 0
        for key in ("MemTotal", "SwapTotal")
    )
    return min([memory + swap, *_group_limits(root, swap)]) or None


def _group_limits(root: Path, swap: int) -> Iterator[int]:
    """What the control groups of this process may hold (Linux, cgroups(7)): its own, and all above it. A container
    sees its own group as the top.
    """
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            top = root / "sys/fs/cgroup" / ("memory" if kinds else "")
            own = top / place.lstrip("/")
            for folder in [own, *(above for above in own.parents if above.is_relative_to(top)), top]:
                if kinds:  # version 1; memory and swap together are bounded where swap is counted
                    names = ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes")
                    limits = [_limit(folder / name) for name in names]
                    limit = limits[0] or (limits[1] and limits[1] + swap)
                else:
                    limit, beside = _limit(folder / "memory.max"), _limit(folder / "memory.swap.max")
                    limit = limit and limit + min(swap, swap if beside is None else beside)
                if limit:
                    yield limit


def _limit(path: Path) -> int | None:
    """A number of a control group's file; None where it says `max`, or is not there."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Launch:
    """Which of how many processes this one is, over all machines and on its own (`local`)."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_size: int = 1


def launched() -> Launch:
    """What `torchrun` says in the environment; one process alone where it says nothing. RecipeError when that cannot be
    meant.
    """
    numbers = {name: os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    remedy = "start several processes with torchrun, or unset WORLD_SIZE, RANK and LOCAL_RANK"
    for name, text in numbers.items():
        if text is not None and not (text.isascii() and text.isdigit()):
            raise RecipeError(f"the environment's {name} is {text!r}, which is no number", remedy)
    rank, local_rank, world_size = (int(text or default) for text, default in zip(numbers.values(), "001", strict=True))
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if world_size > 1 and missing:
        raise RecipeError(f"the environment has WORLD_SIZE={world_size}, and no {' or '.join(missing)}", remedy)
    if rank >= max(1, world_size):
        raise RecipeError(f"the environment has RANK={rank}, and WORLD_SIZE={world_size}", remedy)
    beside = os.environ.get("LOCAL_WORLD_SIZE", "")
    return Launch(rank, local_rank, world_size, int(beside) if beside.isdecimal() else world_size)


def let_threads_sleep() -> None:
    """Lets torch's threads fall asleep soon where they wait for one another, unless the environment says otherwise. To
    be called before torch is imported.

    They spin for about a thousandth of a second by default (libgomp). Where other programs want the cores, one of them
    then spins in the place of the one that it waits for: decision 51 has the figures.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"


def cache_folder() -> Path:
    """Where what can be made again is kept for this user: below $XDG_CACHE_HOME, else ~/.cache, else, where there is no
    home or none that can be written to, below the system's temporary folder. It raises nothing; whoever writes there
    has to reckon with a disk that refuses.
    """
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "tilth"
    with contextlib.suppress(RuntimeError):  # no HOME, and a user without an account, as in containers
        folder = Path.home() / ".cache" / "tilth"
        if _can_be_written(folder):
            return folder
    try:
        return _temporary_cache()
    except OSError:
        return _NOWHERE


_NOWHERE = Path(os.devnull) / "tilth"  # no folder can be there


def _can_be_written(folder: Path) -> bool:
    whole = folder.absolute()
    nearest = next(place for place in (whole, *whole.parents) if os.path.exists(place))  # noqa: PTH110 - raises nothing
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _temporary_cache() -> Path:
    """One that nobody else can put anything into: compiled code is run from there."""
    folder = Path(tempfile.gettempdir()) / f"tilth-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if own else _NOWHERE


def usable_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
