"""What who begins with conversations is told, and what is right without being said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, write_recipe
from tilth.core.errors import RecipeError
from tilth.jobs.chats import added_tokens, tokenizer_of
from tilth.jobs.recipe import Recipe, load_recipe, make_recipe
from tilth.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow
SETS = [*SMALL, "train.steps=1", "tokenizer={kind: byte}", "model.context_length=128", "train.batch_tokens=128"]
CHATML = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty conversations of two turns each, and a recipe that says nothing of templates."""
    turns = [("user", "hi {}"), ("assistant", "yes {}"), ("user", "and {}?"), ("assistant", "no {}")]
    rows = [{"messages": [{"role": r, "content": t.format(n)} for r, t in turns]} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": "rows.jsonl", "map": {"messages": "messages"}}
    split = {"validation": 0.3, "by": "document"}
    write_recipe(tmp_path / "r.yaml", "", data={"sources": [source], "split": split}, train={"objective": "sft"})
    return tmp_path


def recipe(**sections: Any) -> Recipe:
    data = {"sources": [{"path": "a.jsonl"}], **sections.pop("data", {})}
    return make_recipe({"name": "x", "data": data, "train": {"steps": 1, "objective": "sft"}, **sections})


def test_without_a_template_its_lines_are_named_before_a_row_is_cleaned(folder: Path, cli: Cli) -> None:
    said = cli("train", "r.yaml", sets=SETS)
    said.expect_fault(3, "encode/needs_template dropped 20", "set data.chat: {template: chatml}")
    assert not list((folder / "work" / "tasks").glob("clean*"))


def test_a_learned_tokenizer_has_what_the_template_writes(folder: Path, cli: Cli) -> None:
    sets = [*SETS, "data.chat={template: chatml}"]
    said = cli("train", "r.yaml", sets=sets)
    assert said.code == 0, said.err
    assert "the tokenizer has <|im_start|>, <|im_end|> besides: data.chat.template chatml writes them" in said.err
    assert [*load_tokenizer(folder / "runs" / "small" / "final").special_tokens][1:] == CHATML
    assert load_recipe(folder / "runs" / "small" / "recipe.json").tokenizer.special_tokens == [], "as it was written"
    named = [*sets, "tokenizer={kind: byte, special_tokens: ['<|im_start|>', '<|im_end|>']}"]
    again = cli("prepare", "r.yaml", sets=named)
    assert again.code == 0 and "besides" not in again.err
    assert "going on after step 1" in cli("train", "r.yaml", sets=[*sets, "train.steps=2"]).err
    zephyr = ["model={from: runs/small, context_length: 128}", "tokenizer={}", "adapter.rank=2", "name=tuned"]
    zephyr.append("data.chat.template=zephyr")
    lines = "['<|system|>', '<|user|>', '<|assistant|>'], and adapter.modules_to_save: [embed_tokens]"
    cli("train", "r.yaml", sets=[*sets, *zephyr]).expect_fault(2, f"tokenizer.special_tokens: {lines}")


def test_tokens_are_added_to_what_is_learned_alone() -> None:
    chat = {"chat": {"template": "chatml"}}
    assert added_tokens(recipe(data=chat)) == CHATML and tokenizer_of(recipe(data=chat)).special_tokens == CHATML
    some = recipe(data=chat, tokenizer={"special_tokens": ["<|im_end|>", "<|x|>"]})
    assert tokenizer_of(some).special_tokens == ["<|im_end|>", "<|x|>", "<|im_start|>"]
    assert added_tokens(recipe(data=chat, model={"from": "org/name"})) == []
    assert added_tokens(recipe(data={"chat": {"template": "{{ messages }}"}})) == [] == added_tokens(recipe())
    with pytest.raises(RecipeError, match="vocab_size"):
        tokenizer_of(recipe(data=chat, tokenizer={"vocab_size": 257}))
