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
    """wsd: warm-up, stable, decay (Hu et al. 2024): flat, then linear over the last `decay_share` of the run."""
    warmup_steps: int = Field(default=100, ge=0)
    final: float = Field(default=0.1, ge=0, le=1)
    """The last learning rate, as a share of the peak (not used by constant)."""
    decay_share: float = Field(default=0.2, gt=0, le=1)
    """The share of the run over which wsd decays."""

    @model_validator(mode="after")
    def _says_something(self) -> ScheduleConfig:
        if self.decay_share != type(self).model_fields["decay_share"].default and self.name != "wsd":
            raise ValueError(f"decay_share has no meaning for {self.name} | remove it, or set name: wsd")
        return self


def learning_rate_share(config: ScheduleConfig, step: int, progress: float) -> float:
    """The factor on the peak learning rate for `step` (from 0).

    Args:
        progress: the share of the run that is done, 0 to 1, with the warm-up in it.
    """
    # step + 1: the first step shall move too, and the last warm-up step reaches the peak (as nanoGPT's and OLMo's do).
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return warmup * _after_warmup(config, min(max(progress, 0.0), 1.0))


def _after_warmup(config: ScheduleConfig, progress: float) -> float:
    if config.name == "linear":
        return 1 - (1 - config.final) * progress
    if config.name == "cosine":
        return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * progress))
    if config.name == "wsd":
        into_decay = max(0.0, progress - (1 - config.decay_share)) / config.decay_share
        return 1 - (1 - config.final) * into_decay
    return 1.0
