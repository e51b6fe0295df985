"""Llama and those that descend from it: Mistral, Qwen2, Qwen3, OLMo 2. What they share is in decoder.py."""

from __future__ import annotations

from typing import Any

from tilth.model.config import ModelConfig
from tilth.model.families.base import Keys
from tilth.model.families.decoder import decoder_family, read_decoder, write_decoder


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


FAMILIES = (
    decoder_family("llama", "Llama", _read_llama, _write_llama),
    decoder_family("mistral", "Mistral", _read_mistral, _write_mistral),
    decoder_family("qwen2", "Qwen2", _read_qwen2, _write_qwen2),
    decoder_family("qwen3", "Qwen3", _read_qwen3, _write_qwen3),
    decoder_family("olmo2", "Olmo2", _read_olmo2, _write_olmo2),
)
