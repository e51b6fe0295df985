"""Names for well-known and for small modern shapes: what `model.preset` starts from."""

from __future__ import annotations

from typing import Any

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
_MODERN = {
    "position": "rotary",
    "norm": "rmsnorm",
    "activation": "relu2",
    "qk_norm": True,
    "bias": False,
    "tie_word_embeddings": True,
    "context_length": 256,
}
_BERT = {
    "position": "learned",
    "norm": "layernorm",
    "norm_eps": 1e-12,
    "norm_position": "post",
    "embedding_norm": True,
    "activation": "gelu",
    "bias": True,
    "is_causal": False,
    "type_vocab_size": 2,
    "mlm_head": True,
    "tie_word_embeddings": True,
    "context_length": 512,
}


def _shape(layers: int, heads: int, hidden: int, key_value_heads: int | None = None) -> dict[str, Any]:
    shape = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": hidden}
    return shape | ({"num_key_value_heads": key_value_heads} if key_value_heads else {})


# GPT-2: Radford et al. 2019, table 2. The llama presets are the Llama 2 architecture (Touvron et al. 2023) in small
# shapes. modern: docs/learning.md. BERT: Devlin et al. 2019, section 3; bert-mini: Turc et al. 2019, table 1.
PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2 | _shape(12, 12, 768),
    "gpt2-medium": _GPT2 | _shape(24, 16, 1024),
    "gpt2-large": _GPT2 | _shape(36, 20, 1280),
    "gpt2-xl": _GPT2 | _shape(48, 25, 1600),
    "llama": _LLAMA | _shape(12, 12, 768),
    "llama-tiny": _LLAMA | _shape(4, 4, 256, 2) | {"tie_word_embeddings": True, "context_length": 256},
    "llama-mini": _LLAMA | _shape(6, 6, 384, 2) | {"tie_word_embeddings": True, "context_length": 256},
    "llama-small": _LLAMA | _shape(8, 8, 512, 4) | {"tie_word_embeddings": True, "context_length": 512},
    "modern": _MODERN | _shape(4, 4, 256),
    "bert": _BERT | _shape(12, 12, 768),
    "bert-mini": _BERT | _shape(4, 4, 256) | {"context_length": 256},
}
