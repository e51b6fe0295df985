"""How many rows go through the model at once, found by trying.

    Trial(model, …).seconds(rows)    one forward and backward pass of so many rows
    Trial(model, …).fits(rows)       whether two fit in a row, as they come within a step
    fastest(sizes, seconds)          the size whose rows take the least time each
    largest(rows, fits)              so many, or half, or a quarter …

A trial is `step.accumulate` in this process alone: what is tried is what will run. Weights, generators and the loader
are as before when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tilth.core.environment import Precision
from tilth.data.batches.batch import Batch
from tilth.distributed.refused import OutOfMemory, is_of_memory
from tilth.distributed.runtime import Runtime
from tilth.model.wrapped import AnyModel
from tilth.training.out_of_memory import forget
from tilth.training.step import accumulate

SECONDS = 2.0
"""What a measurement may take, about. A size is not begun that would take longer than what is left."""
_SLOWER = 1.1  # rows that take so much longer than the best: larger sizes will not be better
_SAME = 1.03  # below this a difference is noise: the smaller size, which needs less memory


@dataclass(frozen=True)
class Trial:
    """Passes of real rows through the model, which leave nothing behind.

    `rows` gives so many rows as the run will read them. `beside` are bytes that the run will hold besides (the
    optimizer's), taken from the device while it is tried what fits.
    """

    model: AnyModel
    device: torch.device
    precision: Precision
    rows: Callable[[int], Batch]
    beside: int = 0

    def seconds(self, rows: int) -> float:
        """One pass; OutOfMemory where it does not fit."""
        return self._passes(self.rows(rows), rows)

    def fits(self, rows: int) -> bool:
        """Whether two passes fit: the second holds the gradient of the first."""
        try:
            held = torch.empty(self.beside, dtype=torch.uint8, device=self.device)
            self._passes(self.rows(2 * rows), rows)
            del held
        except OutOfMemory:
            return False
        except (MemoryError, RuntimeError) as error:
            if not is_of_memory(error):
                raise
            return False
        return True

    def _passes(self, batch: Batch, rows: int) -> float:
        """Seconds of the passes alone: they end with a number that is read, so the device is done by then."""
        alone, unscaled = Runtime(self.device), torch.amp.GradScaler(self.device.type, enabled=False)
        training = self.model.training
        self.model.train()
        started = time.perf_counter()
        try:
            accumulate(self.model, batch, rows, alone, self.precision, unscaled, seed=0, step=0)
            return time.perf_counter() - started
        finally:
            self.model.train(training)
            forget(self.model, self.device)


def fastest(sizes: Sequence[int], seconds: Callable[[int], float], budget: float = SECONDS) -> int | None:
    """The size whose rows take the least time each; None where the budget does not suffice to compare two.

    Where the second size does not fit it is the first; where the first does not, too: the step will make it smaller.

    Args:
        sizes: rising. seconds: of one pass of so many rows; OutOfMemory where they do not fit.
    """
    if len(sizes) == 1:
        return sizes[0]
    found: dict[int, float] = {}
    left = budget
    for size in sizes:
        if found and 2 * size * min(found.values()) > left:
            break
        try:
            first = seconds(size)
            if not found and 5 * first > left:
                break  # once more, and two of twice the size, would take longer
            second = seconds(size)
        except OutOfMemory:
            return _best(found) if found else size
        left -= first + second
        found[size] = min(first, second) / size
        if found[size] > _SLOWER * min(found.values()):
            break
    if len(found) < 2:
        return None
    return _best(found)


def _best(found: dict[int, float]) -> int:
    return min(size for size, each in found.items() if each <= _SAME * min(found.values()))


def largest(rows: int, fits: Callable[[int], bool]) -> int:
    """The largest of rows, half of them, a quarter … that fits; 1 where none does, which a step will then say."""
    while rows > 1 and not fits(rows):
        rows = -(-rows // 2)
    return rows
