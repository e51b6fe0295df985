"""A small model that was trained to answer, for the tests of all that talks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

import tilth
from tests.model.families import save
from tests.tokenizer.foreign_kinds import llama3
from tilth.tokenizer import TokenizerConfig, train_tokenizer

WORDS = ["soil", "seed", "rain", "root", "leaf", "sun", "wind", "frost"]
SPECIAL = ["<|im_start|>", "<|im_end|>"]
CONTEXT = 192


def base_folder(folder: Path, foreign: bool = False, **sizes: int) -> Path:
    """A Hugging Face folder with a random GPT-2, and a tokenizer that tilth made or, with a bos, another program."""
    if foreign:
        llama3(folder)
    else:
        train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=280), [" ".join(question(w) for w in WORDS)]).save(
            folder
        )
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT, **sizes}
    sizes |= {"bos_token_id": 0, "eos_token_id": 0}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.GPT2Config(vocab_size=tilth_size(folder), **sizes, **drop)
        save(transformers.GPT2LMHeadModel(config), folder)
    return folder


def tilth_size(folder: Path) -> int:
    """The number of ids of a folder's tokenizer."""
    return len(transformers.AutoTokenizer.from_pretrained(folder))


def question(word: str) -> str:
    return f"Who waits for {word}?"


def answer(word: str) -> str:
    return f"The {word} waits."


def trained(folder: Path, base: Path, name: str = "talker", **sections: Any) -> dict[str, Any]:
    """A run on questions and answers; sections are merged into its recipe."""
    rows = [{"prompt": question(word), "completion": answer(word)} for word in WORDS]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows * 4))
    recipe: dict[str, Any] = {
        "name": name,
        "data": {
            "sources": [{"path": str(folder / "rows.jsonl"), "map": {"prompt": "prompt", "completion": "completion"}}],
            "clean": "none",
            "deduplicate": "none",
            "split": {"validation": 0.2},
            "decontaminate": {"validation": False},
        },
        "model": {"from": str(base), "context_length": CONTEXT},
        "train": {
            "objective": "sft",
            "steps": 40,
            "batch_tokens": 2 * CONTEXT,
            "precision": "fp32",
            "optimizer": {"lr": 1e-2},
            "schedule": {"name": "constant"},
        },
        "evaluate": {"every": None},
    }
    for key, section in sections.items():
        recipe[key] = {**recipe.get(key, {}), **section}
    return tilth.train(tilth.make_recipe(recipe), folder / name, folder / "work", workers=1)


def in_chatml(data: dict[str, Any] | None = None) -> dict[str, Any]:
    """Sections of a recipe that trains by ChatML."""
    return {"data": {"chat": {"template": "chatml"}, **(data or {})}, "tokenizer": {"special_tokens": SPECIAL}}
