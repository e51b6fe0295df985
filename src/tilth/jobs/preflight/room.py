"""Whether the run that is foretold fits into the memory that there is.

too_large(forecast, device)     the fault, if any
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tilth.core.environment import launched
from tilth.core.words import plural
from tilth.jobs.forecast_run import RunForecast
from tilth.jobs.preflight.fault import Fault
from tilth.jobs.room import room_of

_CERTAIN = 1.1


def too_large(forecast: RunForecast | None, device: torch.device) -> Iterator[tuple[bool, Fault]]:
    """The fault of a run that should take more memory than there is, and whether that is certain: a forecast may be off
    by a tenth.
    """
    room = room_of(device)
    if forecast is None or room is None:
        return
    beside = launched().local_size if device.type == "cpu" else 1
    needed = forecast.memory.total * beside
    if needed <= room:
        return
    of = f" in {beside} processes" if beside > 1 else ""
    yield (
        needed > _CERTAIN * room,
        Fault(
            "memory",
            f"the run should take {needed / 1e9:,.1f} GB of memory{of} with {plural(forecast.micro_batch, 'row')} at "
            f"once, and {device.type} has {room / 1e9:,.1f} GB",
            f"`tilth check RECIPE --fit {room / 1e9:.0f}GB` says what would fit: a smaller train.micro_batch or "
            "model.context_length, train.activation_checkpointing: full, or an adapter",
        ),
    )
