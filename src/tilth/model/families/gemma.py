"""Gemma 2 and the text models of Gemma 3: norms on both sides, 1 + weight, scaled embeddings, windows in turn."""

from __future__ import annotations

from typing import Any

from tilth.model.config import ModelConfig
from tilth.model.families.base import GATES, Keys, inverse
from tilth.model.families.decoder import decoder_family, read_decoder, rope_of, write_decoder


def _read(keys: Keys, window: int) -> dict[str, Any]:
    """The keys that Gemma 2 and Gemma 3 share. `window`: the sliding window where config.json is silent."""
    keys.take("hidden_act")  # an older name that transformers does not read for Gemma
    keys.only("use_bidirectional_attention", False, default=False)
    shared = {**read_decoder(keys, 8192), "activation": keys.choice("hidden_activation", GATES, "gelu_pytorch_tanh")}
    return {
        **shared,
        "head_dim": shared["head_dim"] or 256,
        "tie_word_embeddings": keys.take("tie_word_embeddings", True),
        "attention_bias": keys.take("attention_bias", False),
        "norm_position": "sandwich",
        "norm_plus_one": True,
        "scale_embedding": True,
        "query_pre_attn_scalar": float(keys.take("query_pre_attn_scalar", 256)),
        "sliding_window": keys.take("sliding_window", window),
    }


def _write(config: ModelConfig) -> dict[str, Any]:
    shared = write_decoder(config)
    shared["hidden_activation"] = inverse(GATES, config.activation)
    shared["hidden_act"] = shared["hidden_activation"]
    scalar = config.query_pre_attn_scalar or config.head_size
    return {
        **shared,
        "attention_bias": config.biases[0],
        "query_pre_attn_scalar": int(scalar) if float(scalar).is_integer() else scalar,
        "sliding_window": config.sliding_window,
        "layer_types": config.kinds,
    }


def _kinds(keys: Keys, layers: int, every: int) -> list[str]:
    """The type of each layer: as listed, or a full one after every `every` - 1 with a window."""
    listed: list[str] | None = keys.take("layer_types")
    if listed is not None:
        return listed
    return ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]


def _cap(keys: Keys, key: str, default: float) -> float | None:
    """A soft cap: absent is transformers' default, null is none."""
    value = keys.take(key)
    return default if key not in keys.values else value


def _read_gemma2(keys: Keys) -> dict[str, Any]:
    shared = _read(keys, 4096)
    keys.only("sliding_window_size", shared["sliding_window"], default=shared["sliding_window"])  # an older name
    return {
        **shared,
        "layer_types": _kinds(keys, shared["num_hidden_layers"], 2),
        "attn_logit_softcapping": _cap(keys, "attn_logit_softcapping", 50.0),
        "final_logit_softcapping": _cap(keys, "final_logit_softcapping", 30.0),
    }


def _write_gemma2(config: ModelConfig) -> dict[str, Any]:
    caps = {key: getattr(config, key) for key in ("attn_logit_softcapping", "final_logit_softcapping")}
    return {**_write(config), **caps}


def _read_gemma3(keys: Keys) -> dict[str, Any]:
    nested = keys.take("rope_parameters") or {}
    local = keys.take("rope_local_base_freq", 10000.0)
    if not isinstance(nested, dict) or (nested and set(nested) - {"full_attention", "sliding_attention"}):
        raise keys.refused("rope_parameters", nested)
    keys.only("attn_logit_softcapping", None)  # transformers has the key and does not apply it
    full = {"rope_theta": keys.take("rope_theta", 1e6), **(nested.get("full_attention") or {})}
    full |= keys.take("rope_scaling") or {}
    sliding = rope_of(keys, {"rope_theta": local, **(nested.get("sliding_attention") or {})}, 0)
    if "rope_scaling" in sliding:
        raise keys.refused("rope_parameters", nested)
    flat = {key: value for key, value in keys.values.items() if key not in ("rope_parameters", "rope_scaling")}
    shared = _read(keys.instead(flat), 4096)
    every = keys.take("sliding_window_pattern", 6)
    shared["context_length"] = keys.take("max_position_embeddings", 131072)
    return {
        **shared,
        **rope_of(keys, full, shared["context_length"]),
        "rope_local_base_freq": sliding["rope_theta"],
        "layer_types": _kinds(keys, shared["num_hidden_layers"], every),
        "final_logit_softcapping": keys.take("final_logit_softcapping"),
        "qk_norm": True,
    }


def _write_gemma3(config: ModelConfig) -> dict[str, Any]:
    local = {"rope_local_base_freq": config.rope_local_base_freq or config.rope_theta}
    return {**_write(config), **local, "final_logit_softcapping": config.final_logit_softcapping}


FAMILIES = (
    decoder_family("gemma2", "Gemma2", _read_gemma2, _write_gemma2),
    decoder_family("gemma3_text", "Gemma3", _read_gemma3, _write_gemma3, "Gemma3TextModel"),
)
