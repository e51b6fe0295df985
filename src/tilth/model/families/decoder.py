"""What families share whose tensors are called as ours (those of llama.py and gemma.py), and most of their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilth.model.config import ModelConfig
from tilth.model.families.base import GATES, Family, Keys, Place, inverse
from tilth.model.rope import RopeScaling

_BEFORE = "model."


def _place(name: str) -> Place:
    """Our names are theirs, under `model.`."""
    return Place(name if name.startswith("lm_head.") else _BEFORE + name)


def decoder_family(
    model_type: str,
    name: str,
    read: Callable[[Keys], dict[str, Any]],
    write: Callable[[ModelConfig], dict[str, Any]],
    base: str | None = None,
) -> Family:
    """A family whose tensors are called as ours. `base`: its class without an output; left out: NAMEModel."""
    return Family(
        model_type,
        f"{name}ForCausalLM",
        read,
        write,
        _place,
        also=(base or f"{name}Model",),
        old_names=((r"^(?!model\.|lm_head\.)", _BEFORE),),  # a base model, saved without its output, lacks the prefix
        ignored=((r".*\.rotary_emb\.inv_freq", "rotary frequencies follow from config.json"),),
        copies={"lm_head.weight": f"{_BEFORE}embed_tokens.weight"},
    )


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
