"""BERT and RoBERTa: the whole text at once, norms behind each part, and a head that guesses masked tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

from tilth.model.config import ModelConfig
from tilth.model.families.base import ACTIVATIONS, Family, Keys, Place, inverse

_OF_POOLER = ("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
              "pooler_type")  # fmt: skip
"""In the files of the first BERTs, of a part that a language model has not."""
_EMBEDDINGS = {
    "embed_tokens": "word_embeddings",
    "embed_positions": "position_embeddings",
    "embed_types": "token_type_embeddings",
    "embed_norm": "LayerNorm",
}
_LAYER = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.o_proj": "attention.output.dense",
    "post_attention_layernorm": "attention.output.LayerNorm",
    "mlp.up_proj": "intermediate.dense",
    "mlp.down_proj": "output.dense",
    "post_feedforward_layernorm": "output.LayerNorm",
}
_HEADS = {
    "bert": {
        "mlm_head.dense": "cls.predictions.transform.dense",
        "mlm_head.norm": "cls.predictions.transform.LayerNorm",
        "output_bias": "cls.predictions.bias",
        "lm_head": "cls.predictions.decoder",
    },
    "roberta": {
        "mlm_head.dense": "lm_head.dense",
        "mlm_head.norm": "lm_head.layer_norm",
        "output_bias": "lm_head.bias",
        "lm_head": "lm_head.decoder",
    },
}


def _place(family: str, name: str) -> Place:
    if name == "output_bias":
        return Place(_HEADS[family][name])
    module, _, kind = name.rpartition(".")
    if module in _EMBEDDINGS:
        return Place(f"{family}.embeddings.{_EMBEDDINGS[module]}.{kind}")
    if module in _HEADS[family]:
        return Place(f"{_HEADS[family][module]}.{kind}")
    _, layer, rest = module.split(".", 2)
    return Place(f"{family}.encoder.layer.{layer}.{_LAYER.get(rest, rest)}.{kind}")


def _read(keys: Keys, offset: int) -> dict[str, Any]:
    for key in ("is_decoder", "add_cross_attention"):
        keys.only(key, False, default=False)
    keys.only("tie_word_embeddings", True, default=True)
    if (positions := keys.take("position_embedding_type", "absolute")) != "absolute":
        # Their class reads the key no more, and would compute the scores of another model.
        raise keys.refused(
            "position_embedding_type",
            positions,
            "use a checkpoint with absolute positions: transformers' own class has no others since its version 5",
        )
    keys.only("directionality", "bidi", default="bidi")
    for key in _OF_POOLER:
        keys.take(key)
    return {
        "vocab_size": keys.size("vocab_size"),
        "context_length": keys.take("max_position_embeddings", 512) - offset,
        "position_offset": offset,
        "num_hidden_layers": keys.layers("num_hidden_layers"),
        "num_attention_heads": keys.size("num_attention_heads"),
        "hidden_size": keys.size("hidden_size"),
        "intermediate_size": keys.size("intermediate_size"),
        "position": "learned",
        "norm": "layernorm",
        "norm_eps": keys.take("layer_norm_eps", 1e-12),
        "norm_position": "post",
        "embedding_norm": True,
        "type_vocab_size": keys.take("type_vocab_size", 2),
        "activation": keys.choice("hidden_act", ACTIVATIONS, "gelu"),
        "bias": True,
        "is_causal": False,
        "mlm_head": True,
        "dropout": keys.take("hidden_dropout_prob", 0.1),
        "attention_dropout": keys.take("attention_probs_dropout_prob", 0.1),
        "initializer_range": keys.take("initializer_range", 0.02),
    }


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.positions + config.position_offset,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.mlp_size,
        "layer_norm_eps": config.norm_eps,
        "type_vocab_size": config.type_vocab_size,
        "hidden_act": inverse(ACTIVATIONS, config.activation),
        "tie_word_embeddings": True,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_drop,
        "initializer_range": config.initializer_range,
    }


def _read_roberta(keys: Keys) -> dict[str, Any]:
    """Positions begin behind the padding id, and the head's activation is GELU whatever that of the layers is."""
    keys.only("hidden_act", "gelu", default="gelu")
    return _read(keys, keys.take("pad_token_id", 1) + 1)


def _write_roberta(config: ModelConfig) -> dict[str, Any]:
    return {**_write(config), "hidden_act": "gelu", "pad_token_id": max(0, config.position_offset - 1)}


def _family(model_type: str, name: str, read: Any, write: Any) -> Family:
    head = _HEADS[model_type]
    return Family(
        model_type,
        f"{name}ForMaskedLM",
        read,
        write,
        partial(_place, model_type),
        also=(f"{name}ForPreTraining",),
        old_names=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),
        ignored=(
            (rf"{model_type}\.pooler\..*", "the pooled first token is for classification"),
            (r"cls\.seq_relationship\..*", "next-sentence prediction is no part of a language model"),
            (rf"{model_type}\.embeddings\.(position_ids|token_type_ids)", "a buffer, no weight"),
        ),
        copies={
            f"{head['lm_head']}.weight": f"{model_type}.embeddings.word_embeddings.weight",
            f"{head['lm_head']}.bias": head["output_bias"],
        },
    )


FAMILIES = (
    _family("bert", "Bert", lambda keys: _read(keys, 0), _write),
    _family("roberta", "Roberta", _read_roberta, _write_roberta),
)
