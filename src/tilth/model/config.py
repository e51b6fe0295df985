"""What a model is made of: its configuration, the presets, and the arithmetic of its size and work.

ModelConfig            one decoder, from GPT-2 to Llama, named as in Hugging Face configs
PRESETS                names for well-known and for small modern shapes
parameter_count        exact, without allocating
flops_per_token        model FLOPs of one trained token (forward and backward), for an honest MFU
"""

from __future__ import annotations

import difflib
from typing import Any, Literal

from pydantic import Field, model_validator

from tilth.core.config import Config

_GPT2 = {
    "position": "learned",
    "norm": "layernorm",
    "activation": "gelu_tanh",
    "bias": True,
    "tie_word_embeddings": True,
    "context_length": 1024,
}
_LLAMA = {
    "position": "rotary",
    "norm": "rmsnorm",
    "activation": "swiglu",
    "bias": False,
    "tie_word_embeddings": False,
    "context_length": 1024,
}


def _shape(layers: int, heads: int, hidden: int, key_value_heads: int | None = None) -> dict[str, Any]:
    shape = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": hidden}
    return shape | ({"num_key_value_heads": key_value_heads} if key_value_heads else {})


# GPT-2: Radford et al. 2019, table 2. The llama presets are the Llama 2 architecture (Touvron et al. 2023) in small
# shapes.
PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2 | _shape(12, 12, 768),
    "gpt2-medium": _GPT2 | _shape(24, 16, 1024),
    "gpt2-large": _GPT2 | _shape(36, 20, 1280),
    "gpt2-xl": _GPT2 | _shape(48, 25, 1600),
    "llama": _LLAMA | _shape(12, 12, 768),
    "llama-tiny": _LLAMA | _shape(4, 4, 256, 2) | {"tie_word_embeddings": True, "context_length": 256},
    "llama-mini": _LLAMA | _shape(6, 6, 384, 2) | {"tie_word_embeddings": True, "context_length": 256},
    "llama-small": _LLAMA | _shape(8, 8, 512, 4) | {"tie_word_embeddings": True, "context_length": 512},
}


class ModelConfig(Config):
    """A decoder-only transformer. Keys carry the names of Hugging Face configs where one exists."""

    preset: str | None = None
    """A named shape to start from; every other key given here overrides it."""
    vocab_size: int | None = Field(default=None, ge=1)
    """Number of token ids. Left out: the tokenizer's."""
    context_length: int = Field(default=256, ge=1)
    """Tokens that the model sees at once (`max_position_embeddings` in Hugging Face configs)."""
    num_hidden_layers: int = Field(default=4, ge=1)
    num_attention_heads: int = Field(default=4, ge=1)
    num_key_value_heads: int | None = Field(default=None, ge=1)
    """Heads of keys and values (grouped-query attention, Ainslie et al. 2023). Left out: as many as attention heads."""
    hidden_size: int = Field(default=256, ge=1)
    intermediate_size: int | None = Field(default=None, ge=1)
    """Width inside the MLP. Left out: 4 x hidden_size, and for swiglu 8/3 x hidden_size rounded up to a multiple of
    64.
    """
    position: Literal["learned", "rotary"] = "rotary"
    rope_theta: float = Field(default=10000.0, gt=0)
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    norm_eps: float = Field(default=1e-5, gt=0)
    activation: Literal["gelu", "gelu_tanh", "swiglu", "relu2"] = "swiglu"
    bias: bool = False
    """Biases in linear layers and in LayerNorm."""
    qk_norm: bool = False
    """RMS-normalise queries and keys per head before the positions go in (Henry et al. 2020; Dehghani et al. 2023)."""
    tie_word_embeddings: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)
    initializer_range: float = Field(default=0.02, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        name = data.get("preset") if isinstance(data, dict) else None
        if not isinstance(name, str):  # none is given, or what is none: its type is refused like any other
            return data
        if name not in PRESETS:
            close = difflib.get_close_matches(name, PRESETS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"preset: there is no preset {name!r} | {hint}presets are {', '.join(PRESETS)}")
        return {**PRESETS[name], **data}

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        heads, kv = self.num_attention_heads, self.key_value_heads
        if self.hidden_size % heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {heads} | "
                f"set hidden_size to {self.hidden_size // heads * heads or heads} or "
                f"{(self.hidden_size // heads + 1) * heads}, or change num_attention_heads"
            )
        if heads % kv:
            raise ValueError(
                f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv} | "
                f"use one of {[n for n in range(1, heads + 1) if heads % n == 0]} for num_key_value_heads"
            )
        if self.position == "learned" and self.rope_theta != type(self).model_fields["rope_theta"].default:
            raise ValueError("rope_theta has no meaning for learned positions | remove it, or set position: rotary")
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"rotary positions need an even head size, and hidden_size / num_attention_heads is {self.head_dim} | "
                "change hidden_size, or set position: learned"
            )
        return self

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values, resolved."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def mlp_size(self) -> int:
        """Width inside the MLP, resolved."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        if self.activation == "swiglu":
            return -(-8 * self.hidden_size // (3 * 64)) * 64
        return 4 * self.hidden_size

    @property
    def vocabulary(self) -> int:
        """`vocab_size`, which must be known by now."""
        assert self.vocab_size is not None, "the job fills vocab_size from the tokenizer before a model is built"
        return self.vocab_size


def parameter_count(config: ModelConfig) -> int:
    """Number of parameters (tied weights once), from the shapes alone; a test compares it with the built model."""
    hidden, kv_width = config.hidden_size, config.key_value_heads * config.head_dim
    matrices = 2 * hidden * hidden + 2 * hidden * kv_width
    mlp_matrices = 3 if config.activation == "swiglu" else 2
    matrices += mlp_matrices * hidden * config.mlp_size
    norm = hidden * (2 if config.norm == "layernorm" and config.bias else 1)
    layer = matrices + 2 * norm + (2 * config.head_dim if config.qk_norm else 0)
    if config.bias:
        layer += 2 * hidden + 2 * kv_width + (mlp_matrices - 1) * config.mlp_size + hidden
    embeddings = config.vocabulary * hidden * (1 if config.tie_word_embeddings else 2)
    positions = config.context_length * hidden if config.position == "learned" else 0
    return config.num_hidden_layers * layer + norm + embeddings + positions


def flops_per_token(config: ModelConfig) -> float:
    """Model FLOPs to train on one token: 6 per matrix parameter and 12 x layers x hidden x context for attention.

    Source: PaLM, appendix B (Chowdhery et al. 2022). Looked-up embeddings cost nothing, the output layer does; the
        causal half is not subtracted, so that figures compare with other people's.
    """
    looked_up = config.context_length * config.hidden_size if config.position == "learned" else 0
    looked_up += 0 if config.tie_word_embeddings else config.vocabulary * config.hidden_size
    attention = 12 * config.num_hidden_layers * config.hidden_size * config.context_length
    return 6.0 * (parameter_count(config) - looked_up) + attention
