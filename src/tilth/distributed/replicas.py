"""Whether all processes of a run hold the same numbers, and how they come to.

    differing(runtime, tensors)         names of those that are not in all processes what they are in process 0
    take_from_main(runtime, tensors)    gives all of them those of process 0; how far one was from it

Each process draws or loads its model itself, and processors of other kinds draw and round otherwise. The gradient is
one for all of them: what differs would go on to differ, unseen, for only process 0 is evaluated in part, and saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tilth.core.errors import PeerError
from tilth.distributed.runtime import Runtime

_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def differing(runtime: Runtime, tensors: Mapping[str, Tensor]) -> list[str]:
    """The same in all processes; empty for one alone. PeerError where they do not even hold tensors of the same names,
    shapes and types.
    """
    if runtime.world_size == 1:
        return []
    kinds = [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in tensors.items()]
    if runtime.any(kinds != runtime.from_main(lambda: kinds)):
        raise PeerError(
            "the processes of this run have models of different shapes",
            "start all of them with the same recipe, files and versions",
        )
    own = [_sums(tensor) for tensor in tensors.values()]
    flags = [float(a != b) for a, b in zip(own, runtime.from_main(lambda: own), strict=True)]
    return [name for name, flag in zip(tensors, runtime.sum_floats(flags), strict=True) if flag]


def take_from_main(runtime: Runtime, tensors: Mapping[str, Tensor]) -> float:
    """In place. Returns the largest difference that there was in any process, as a share of the tensor's largest
    number: about 1e-7 to 1e-3 by rounding, about 1 for other numbers. It is the same in all of them.
    """
    far = 0.0
    for tensor in tensors.values():
        theirs = runtime.copy_of_main(tensor.detach())
        if tensor.is_floating_point() and tensor.numel():
            largest = float(theirs.abs().max()) or 1.0
            share = float((theirs.float() - tensor.detach().float()).abs().max()) / largest
            far = max(far, share if share < 1 else 1.0)  # a number that is none is as far as can be
        elif not torch.equal(theirs, tensor.detach()):
            far = 1.0
        tensor.detach().copy_(theirs)
    return runtime.largest(far)


def _sums(tensor: Tensor) -> list[Any]:
    """Two sums of its bits as whole numbers, one of them weighted by place: exact, and so the same on every device.

    Not to find what someone hid: to find what came otherwise, at half the time of a hash, and on a GPU where it lies.
    """
    bits = tensor.detach().contiguous().reshape(-1)
    bits = bits.view(_WHOLE[bits.element_size()])
    size = 1 << (18 if bits.device.type == "cpu" else 24)
    weights = torch.arange(1, min(size, len(bits)) + 1, device=bits.device)
    total, weighted = torch.zeros(2, dtype=torch.int64, device=bits.device)
    for number, piece in enumerate(torch.split(bits, size)):
        whole = piece.to(torch.int64)
        total += whole.sum()
        weighted += (2 * number + 1) * whole.mul_(weights[: len(whole)]).sum()
    return [int(total), int(weighted)]
