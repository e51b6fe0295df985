"""Splits of so few documents that the hash may draw none for one of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.data.planted import words_of
from tests.jobs.conftest import Cli
from tests.jobs.helpers import write_recipe
from tests.jobs.test_forecast import BYTES
from tests.jobs.test_pipeline import ids_of, prepared

CHATS = {"path": "chats.jsonl", "map": {"messages": "messages"}}


def write_chats(path: Path, count: int) -> None:
    draw = random.Random(7)
    said = [
        [{"role": role, "content": " ".join(words_of(draw, 30))} for role in ("user", "assistant")]
        for _ in range(count)
    ]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in said))


def test_of_few_documents_each_split_gets_one_whatever_their_order(tmp_path: Path) -> None:
    held_out = []
    for order in (1, -1):
        folder = tmp_path / str(order)
        for name, count in (("chats.jsonl", 20), ("more.jsonl", 2)):
            folder.mkdir(exist_ok=True)
            write_chats(folder / name, count)
        sources = [CHATS, {**CHATS, "path": "more.jsonl"}][::order]
        split = {"validation": 0.001, "test": 0.001, "by": "document"}  # chances are that both are empty
        dataset = prepared(folder, {"sources": sources, "split": split, "deduplicate": "none", "clean": "none"})
        held_out.append([ids_of(dataset, name) for name in ("validation", "test")])
        # The two of `more` are as two of the others are: these are groups of two, and the smallest are taken.
        assert [len(ids) for ids in held_out[-1]] == [1, 1]
        assert dataset.facts["splits"]["train"]["documents"] == 20
    assert held_out[0] == held_out[1]


def test_training_gets_one_too(tmp_path: Path) -> None:
    for seed in range(3):
        write_chats(tmp_path / "chats.jsonl", 2)
        split = {"validation": 0.99, "by": "document", "seed": seed}
        dataset = prepared(tmp_path, {"sources": [CHATS], "split": split, "clean": "none"})
        assert [len(ids_of(dataset, name)) for name in ("train", "validation")] == [1, 1]


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_one_conversation_is_not_cut_to_have_some_held_out(tmp_path: Path, cli: Cli, options: list[str]) -> None:
    write_chats(tmp_path / "chats.jsonl", 1)
    data: dict[str, Any] = {"sources": [CHATS], "chat": {"template": "chatml"}}
    write_recipe(tmp_path / "r.yaml", "", data=data, train={"objective": "sft"}, tokenizer=BYTES)
    failed = cli("prepare", "r.yaml", *options)
    failed.expect_fault(3, "1 training and 0 validation documents", "data.split.validation: 0")
    assert "by: tail" not in failed.err
