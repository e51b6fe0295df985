"""GPT-2: queries, keys and values in one tensor, and weights stored [in, out]."""

from __future__ import annotations

from typing import Any

from tilth.model.config import ModelConfig
from tilth.model.families.base import ACTIVATIONS, Family, Keys, Place, inverse

_AROUND = {
    "embed_tokens.weight": "transformer.wte.weight",
    "embed_positions.weight": "transformer.wpe.weight",
    "norm.weight": "transformer.ln_f.weight",
    "norm.bias": "transformer.ln_f.bias",
    "lm_head.weight": "lm_head.weight",
}
_LAYER = {
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
_FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def _place(name: str) -> Place:
    if name in _AROUND:
        return Place(_AROUND[name])
    _, layer, rest = name.split(".", 2)
    module, _, kind = rest.rpartition(".")
    # Their Conv1D keeps its weight as [in, out]; norms are vectors.
    transposed = kind == "weight" and "norm" not in module
    if module in _FUSED:
        return Place(f"transformer.h.{layer}.attn.c_attn.{kind}", transposed, _FUSED.index(module), len(_FUSED))
    return Place(f"transformer.h.{layer}.{_LAYER.get(module, module)}.{kind}", transposed)


def _read(keys: Keys) -> dict[str, Any]:
    keys.only("scale_attn_weights", True, default=True)
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        keys.only(key, False, default=False)
    keys.take("embd_pdrop")  # of training alone, where the recipe's dropout stands for both
    return {
        "vocab_size": keys.size("vocab_size"),
        "context_length": keys.take("n_positions", 1024),
        "num_hidden_layers": keys.layers("n_layer"),
        "num_attention_heads": keys.size("n_head"),
        "hidden_size": keys.size("n_embd"),
        "intermediate_size": keys.take("n_inner"),
        "position": "learned",
        "norm": "layernorm",
        "norm_eps": keys.take("layer_norm_epsilon", 1e-5),
        "activation": keys.choice("activation_function", ACTIVATIONS, "gelu_new"),
        "bias": True,
        "tie_word_embeddings": keys.take("tie_word_embeddings", True),
        "dropout": keys.take("resid_pdrop", 0.1),
        "attention_dropout": keys.take("attn_pdrop", 0.1),
        "initializer_range": keys.take("initializer_range", 0.02),
    }


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocabulary,
        "n_positions": config.positions,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_embd": config.hidden_size,
        "n_inner": config.mlp_size,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": inverse(ACTIVATIONS, config.activation),
        "tie_word_embeddings": config.tie_word_embeddings,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_drop,
        "initializer_range": config.initializer_range,
    }


GPT2 = Family(
    "gpt2",
    "GPT2LMHeadModel",
    _read,
    _write,
    _place,
    also=("GPT2Model",),
    old_names=((r"^(?!transformer\.|lm_head\.)", "transformer."),),
    ignored=((r"transformer\.h\.\d+\.attn\.(masked_)?bias", "a causal mask is no weight"),),
    copies={"lm_head.weight": "transformer.wte.weight"},
)
FAMILIES = (GPT2,)
