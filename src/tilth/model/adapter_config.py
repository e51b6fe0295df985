"""The `adapter:` section of a recipe. No torch here: a recipe is read without it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config


class AdapterConfig(Config):
    """Low-rank adapters beside frozen weights (LoRA, Hu et al. 2021): y = W x + scaling * B A x."""

    kind: Literal["lora"] = "lora"
    """The only kind there is."""
    rank: int = Field(default=16, ge=1, le=1 << 16)
    """Rows of A and columns of B. A matrix [out, in] gets rank * (in + out) trained numbers."""
    alpha: float = Field(default=32.0, gt=0)
    """scaling is alpha / rank, and alpha / sqrt(rank) with `rslora`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of what the adapter reads, in training; the frozen product sees all of it."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Which linear layers get an adapter: all but the output matrix, or names (`q_proj`, `mlp.up_proj`) and patterns
    (`layers.[0-3].*`) of them.
    """
    rslora: bool = False
    """Rank-stabilised scaling (Kalajdzievski 2023)."""
    dora: bool = False
    """Train the length of each row of the adapted matrix apart from its direction (DoRA, Liu et al. 2024)."""
    quantize: Literal["nf4"] | None = None
    """Hold the adapted layers' frozen weights in four bits (QLoRA, Dettmers et al. 2023)."""
    double_quantize: bool = True
    """With `quantize`: the scales of its blocks in eight bits (QLoRA, section 3)."""
    modules_to_save: list[str] = []
    """Modules that are trained whole and saved with the adapter (`embed_tokens`, `lm_head`), as new tokens need."""

    @field_validator("targets", "modules_to_save")
    @classmethod
    def _names(cls, value: str | list[str]) -> str | list[str]:
        if value == []:
            return value
        if isinstance(value, list) and any(not name.strip() for name in value):
            raise ValueError("holds an empty name | name modules, such as q_proj")
        return value

    @model_validator(mode="after")
    def _something_trains(self) -> AdapterConfig:
        if self.targets == []:
            raise ValueError("targets is empty | name linear layers, or leave it out for all-linear")
        if self.quantize is None and not self.double_quantize:
            raise ValueError("double_quantize has no meaning without quantize | remove it, or set quantize: nf4")
        return self
