"""What a model is made of: its configuration, and the arithmetic of its size and work.

ModelConfig            one transformer, from GPT-2 and BERT to Llama, Gemma and OLMo, named as in Hugging Face configs
PRESETS                names for well-known and for small modern shapes (presets.py)
parameter_count        exact, without allocating
flops_per_token        model FLOPs of one trained token (forward and backward), for an honest MFU
"""

from __future__ import annotations

import difflib
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tilth.core.config import Config
from tilth.model.presets import PRESETS as PRESETS
from tilth.model.rope import RopeScaling

LayerType = Literal["full_attention", "sliding_attention"]
BESIDE_FROM = ("from", "wrapped", "context_length", "dropout", "attention_dropout")
"""What a recipe may say of a model that starts from a checkpoint."""
GATED = ("swiglu", "geglu", "geglu_tanh")
_ROTARY_ONLY = ("rope_theta", "rope_scaling", "rope_local_base_freq")


class ModelConfig(Config):
    """A transformer. Keys carry the names of Hugging Face configs where one exists."""

    preset: str | None = None
    """A named shape to start from; every other key given here overrides it."""
    from_: str | None = Field(default=None, alias="from", min_length=1)
    """A checkpoint to start from, in place of a shape: a run or a model of tilth's, a Hugging Face folder, or
    ORG/NAME[@REVISION] of the hub. Only wrapped, context_length, dropout and attention_dropout may be given besides.
    """
    wrapped: bool | None = None
    """With `from`: true uses transformers' own class, false tilth's own model. Left out: transformers' class only where
    tilth has no model of its own for it.
    """
    family: str | None = None
    """The model type of the Hugging Face checkpoint that it comes from, to which it is exported; left out: the first
    that can express it.
    """
    vocab_size: int | None = Field(default=None, ge=1)
    """Number of token ids. Left out: the tokenizer's."""
    context_length: int = Field(default=256, ge=1)
    """Tokens that the model sees at once."""
    max_position_embeddings: int | None = Field(default=None, ge=1)
    """Positions that its weights are made for, where these are more than context_length. Left out: context_length."""
    num_hidden_layers: int = Field(default=4, ge=1)
    """Blocks of attention and MLP, one after another."""
    num_attention_heads: int = Field(default=4, ge=1)
    """Heads of queries in a layer."""
    num_key_value_heads: int | None = Field(default=None, ge=1)
    """Heads of keys and values (grouped-query attention, Ainslie et al. 2023). Left out: as many as attention heads."""
    hidden_size: int = Field(default=256, ge=1)
    """Width of what goes from layer to layer: numbers for each token."""
    head_dim: int | None = Field(default=None, ge=1)
    """Width of one attention head. Left out: hidden_size / num_attention_heads."""
    intermediate_size: int | None = Field(default=None, ge=1)
    """Width inside the MLP. Left out: 4 x hidden_size, and for gated ones 8/3 x hidden_size rounded up to a multiple of
    64.
    """
    position: Literal["learned", "rotary"] = "rotary"
    """`learned`: an embedding for each position (GPT-2, BERT); `rotary`: queries and keys are turned by it (Llama)."""
    position_offset: int = Field(default=0, ge=0)
    """Rows of the learned positions before the first one that is used (RoBERTa: pad_token_id + 1)."""
    rope_theta: float = Field(default=10000.0, gt=0)
    """rotary: the base of its wavelengths; larger ones reach further."""
    rope_scaling: RopeScaling | None = None
    """rotary: frequencies stretched for a longer context. Left out: as they are."""
    rope_local_base_freq: float | None = Field(default=None, gt=0)
    """rope_theta of the layers with a sliding window, which then are not scaled (Gemma 3). Left out: as all others."""
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    """LayerNorm (GPT-2, BERT), or RMSNorm (Llama), which centres nothing."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance, so that nothing is divided by 0."""
    norm_position: Literal["pre", "post", "sandwich", "output"] = "pre"
    """`pre`: x + f(norm(x)), GPT-2 and Llama; `post`: norm(x + f(x)), BERT, which has no last norm; `sandwich`:
    x + norm(f(norm(x))), Gemma 2 and 3; `output`: x + norm(f(x)), OLMo 2.
    """
    norm_plus_one: bool = False
    """RMSNorm multiplies by 1 + weight (Gemma)."""
    embedding_norm: bool = False
    """A norm over the embeddings (BERT)."""
    scale_embedding: bool = False
    """Embeddings times the root of hidden_size (Gemma)."""
    type_vocab_size: int = Field(default=0, ge=0)
    """Kinds of segments that have an embedding of their own (BERT); text is of kind 0 unless said otherwise."""
    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu", "geglu", "geglu_tanh"] = "swiglu"
    """Of the MLP; `swiglu` and `geglu` have a gate, a third matrix. relu2: the square of ReLU (So et al. 2021)."""
    bias: bool = False
    """Biases in linear layers and in LayerNorm."""
    attention_bias: bool | None = None
    """Biases of queries, keys and values (and of the output of attention). Left out: as `bias`."""
    attention_output_bias: bool | None = None
    """A bias behind attention. Left out: as attention_bias (Qwen2: false)."""
    mlp_bias: bool | None = None
    """Biases in the MLP. Left out: as `bias`."""
    qk_norm: bool = False
    """RMS-normalise queries and keys before the positions go in (Henry et al. 2020; Dehghani et al. 2023)."""
    qk_norm_over: Literal["head", "width"] = "head"
    """Whether qk_norm goes over each head (Qwen3, Gemma 3), or over all heads at once (OLMo 2)."""
    query_pre_attn_scalar: float | None = Field(default=None, gt=0)
    """Scores are divided by its root. Left out: head_dim."""
    attn_logit_softcapping: float | None = Field(default=None, gt=0)
    """Scores of attention become c tanh(score / c) (Gemma 2)."""
    final_logit_softcapping: float | None = Field(default=None, gt=0)
    """Scores of the vocabulary become c tanh(score / c) (Gemma 2)."""
    sliding_window: int | None = Field(default=None, ge=1)
    """A token sees so many tokens at most, itself among them, in the layers that `layer_types` names."""
    layer_types: list[LayerType] | None = None
    """Which layers have the window. Left out: all, where there is one."""
    is_causal: bool = True
    """A token sees only those before it; false: the whole text (BERT)."""
    mlm_head: bool = False
    """A dense layer, activation and norm before the output, which has a bias (BERT)."""
    tie_word_embeddings: bool = True
    """The output matrix is that of the embeddings."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of embeddings and of what each layer adds, in training."""
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of the weights of attention. Left out: as `dropout`."""
    initializer_range: float = Field(default=0.02, gt=0)
    """Standard deviation of fresh weights; what projects into the residual stream has less (GPT-2)."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_checkpoint(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("from") is None:
            return data
        other = [key for key in data if key not in BESIDE_FROM and data[key] is not None]
        if other:
            raise ValueError(
                f"{other[0]}: it is the checkpoint's own, and model.from is {data['from']!r} | remove one of the two"
            )
        return {"context_length": 512, **data}

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Of what starts from a checkpoint only what the recipe says: the shape is not known yet."""
        plain: dict[str, Any] = handler(self)
        if self.wrapped is None:  # as recipes were before there was the key: the same fingerprint
            plain.pop("wrapped", None)
        return plain if self.from_ is None else {key: plain[key] for key in BESIDE_FROM if key in plain}

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
    def _heads_fit(self) -> ModelConfig:
        heads, kv = self.num_attention_heads, self.key_value_heads
        if self.head_dim is None and self.hidden_size % heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {heads} | "
                f"set hidden_size to {self.hidden_size // heads * heads or heads} or "
                f"{(self.hidden_size // heads + 1) * heads}, or change num_attention_heads"
            )
        if heads % kv:
            raise ValueError(
                f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv} | "
                f"use one of {[n for n in range(1, min(heads, 1000) + 1) if heads % n == 0]} for num_key_value_heads"
            )
        return self

    @model_validator(mode="after")
    def _positions_fit(self) -> ModelConfig:
        if self.position == "learned":
            fields = type(self).model_fields
            for key in _ROTARY_ONLY:
                if getattr(self, key) != fields[key].default:
                    raise ValueError(f"{key} has no meaning for learned positions | remove it, or set position: rotary")
        elif self.position_offset:
            raise ValueError("position_offset has no meaning for rotary positions | remove it")
        elif self.head_size % 2:
            how = "head_dim" if self.head_dim else "hidden_size / num_attention_heads"
            raise ValueError(
                f"rotary positions need an even head size, and {how} is {self.head_size} | "
                f"change {'head_dim' if self.head_dim else 'hidden_size'}, or set position: learned"
            )
        if self.context_length > self.positions:
            raise ValueError(
                f"context_length {self.context_length} is more than max_position_embeddings {self.positions} | "
                f"set context_length to {self.positions} at most"
            )
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> ModelConfig:
        if self.layer_types is not None:
            if len(self.layer_types) != self.num_hidden_layers:
                raise ValueError(
                    f"layer_types names {len(self.layer_types)} layers, and num_hidden_layers is "
                    f"{self.num_hidden_layers} | name each layer once"
                )
            if self.sliding_window is None and "sliding_attention" in self.layer_types:
                raise ValueError("layer_types has sliding_attention, and there is no window | set sliding_window")
        if self.sliding_window is not None and not self.is_causal:
            raise ValueError("sliding_window has no meaning for is_causal: false | remove one of them")
        return self

    @model_validator(mode="after")
    def _norms_fit(self) -> ModelConfig:
        if self.norm_plus_one and self.norm != "rmsnorm":
            raise ValueError(f"norm_plus_one has no meaning for norm: {self.norm} | remove it, or set norm: rmsnorm")
        if self.qk_norm_over != "head" and not self.qk_norm:
            raise ValueError("qk_norm_over has no meaning without qk_norm | remove it, or set qk_norm: true")
        return self

    @property
    def head_size(self) -> int:
        """Width of one attention head, resolved."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values, resolved."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def mlp_size(self) -> int:
        """Width inside the MLP, resolved."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        return -(-8 * self.hidden_size // (3 * 64)) * 64 if self.gated else 4 * self.hidden_size

    @property
    def gated(self) -> bool:
        """Whether the MLP has a gate, which is a third matrix."""
        return self.activation in GATED

    @property
    def positions(self) -> int:
        """Positions that the weights are made for, resolved."""
        return self.max_position_embeddings or self.context_length

    @property
    def biases(self) -> tuple[bool, bool, bool]:
        """Whether there are biases in queries, keys and values; behind attention; in the MLP."""
        attention = self.bias if self.attention_bias is None else self.attention_bias
        behind = attention if self.attention_output_bias is None else self.attention_output_bias
        return attention, behind, self.bias if self.mlp_bias is None else self.mlp_bias

    @property
    def kinds(self) -> list[LayerType]:
        """The type of each layer, resolved."""
        every: LayerType = "full_attention" if self.sliding_window is None else "sliding_attention"
        return self.layer_types or [every] * self.num_hidden_layers

    def rope_of(self, kind: LayerType) -> tuple[float, RopeScaling | None]:
        """Base and scaling of the rotary positions of one type of layer."""
        local = self.rope_local_base_freq if kind == "sliding_attention" else None
        return (local, None) if local else (self.rope_theta, self.rope_scaling)

    @property
    def attention_drop(self) -> float:
        """Dropout of the weights of attention, resolved."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout

    @property
    def vocabulary(self) -> int:
        """`vocab_size`, which must be known by now."""
        assert self.vocab_size is not None, "the job fills vocab_size from the tokenizer before a model is built"
        return self.vocab_size

    def resolved(self) -> dict[str, Any]:
        """Every key as plain data, nothing left to a preset or to another key."""
        attention, behind, mlp = self.biases
        return self.model_dump(mode="json", exclude={"preset"}) | {
            "bias": self.bias and (self.norm == "layernorm" or self.mlm_head),  # all that it still decides by itself
            "max_position_embeddings": self.positions,
            "num_key_value_heads": self.key_value_heads,
            "head_dim": self.head_size,
            "intermediate_size": self.mlp_size,
            "attention_bias": attention,
            "attention_output_bias": behind,
            "mlp_bias": mlp,
            "query_pre_attn_scalar": float(self.query_pre_attn_scalar or self.head_size),
            "layer_types": self.kinds,
            "attention_dropout": self.attention_drop,
        }


def parameter_count(config: ModelConfig) -> int:
    """Number of parameters (tied weights once), from the shapes alone; a test compares it with the built model."""
    hidden = config.hidden_size
    norm = hidden * (2 if config.norm == "layernorm" and config.bias else 1)
    embeddings = config.vocabulary * hidden * (1 if config.tie_word_embeddings else 2)
    positions = (config.positions + config.position_offset) * hidden if config.position == "learned" else 0
    around = positions + config.type_vocab_size * hidden
    around += norm * ((config.norm_position != "post") + config.embedding_norm)
    if config.mlm_head:
        around += hidden * hidden + (hidden if config.bias else 0) + norm + config.vocabulary
    return config.num_hidden_layers * _layer_parameters(config, norm) + embeddings + around


def _layer_parameters(config: ModelConfig, norm: int) -> int:
    hidden, inner = config.hidden_size, config.mlp_size
    width, kv_width = config.num_attention_heads * config.head_size, config.key_value_heads * config.head_size
    attention_bias, behind_bias, mlp_bias = config.biases
    wide = 2 if config.gated else 1
    count = 2 * hidden * (width + kv_width) + (wide + 1) * hidden * inner
    count += (width + 2 * kv_width) * attention_bias + hidden * behind_bias + (wide * inner + hidden) * mlp_bias
    if config.qk_norm:
        count += width + kv_width if config.qk_norm_over == "width" else 2 * config.head_size
    return count + norm * (4 if config.norm_position == "sandwich" else 2)


def flops_per_token(config: ModelConfig) -> float:
    """Model FLOPs to train all of it on one token (parts of it: `model/flops.py`): 6 per matrix parameter and 12 x
    layers x width x context for attention.

    Source: PaLM, appendix B (Chowdhery et al. 2022). Looked-up embeddings cost nothing, the output layer does; the
        causal half is not subtracted, so that figures compare with other people's.
    """
    looked_up = config.type_vocab_size * config.hidden_size
    if config.position == "learned":
        looked_up += (config.positions + config.position_offset) * config.hidden_size
    looked_up += 0 if config.tie_word_embeddings else config.vocabulary * config.hidden_size
    width = config.num_attention_heads * config.head_size
    return 6.0 * (parameter_count(config) - looked_up) + 12 * config.num_hidden_layers * width * config.context_length
