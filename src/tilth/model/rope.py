"""Rotary positions: how a recipe stretches their frequencies, and the tables that turn queries and keys. No torch at
import: the config is read where a recipe is.

    RopeScaling            `rope_scaling`, as in Hugging Face configs
    frequencies(...)       one angle per token and pair of dimensions
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from tilth.core.config import Config

if TYPE_CHECKING:
    from torch import Tensor, device

_KEYS = {
    "linear": (),
    "dynamic": ("original_max_position_embeddings",),
    "llama3": ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "yarn": (
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
}
_NEEDED = {"llama3": _KEYS["llama3"], "yarn": ("original_max_position_embeddings",)}


class RopeScaling(Config):
    """Rotary frequencies stretched to a context longer than the one that they were first trained for."""

    rope_type: Literal["linear", "dynamic", "llama3", "yarn"]
    """`dynamic` changes nothing up to max_position_embeddings, and no model sees more here."""
    factor: float = Field(ge=1)
    """How many times longer the context becomes."""
    original_max_position_embeddings: int | None = Field(default=None, ge=1)
    """llama3, yarn: the context of the first training; dynamic: told to other programs, and changes nothing."""
    low_freq_factor: float | None = Field(default=None, gt=0)
    """llama3: pairs that turn less often within that context are stretched wholly."""
    high_freq_factor: float | None = Field(default=None, gt=0)
    """llama3: pairs that turn more often are kept; between the two both are mixed."""
    attention_factor: float | None = Field(default=None, gt=0)
    """yarn: what cos and sin are multiplied by. Left out: 0.1 ln(factor) + 1."""
    beta_fast: float | None = Field(default=None, gt=0)
    """yarn: pairs that turn more often within the first context are kept. Left out: 32."""
    beta_slow: float | None = Field(default=None, gt=0)
    """yarn: pairs that turn less often are stretched wholly. Left out: 1."""
    mscale: float | None = None
    """yarn, where both this and `mscale_all_dim` are given: cos and sin are multiplied by
    (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1)."""
    mscale_all_dim: float | None = None
    """yarn: the divisor of what `mscale` says; alone it changes nothing."""
    truncate: bool | None = None
    """yarn: whether the borders of the ramp become whole pairs. Left out: they do."""

    @model_validator(mode="after")
    def _keys_of_its_type(self) -> RopeScaling:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None} - {"rope_type", "factor"}
        if strange := sorted(given - set(_KEYS[self.rope_type])):
            raise ValueError(f"{', '.join(strange)} has no meaning for rope_type {self.rope_type} | remove it")
        if missing := sorted(set(_NEEDED.get(self.rope_type, ())) - given):
            raise ValueError(f"rope_type {self.rope_type} needs {', '.join(missing)} | set it")
        if self.rope_type == "llama3" and (self.low_freq_factor or 0) >= (self.high_freq_factor or 0):
            raise ValueError("low_freq_factor is not below high_freq_factor | swap them")
        return self


def frequencies(head_dim: int, theta: float, scaling: RopeScaling | None, place: device) -> tuple[Tensor, float]:
    """Radians per token of each pair of dimensions [N/2] (fp32), and what cos and sin are multiplied by.

    Sources: RoPE, Su et al. 2021; linear, Chen et al. 2023; YaRN, Peng et al. 2023; llama3, Grattafiori et al. 2024
    as released with the weights.
    """
    import torch

    exponents = torch.arange(0, head_dim, 2, device=place, dtype=torch.float32) / head_dim
    plain = theta**-exponents
    if scaling is None or scaling.rope_type == "dynamic":
        return plain, 1.0
    if scaling.rope_type == "linear":
        return plain / scaling.factor, 1.0
    if scaling.rope_type == "llama3":
        return _llama3(plain, scaling), 1.0
    return _yarn(plain, head_dim, theta, scaling), _yarn_attention(scaling)


def _llama3(plain: Tensor, scaling: RopeScaling) -> Tensor:
    """Long waves are stretched, short ones kept, those between mixed."""
    context, low, high = scaling.original_max_position_embeddings, scaling.low_freq_factor, scaling.high_freq_factor
    assert context is not None and low is not None and high is not None
    turns = plain * context / (2 * math.pi)  # how often a pair turns within the first context
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / scaling.factor + kept * plain


def _yarn(plain: Tensor, head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """Pairs that turn more than beta_fast times are kept, those below beta_slow stretched, a ramp between."""
    import torch

    context = scaling.original_max_position_embeddings
    assert context is not None

    def pair(turns: float) -> float:
        return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair(scaling.beta_fast or 32), pair(scaling.beta_slow or 1)
    if scaling.truncate is not False:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low or 0.001
    ramp = torch.arange(head_dim // 2, device=plain.device, dtype=torch.float32)
    kept = 1 - ((ramp - low) / width).clamp(0, 1)
    return plain / scaling.factor * (1 - kept) + plain * kept


def _yarn_attention(scaling: RopeScaling) -> float:
    """What cos and sin grow by, so that attention stays as sharp over more tokens."""

    def growth(weight: float) -> float:
        return 0.1 * weight * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0

    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return growth(scaling.mscale) / growth(scaling.mscale_all_dim)
    return growth(1.0)
