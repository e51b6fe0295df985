"""From a checkpoint to another: whole, by an adapter, on conversations, and with tokens hidden; through the jobs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml

import tilth
from tilth.core.errors import CheckpointError, RecipeError
from tilth.core.files import hash_file
from tilth.jobs.base import find_base
from tilth.jobs.chats import template_of
from tilth.tokenizer import TokenizerConfig, train_tokenizer
from tilth.tokenizer.templates import BUILT_IN

pytestmark = pytest.mark.slow

WORDS = ["soil", "seed", "rain", "root", "leaf", "sun", "wind", "frost"]
PLAIN = "\n\n".join(f"The {a} waits for the {b}, and the {b} for the {a}." for a in WORDS for b in WORDS)
TRAIN = {
    "steps": 6,
    "batch_tokens": 256,
    "precision": "fp32",
    "optimizer": {"lr": 1e-2},
    "schedule": {"name": "constant"},
}
SPECIAL = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a random GPT-2 and a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}
        config = transformers.GPT2Config(vocab_size=300, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **sizes)
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=300), [PLAIN]).save(folder)
    return folder


def trained(tmp_path: Path, base: Path | None, name: str = "run", **sections: Any) -> dict[str, Any]:
    (tmp_path / "plain.txt").write_text(PLAIN)
    rows = [{"prompt": f"What waits for {a}?", "completion": f"The {b}."} for a in WORDS for b in WORDS]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    recipe = {
        "name": name,
        "data": {"sources": [{"path": str(tmp_path / "plain.txt")}], **sections.pop("data", {})},
        "model": {"from": str(base), "context_length": 64, **sections.pop("model", {})}
        if base
        else sections.pop("model"),
        "train": {**TRAIN, **sections.pop("train", {})},
        "evaluate": {"every": 3},
        **sections,
    }
    return tilth.train(tilth.make_recipe(recipe), tmp_path / name, tmp_path / "work", workers=1)


def conversations(tmp_path: Path, **more: Any) -> dict[str, Any]:
    source = {"path": str(tmp_path / "rows.jsonl"), "map": {"prompt": "prompt", "completion": "completion"}}
    return {
        "sources": [source],
        "clean": "none",
        "split": {"validation": 0.2},
        "decontaminate": {"validation": False},
        **more,
    }


def test_a_checkpoint_is_trained_further_whole(tmp_path: Path, base: Path) -> None:
    before = tilth.load(base)
    result = trained(tmp_path, base)
    after = tilth.load(result["run"])
    assert result["validation_loss"] < 5.3 < np.log(before.config.vocabulary)
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert np.abs(after.logits([1, 2, 3]) - before.logits([1, 2, 3])).max() > 0.1
    assert after.config.context_length == 64


def test_an_adapter_is_trained_on_the_answers_of_conversations(tmp_path: Path, base: Path) -> None:
    whole = hash_file(base / "model.safetensors")
    chat = {"data": conversations(tmp_path, chat={"template": "chatml"}), "tokenizer": {"special_tokens": SPECIAL}}
    result = trained(
        tmp_path, base, adapter={"rank": 4, "modules_to_save": ["embed_tokens"]}, **chat, train={"objective": "sft"}
    )
    final = Path(result["run"]) / "final"
    assert {"adapter_config.json", "adapter_model.safetensors", "base.json"} <= {path.name for path in final.iterdir()}
    assert not (final / "model.safetensors").exists() and hash_file(base / "model.safetensors") == whole
    model, latest = tilth.load(result["run"]), tilth.load(result["run"], "latest")
    ids = model.tokenizer.encode("What waits for rain?")
    same = np.abs(model.logits(ids) - latest.logits(ids)).max()
    assert same < 1e-5, "the final model and the last checkpoint are one"
    assert model.config.vocab_size == model.tokenizer.vocab_size == tilth.load(base).tokenizer.vocab_size + 2
    beside = tilth.load(base, adapter=result["run"])
    assert (beside.logits(ids) == model.logits(ids)).all() and beside.chat == model.chat, "with rows for its new tokens"
    longer = trained(
        tmp_path,
        base,
        adapter={"rank": 4, "modules_to_save": ["embed_tokens"]},
        **chat,
        train={"objective": "sft", "steps": 9},
    )
    assert longer["step"] == 9 and longer["train_loss"] < result["train_loss"]
    other = {**json.loads((final / "base.json").read_text()), "fingerprint": "0" * 64}
    (final / "base.json").write_text(json.dumps(other))
    (final / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="other base weights"):
        tilth.load(final)


def test_prompts_and_completions_need_no_template(tmp_path: Path, base: Path) -> None:
    result = trained(tmp_path, base, data=conversations(tmp_path), train={"objective": "sft"})
    dataset = tilth.prepare(_recipe(result), tmp_path / "work", workers=1)
    stream = dataset.stream("train")
    places = np.arange(stream.tokens)
    text = dataset.tokenizer.decode(stream.take(places)[stream.trained(places)])
    assert "The " in text and "What" not in text, "answers are trained, questions are not"
    assert text.count("<|endoftext|>") == stream.documents


def _recipe(result: dict[str, Any]) -> tilth.Recipe:
    return tilth.make_recipe(json.loads((Path(result["run"]) / "recipe.json").read_text()))


def test_hidden_tokens_are_guessed_from_both_sides(tmp_path: Path) -> None:
    model = {
        "preset": "bert-mini",
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "context_length": 64,
    }
    tokenizer = {"kind": "bpe", "vocab_size": 300, "special_tokens": ["<|mask|>"]}
    result = trained(tmp_path, None, model=model, tokenizer=tokenizer, train={"objective": "masked_lm", "steps": 30})
    assert result["validation_loss"] < 5.0
    loaded = tilth.load(result["run"])
    scores = loaded.logits([5, 6, 7])
    assert np.abs(scores - loaded.logits([5, 6, 8])).max(axis=1)[0] > 0, "what stands behind counts too"
    with pytest.raises(RecipeError, match="writes no text"):
        loaded.generate("The")


@pytest.mark.parametrize(
    ("sections", "message", "remedy"),
    [
        ({"model": {"context_length": 128}, "train": {"batch_tokens": 256}}, "made for 64 tokens", "64 at most"),
        ({"train": {"objective": "masked_lm"}}, "sees only what stands before", "causal_lm or sft"),
        ({"adapter": {"targets": ["no_proj"]}}, "no_proj", "q_proj"),
        ({"train": {"freeze": ["nothing"]}}, "'nothing' names no module", "layers"),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_told(
    tmp_path: Path, base: Path, sections: dict[str, Any], message: str, remedy: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        trained(tmp_path, base, **sections)
    assert message in caught.value.message and remedy in caught.value.remedy


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_template_needs_its_tokens_and_its_remedy_is_one(tmp_path: Path, base: Path, name: str) -> None:
    data = conversations(tmp_path, chat={"template": name})
    with pytest.raises(RecipeError, match=f"{name} writes {re.escape(BUILT_IN[name][0])}") as caught:
        trained(tmp_path, base, data=data, train={"objective": "sft"})
    remedy = yaml.safe_load(caught.value.remedy.removeprefix("set tokenizer."))
    values = {"name": "a", "data": data, "tokenizer": remedy, "model": {"from": str(base), "context_length": 64}}
    recipe = tilth.make_recipe({**values, "train": {"objective": "sft", "steps": 1}})
    template = template_of(recipe, find_base(recipe))
    assert template is not None and template.name == name


def test_a_base_that_no_class_of_hugging_face_computes_takes_an_adapter_too(tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "context_length": 64}
    model = {"preset": "llama-tiny", "activation": "relu2", "num_key_value_heads": 2, **shape}
    first = trained(tmp_path, None, "first", model=model, tokenizer={"kind": "byte"}, train={"steps": 2})
    result = trained(tmp_path, Path(first["run"]), "second", adapter={"rank": 2})
    final, latest = tilth.load(result["run"]), tilth.load(result["run"], "latest")
    assert (final.logits([5, 6, 7]) == latest.logits([5, 6, 7])).all()
    assert np.abs(final.logits([5, 6, 7]) - tilth.load(first["run"]).logits([5, 6, 7])).max() > 0
