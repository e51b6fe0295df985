"""Llama and those that descend from it: Mistral, Qwen2, Qwen3, OLMo 2. Their tensors are called as ours."""

from __future__ import annotations

from typing import Any

from tilth.model.config import ModelConfig
from tilth.model.families.base import GATES, Family, Keys, Place, inverse
from tilth.model.rope import RopeScaling

BEFORE = "model."
OLD_NAMES = ((r"^(?!model\.|lm_head\.)", BEFORE),)
"""A base model, saved without its output, lacks the prefix."""
IGNORED = ((r".*\.rotary_emb\.inv_freq", "rotary frequencies follow from config.json"),)
COPIES = {"lm_head.weight": "model.embed_tokens.weight"}


def place(name: str) -> Place:
    """Our names are theirs, under `model.`."""
    return Place(name if name.startswith("lm_head.") else BEFORE + name)


def read_rope(keys: Keys, positions: int, theta: float = 10000.0) -> dict[str, Any]:
    """rope_theta and rope_scaling, from either spelling (transformers 5 nests both in rope_parameters)."""
    nested = keys.take("rope_parameters")
    table = keys.take("rope_scaling") or nested or {}
    keys.only("partial_rotary_factor", 1.0, default=1.0)
    if not isinstance(table, dict):
        raise keys.refused("rope_scaling", table)
    found = rope_of(keys, {"rope_theta": keys.take("rope_theta", theta), **table}, positions)
    keys.only("rotary_emb_base", found["rope_theta"], default=found["rope_theta"])  # an older name
    return found


def rope_of(keys: Keys, table: dict[str, Any], positions: int) -> dict[str, Any]:
    """rope_theta and rope_scaling from a table of Hugging Face's, which may name its type twice and be without one."""
    table = {key: value for key, value in table.items() if value is not None}
    kind = table.pop("rope_type", None) or table.get("type") or "default"
    table.pop("type", None)
    theta, partial = table.pop("rope_theta", 10000.0), table.pop("partial_rotary_factor", 1.0)
    known = RopeScaling.model_fields["rope_type"].annotation.__args__  # type: ignore[union-attr]
    if partial != 1.0 or (kind != "default" and kind not in known):
        raise keys.refused("rope_scaling", {"rope_type": kind, **table, "partial_rotary_factor": partial})
    if kind == "default":
        if table:
            raise keys.refused("rope_scaling", {"rope_type": kind, **table})
        return {"rope_theta": float(theta)}
    if kind in ("llama3", "yarn"):
        table.setdefault("original_max_position_embeddings", positions)
    elif kind == "linear":
        table.pop("original_max_position_embeddings", None)  # it does not use it
    return {"rope_theta": float(theta), "rope_scaling": {"rope_type": kind, **table}}


def read_decoder(keys: Keys, positions: int, theta: float = 10000.0, eps: float = 1e-6) -> dict[str, Any]:
    """What all of them share. `positions`, `theta`, `eps`: what transformers takes where config.json is silent."""
    positions = keys.take("max_position_embeddings", positions)
    return {
        "vocab_size": keys.size("vocab_size"),
        "context_length": positions,
        "num_hidden_layers": keys.layers("num_hidden_layers"),
        "num_attention_heads": keys.size("num_attention_heads"),
        "num_key_value_heads": keys.take("num_key_value_heads"),
        "hidden_size": keys.size("hidden_size"),
        "head_dim": keys.take("head_dim"),
        "intermediate_size": keys.size("intermediate_size"),
        "activation": keys.choice("hidden_act", GATES, "silu"),
        "norm_eps": keys.take("rms_norm_eps", eps),
        "tie_word_embeddings": keys.take("tie_word_embeddings", False),
        "attention_dropout": keys.take("attention_dropout", 0.0),
        "initializer_range": keys.take("initializer_range", 0.02),
        **read_rope(keys, positions, theta),
    }


def write_decoder(config: ModelConfig) -> dict[str, Any]:
    """What all of them share, with the names that every version of transformers reads."""
    scaling = config.rope_scaling
    return {
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.positions,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.key_value_heads,
        "hidden_size": config.hidden_size,
        "head_dim": config.head_size,
        "intermediate_size": config.mlp_size,
        "hidden_act": inverse(GATES, config.activation),
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling.model_dump(mode="json", exclude_none=True) if scaling else None,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_dropout": config.attention_drop,
        "initializer_range": config.initializer_range,
    }


def _read_llama(keys: Keys) -> dict[str, Any]:
    biases = {key: keys.take(key, False) for key in ("attention_bias", "mlp_bias")}
    return {**read_decoder(keys, 2048), **biases}


def _write_llama(config: ModelConfig) -> dict[str, Any]:
    attention, _, mlp = config.biases
    return {**write_decoder(config), "attention_bias": attention, "mlp_bias": mlp}


def _read_mistral(keys: Keys) -> dict[str, Any]:
    # Absent and null differ here: transformers has a window of 4,096 by default, and none for null.
    window = keys.take("sliding_window") if "sliding_window" in keys.values else 4096
    return {**read_decoder(keys, 131072), "sliding_window": window}


def _write_mistral(config: ModelConfig) -> dict[str, Any]:
    return {**write_decoder(config), "sliding_window": config.sliding_window}


def _read_windows(keys: Keys, layers: int) -> dict[str, Any]:
    """Qwen's windows: asked for by one key, as wide as another says, in layers that a third or a fourth names."""
    wanted, window = keys.take("use_sliding_window", False), keys.take("sliding_window", 4096)
    first, kinds = keys.take("max_window_layers", 28), keys.take("layer_types")
    if not wanted:
        if kinds is not None and "sliding_attention" in kinds:
            raise keys.refused("layer_types", kinds)
        return {}
    if kinds is None:
        kinds = ["sliding_attention" if layer >= first else "full_attention" for layer in range(layers)]
    return {"sliding_window": window, "layer_types": kinds}


def _write_windows(config: ModelConfig) -> dict[str, Any]:
    on = config.sliding_window is not None
    return (
        {"use_sliding_window": on, "sliding_window": config.sliding_window, "layer_types": config.kinds}
        if on
        else {"use_sliding_window": False}
    )


def _read_qwen2(keys: Keys) -> dict[str, Any]:
    shared = read_decoder(keys, 32768)
    return {
        **shared,
        **_read_windows(keys, shared["num_hidden_layers"]),
        "attention_bias": True,
        "attention_output_bias": False,
    }


def _write_qwen2(config: ModelConfig) -> dict[str, Any]:
    return {**write_decoder(config), **_write_windows(config)}


def _read_qwen3(keys: Keys) -> dict[str, Any]:
    shared = read_decoder(keys, 32768)
    windows = _read_windows(keys, shared["num_hidden_layers"])
    shared["head_dim"] = shared["head_dim"] or 128
    return {**shared, **windows, "attention_bias": keys.take("attention_bias", False), "qk_norm": True}


def _write_qwen3(config: ModelConfig) -> dict[str, Any]:
    return {**write_decoder(config), **_write_windows(config), "attention_bias": config.biases[0]}


def _read_olmo2(keys: Keys) -> dict[str, Any]:
    return {
        **read_decoder(keys, 2048, eps=1e-5),
        "attention_bias": keys.take("attention_bias", False),
        "norm_position": "output",
        "qk_norm": True,
        "qk_norm_over": "width",
    }


def _write_olmo2(config: ModelConfig) -> dict[str, Any]:
    return {**write_decoder(config), "attention_bias": config.biases[0]}


def _family(model_type: str, name: str, read: Any, write: Any) -> Family:
    return Family(model_type, f"{name}ForCausalLM", read, write, place, (f"{name}Model",), OLD_NAMES, IGNORED, COPIES)


FAMILIES = (
    _family("llama", "Llama", _read_llama, _write_llama),
    _family("mistral", "Mistral", _read_mistral, _write_mistral),
    _family("qwen2", "Qwen2", _read_qwen2, _write_qwen2),
    _family("qwen3", "Qwen3", _read_qwen3, _write_qwen3),
    _family("olmo2", "Olmo2", _read_olmo2, _write_olmo2),
)
