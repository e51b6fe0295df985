"""The learning rate as a share of its peak: a pure function of how far the run is.

Progress is counted in steps where the run's length is known in steps, and by the clock where it is given in hours.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from tilth.core.config import Config


class ScheduleConfig(Config):
    """How the learning rate moves: up over the warm-up, then as `name` says, down to `final` times the peak."""

    name: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    """wsd: warm-up, stable, decay (Hu et al. 2024): flat, then linear over the last `decay_share`."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the learning rate rises. Left out: a tenth of the run, at most 100 steps; 20 where the clock
    ends the run."""
    final: float = Field(default=0.1, ge=0, le=1)
    """The last learning rate, as a share of the peak (not used by constant)."""
    decay_share: float = Field(default=0.2, gt=0, le=1)
    """The share of the steps after the warm-up over which wsd decays; by the clock, of the whole time."""

    @model_validator(mode="after")
    def _says_something(self) -> ScheduleConfig:
        fields = type(self).model_fields
        if self.decay_share != fields["decay_share"].default and self.name != "wsd":
            raise ValueError(f"decay_share has no meaning for {self.name} | remove it, or set name: wsd")
        if self.final != fields["final"].default and self.name == "constant":
            raise ValueError("final has no meaning for constant | remove it, or choose linear, cosine or wsd")
        return self

    def warmup(self, total_steps: int | None) -> int:
        """The steps of the warm-up in a run of so many steps (None: not known)."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return 20 if total_steps is None else min(100, total_steps // 10)


def learning_rate_share(config: ScheduleConfig, step: int, progress: float, total_steps: int | None) -> float:
    """The factor on the peak learning rate for `step` (from 0): up over the warm-up, then down over what is left.

    With a known number of steps this is the rate of nanoGPT (`get_lr`), whose decay begins where the warm-up ends.

    Args:
        progress: the share of the run that is done, 0 to 1, by the clock; used where the steps are not known.
    """
    warmup = config.warmup(total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if total_steps is not None:
        progress = (step - warmup) / max(1, total_steps - warmup)
    return _after_warmup(config, min(max(progress, 0.0), 1.0))


def _after_warmup(config: ScheduleConfig, progress: float) -> float:
    if config.name == "linear":
        return 1 - (1 - config.final) * progress
    if config.name == "cosine":
        return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * progress))
    if config.name == "wsd":
        into_decay = max(0.0, progress - (1 - config.decay_share)) / config.decay_share
        return 1 - (1 - config.final) * into_decay
    return 1.0
