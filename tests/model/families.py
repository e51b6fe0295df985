"""Small random models of transformers in the shapes that differ, and how far ours are from them.

python -m tests.model.families          prints the table of docs/families.md
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.model.transformer import Transformer

VOCAB, LENGTH = 97, 40
_IDS = {"bos_token_id": 2, "eos_token_id": 3}
_SIZES = {"vocab_size": VOCAB, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4} | _IDS
_DECODER = {
    **_SIZES,
    "intermediate_size": 80,
    "max_position_embeddings": LENGTH,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
_GPT2 = {"vocab_size": VOCAB, "n_embd": 33, "n_layer": 2, "n_head": 3, "n_positions": LENGTH} | _IDS
_BERT = {**_SIZES, "intermediate_size": 80, "max_position_embeddings": LENGTH, "pad_token_id": 0}
_WIDE = {"hidden_size": 42, "num_attention_heads": 6, "num_key_value_heads": 3}  # heads of 10, not of 7
_GEMMA = {**_DECODER, "head_dim": 14, "sliding_window": 6, "query_pre_attn_scalar": 20}


def _rope(kind: str, **values: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5000.0, **values}}


LLAMA3 = _rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
LOCAL = {"rope_type": "default", "rope_theta": 1e4}
GLOBAL = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}

SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2", "3 heads of 11, tied", _GPT2),
    "gpt2-untied": ("GPT2", "untied, n_inner 50, exact GELU", {
        **_GPT2, "tie_word_embeddings": False, "n_inner": 50, "activation_function": "gelu", "n_embd": 36,
    }),
    "llama": ("Llama", "4 heads over 2, untied", _DECODER),
    "llama-one": ("Llama", "6 heads over 1, tied", {
        **_DECODER, "num_attention_heads": 6, "num_key_value_heads": 1, "tie_word_embeddings": True,
    }),
    "llama-biases": ("Llama", "biases everywhere, heads of 10", {
        **_DECODER, "attention_bias": True, "mlp_bias": True, "head_dim": 10,
    }),
    "llama3": ("Llama", "rope scaling llama3", {**_DECODER, **LLAMA3}),
    "llama-linear": ("Llama", "rope scaling linear", {**_DECODER, **_rope("linear", factor=4.0)}),
    "llama-dynamic": ("Llama", "rope scaling dynamic", {**_DECODER, **_rope("dynamic", factor=4.0)}),
    "llama-yarn": ("Llama", "rope scaling yarn", {
        **_DECODER, **_rope("yarn", factor=4.0, original_max_position_embeddings=10),
    }),
    "llama-yarn-mscale": ("Llama", "yarn with betas, mscale, no truncation", {
        **_DECODER, **_rope("yarn", factor=4.0, original_max_position_embeddings=10, beta_fast=4.0, beta_slow=0.5,
                            mscale=1.2, mscale_all_dim=0.7, truncate=False),
    }),
    "mistral": ("Mistral", "window of 7, heads of 10", {**_DECODER, "sliding_window": 7, "head_dim": 10}),
    "mistral-full": ("Mistral", "no window, tied", {
        **_DECODER, "sliding_window": None, "tie_word_embeddings": True, "num_key_value_heads": 4,
    }),
    "qwen2": ("Qwen2", "biases of q, k, v; tied", {**_DECODER, "tie_word_embeddings": True}),
    "qwen2-window": ("Qwen2", "window of 6 from layer 1 on", {
        **_DECODER, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1,
    }),
    "qwen3": ("Qwen3", "heads of 14, tied", {**_DECODER, "head_dim": 14, "tie_word_embeddings": True}),
    "qwen3-wide": ("Qwen3", "6 heads of 10 over 3 in 42, biases", {
        **_DECODER, **_WIDE, "head_dim": 10, "attention_bias": True,
    }),
    "gemma2": ("Gemma2", "window of 6, both caps, scalar 20", {
        **_GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0,
    }),
    "gemma2-plain": ("Gemma2", "no caps, untied", {
        **_GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None, "tie_word_embeddings": False,
    }),
    "gemma3": ("Gemma3Text", "every second full, scaled", {
        **_GEMMA, "num_hidden_layers": 4, "sliding_window_pattern": 2,
        "rope_parameters": {"full_attention": GLOBAL, "sliding_attention": LOCAL},
    }),
    "gemma3-capped": ("Gemma3Text", "final cap, 4 heads over 1", {
        **_GEMMA, "num_key_value_heads": 1, "final_logit_softcapping": 4.0,
    }),
    "olmo2": ("Olmo2", "4 heads over 2, untied", _DECODER),
    "olmo2-tied": ("Olmo2", "4 heads, tied", {**_DECODER, "num_key_value_heads": 4, "tie_word_embeddings": True}),
    "bert": ("Bert", "4 heads of 12", _BERT),
    "bert-odd": ("Bert", "3 heads of 11, one type, ReLU", {
        **_BERT, "hidden_size": 33, "num_attention_heads": 3, "type_vocab_size": 1, "hidden_act": "relu",
    }),
    "roberta": ("Roberta", "padding id 1, one type", {
        **_BERT, "pad_token_id": 1, "max_position_embeddings": LENGTH + 2, "type_vocab_size": 1,
    }),
    "roberta-pad-0": ("Roberta", "padding id 0, two types", {**_BERT, "max_position_embeddings": LENGTH + 1}),
}  # fmt: skip


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and advice."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity(before)
    logging.enable_progress_bar()


def make(name: str, seed: int = 3) -> Any:
    """A model of transformers whose weights are large enough for every part to matter: norms and biases too."""
    kind, _, values = SHAPES[name]
    config = getattr(transformers, f"{kind}Config")(**values)
    return from_config(config, seed)


def from_config(config: Any, seed: int = 3) -> Any:
    """The same of any config."""
    masked = "bert" in config.model_type or config.model_type in ("electra", "fnet")
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager").eval()
    generator, centre = torch.Generator().manual_seed(seed), 0.0 if "gemma" in config.model_type else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            middle = centre if parameter.dim() == 1 and "bias" not in name else 0.0
            parameter.copy_(middle + torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def save(model: Any, folder: Path, **options: Any) -> Path:
    """The folder that transformers writes."""
    with quiet():
        model.save_pretrained(folder, **options)
    return folder


def some_ids(rows: int = 2, length: int = LENGTH, seed: int = 1) -> torch.Tensor:
    """Ids without those that pad, whose positions RoBERTa counts otherwise."""
    return torch.randint(4, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def difference(theirs: Any, ours: Transformer) -> float:
    """The largest difference of two models' logits."""
    ids = some_ids()
    return float((theirs(ids).logits - ours.logits(ours(ids))).abs().max())


def table() -> str:
    """The rows of docs/families.md, measured."""
    lines = ["| family | shape | largest difference |", "|---|---|---|"]
    for name, (_, said, _) in SHAPES.items():
        theirs = make(name)
        with tempfile.TemporaryDirectory() as folder:
            ours = load_checkpoint(save(theirs, Path(folder))).model.eval()
        lines.append(f"| {type(theirs).__name__} | {said} | {difference(theirs, ours):.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
