"""Small random models to write with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tilth.core.environment import processor_features
from tilth.model.config import ModelConfig
from tilth.model.transformer import Transformer, build

SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}


def random_model(context_length: int = 24, vocab_size: int = 257, scale: float = 8.0, **changes: Any) -> Transformer:
    """A model whose weights are large enough for its choices to differ from place to place."""
    model = build(ModelConfig(**{**SHAPE, **changes}, context_length=context_length, vocab_size=vocab_size), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return model.eval()


def rounding() -> bool:
    """Whether the kernels, compiled for this processor, round what weights in bfloat16 are multiplied with."""
    return "avx512_bf16" in processor_features()


def rounded(x_BI: Tensor) -> Tensor:
    """x as such kernels read it: in bfloat16, but for what is over when 32 numbers are taken at once."""
    whole = x_BI.shape[1] // 32 * 32
    return torch.cat((x_BI[:, :whole].bfloat16().to(x_BI.dtype), x_BI[:, whole:]), 1)
