"""What is wrong with a run, and the function that finds it.

Fault    rule, message, remedy
Rule     facts -> faults
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tilth.core.errors import TilthError
from tilth.jobs.preflight.facts import Facts


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and what to change. `error`: what a part of the run raised, where it was one."""

    rule: str
    message: str
    remedy: str
    error: TilthError | None = None

    def plain(self) -> dict[str, str]:
        """For JSON."""
        return {"rule": self.rule, "message": self.message, "remedy": self.remedy}


Rule = Callable[[Facts], Iterator[Fault]]
