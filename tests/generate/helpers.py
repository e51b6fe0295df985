"""Small random models to write with."""

from __future__ import annotations

from typing import Any

import torch

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
