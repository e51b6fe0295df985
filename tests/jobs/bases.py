"""Small random checkpoints of transformers with a tokenizer beside them, and data to tune them on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

from tests.jobs.helpers import WORDS, write_texts
from tests.model.families import from_config, save
from tests.tokenizer import foreign_kinds

CONTEXT = 32
_IDS = {"vocab_size": 512, "bos_token_id": 0, "eos_token_id": 0}
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
          "max_position_embeddings": CONTEXT, **_IDS}  # fmt: skip
CONFIGS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, **_IDS),
    "llama": lambda: transformers.LlamaConfig(**_SIZES, num_key_value_heads=2),
    "bloom": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **_IDS),
    "neox": lambda: transformers.GPTNeoXConfig(**_SIZES),
    "phi": lambda: transformers.PhiConfig(**_SIZES),
    "distilbert": lambda: transformers.DistilBertConfig(
        dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=CONTEXT, vocab_size=512, pad_token_id=0
    ),
    "electra": lambda: transformers.ElectraConfig(embedding_size=16, **_SIZES, pad_token_id=0),
    "fnet": lambda: transformers.FNetConfig(**{k: v for k, v in _SIZES.items() if "heads" not in k}, pad_token_id=0),
    "deberta": lambda: transformers.DebertaV2Config(
        **_SIZES, pad_token_id=0, relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False
    ),
}
MASKED = ("distilbert", "electra", "fnet", "deberta")


def write_base(folder: Path, kind: str) -> Path:
    """A folder as the hub has it: config.json, model.safetensors and the tokenizer of GPT-2's kind with ChatML's
    tokens; of a masked model BERT's kind.
    """
    save(from_config(CONFIGS[kind]()), folder)
    if kind not in MASKED:
        return foreign_kinds.gpt2(folder)
    place = foreign_kinds.wordpiece(folder) / "tokenizer_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "mask_token": "[MASK]", "pad_token": "[PAD]"}))
    return folder


def write_chats(path: Path, rows: int = 120) -> Path:
    """Questions and answers, a row of JSON each."""
    draw = random.Random(7)
    lines = []
    for number in range(rows):
        ask, answer = (" ".join(draw.choices(WORDS, k=draw.randint(1, 3))) for _ in range(2))
        lines.append(json.dumps({"prompt": f"{ask} {number}?", "completion": answer}))
    path.write_text("\n".join(lines) + "\n")
    return path


def tuning(folder: Path, base: str, **sections: Any) -> Path:
    """Writes texts, chats and a recipe that starts from `folder / base`; returns the recipe."""
    if not (folder / "texts").exists():
        write_texts(folder / "texts", documents=20)
        write_chats(folder / "chats.jsonl")
    recipe: dict[str, Any] = {
        "name": "tuned",
        "data": {"sources": [{"path": "texts"}]},
        "model": {"from": base, "context_length": CONTEXT},
        "train": {
            "steps": 12,
            "batch_tokens": 8 * CONTEXT,
            "micro_batch": 4,
            "precision": "fp32",
            "optimizer": {"lr": 3e-3},
            "schedule": {"name": "cosine", "warmup_steps": 2},
        },
        "sample": {"max_new_tokens": 8},
    }
    for name, section in sections.items():
        recipe[name] = {**recipe.get(name, {}), **section} if section is not None else None
    path = folder / "r.yaml"
    path.write_text(json.dumps({key: value for key, value in recipe.items() if value is not None}))
    return path


SFT: dict[str, Any] = {
    "data": {
        "sources": [{"path": "chats.jsonl", "map": {"prompt": "prompt", "completion": "completion"}}],
        "clean": "none",
        "chat": {"template": "chatml"},
        "packing": {"too_long": "drop"},
        "decontaminate": {"validation": False},
    },
    "train": {"objective": "sft"},
}
"""Sections of `tuning` for answers to questions."""
