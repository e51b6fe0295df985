"""What a recipe may say of how text is written. No torch here: reading a recipe must not take seconds."""

from __future__ import annotations

from pydantic import Field

from tilth.core.config import Config


class SamplingConfig(Config):
    """How the next token is chosen."""

    temperature: float = Field(default=0.8, ge=0)
    """0 takes the likeliest token always (greedy)."""
    top_k: int | None = Field(default=None, ge=1)
    """Choose among the k likeliest."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Choose among the likeliest that together hold this probability (Holtzman et al. 2020)."""
    seed: int = Field(default=1, ge=0)
    """What is drawn follows from it: the same seed, the same text."""
