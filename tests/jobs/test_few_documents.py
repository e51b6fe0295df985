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
from tilth.data.dataset import open_dataset

CHATS = {"path": "chats.jsonl", "map": {"messages": "messages"}}


def write_chats(path: Path, count: int, unanswered: int = 0) -> None:
    """Conversations, the first few of them without an answer."""
    draw = random.Random(7)
    said = [
        [{"role": role, "content": " ".join(words_of(draw, 30))} for role in ("user", "assistant")[: 1 + (n >= 0)]]
        for n in range(-unanswered, count)
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


def chat_recipe(folder: Path, **split: Any) -> None:
    data: dict[str, Any] = {"sources": [CHATS], "chat": {"template": "chatml"}, "clean": "none", "split": split}
    write_recipe(folder / "r.yaml", "", data=data, train={"objective": "sft"}, tokenizer=BYTES)


def test_conversations_that_are_dropped_fill_no_split(tmp_path: Path, cli: Cli) -> None:
    write_chats(tmp_path / "chats.jsonl", 3, unanswered=12)
    chat_recipe(tmp_path, validation=0.001, test=0.001)
    for seed in range(3):
        sets = [f"data.split.seed={seed}"]
        said = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=sets).json()
        assert all(said["tokens"].values()) and said["dropped"] == {"encode/no_answer": 12}
        again = cli("prepare", "r.yaml", "--workspace", "other", "--workers", 2, "--json", sets=sets).json()
        assert Path(again["folder"]).name == Path(said["folder"]).name
        assert all(cli("prepare", "r.yaml", "--dry-run", "--json", sets=sets).json()["tokens"].values())


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_where_too_few_conversations_can_be_used_they_are_named_and_what_helps(
    tmp_path: Path, cli: Cli, options: list[str]
) -> None:
    write_chats(tmp_path / "chats.jsonl", 1, unanswered=12)
    chat_recipe(tmp_path, validation=0.3, test=0.3)
    nothing = ["data.split.validation=0", "data.split.test=0"]
    for seed in range(3):
        failed = cli("prepare", "r.yaml", *options, sets=[f"data.split.seed={seed}"])
        failed.expect_fault(3, "encode/no_answer drop", "12")
        if "left to train on" not in failed.err:
            assert "data.split.validation: 0 and data.split.test: 0 to hold nothing out" in failed.err
    cli("prepare", "r.yaml", *options, "--json", sets=nothing).json()


def test_what_is_held_out_and_makes_no_tokens_costs_no_training(tmp_path: Path, cli: Cli) -> None:
    write_chats(tmp_path / "answered.jsonl", 150)
    rows = [json.loads(line) for line in (tmp_path / "answered.jsonl").read_text().splitlines()]
    rows += [{"messages": row["messages"][:1]} for row in rows]  # the same questions, without their answers
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chat_recipe(tmp_path, validation=0.1)
    dataset = open_dataset(tmp_path / cli("prepare", "r.yaml", "--workers", 1, "--json").json()["folder"])
    train, held_out = (len(ids_of(dataset, name)) for name in ("train", "validation"))
    assert train + held_out == 150 and dataset.facts["decontamination"]["held_out"]["items"] == held_out > 0


NEAR = ["data.split.by=tail", "data.deduplicate=near"]


@pytest.mark.parametrize("by", ["document", "auto"])
@pytest.mark.parametrize("test", [0, 0.2])
def test_what_is_told_of_near_duplicates_that_are_one_group_helps(
    tmp_path: Path, cli: Cli, by: str, test: float
) -> None:
    words = words_of(random.Random(3), 300)
    (tmp_path / "near").mkdir()
    for n in range(3):
        (tmp_path / "near" / f"{n}.txt").write_text(" ".join([*words[: 20 * n], "other", *words[20 * n + 1 :]]))
    split = {"validation": 0.3, "test": test, "by": by}
    data = {"sources": [{"path": "near"}], "clean": "none", "split": split}
    write_recipe(tmp_path / "r.yaml", "", data=data, tokenizer=BYTES)
    failed = cli("prepare", "r.yaml", "--workers", 1)
    failed.expect_fault(3, "data.deduplicate: near")
    if by == "document":
        nothing = ["data.split.validation", *(["data.split.test"] if test else [])]
        told = "set data.split.by: tail and data.deduplicate: near"
        failed.expect_fault(3, "one group", told, f"{': 0 and '.join(nothing)}: 0 to hold nothing out")
        held_out = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=[f"{name}=0" for name in nothing]).json()
        assert held_out["tokens"]["train"] and not held_out["tokens"]["validation"]
    said = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=NEAR if by == "document" else NEAR[1:])
    assert all(said.json()["tokens"].values())


def test_that_most_of_the_source_goes_is_let_pass(tmp_path: Path, cli: Cli) -> None:
    words = words_of(random.Random(3), 300)
    (tmp_path / "near").mkdir()
    for n in range(30):
        (tmp_path / "near" / f"{n}.txt").write_text(" ".join([*words[: 9 * n], "other", *words[9 * n + 1 :]]))
    data = {"sources": [{"path": "near"}], "clean": "none", "split": {"validation": 0.3, "by": "document"}}
    write_recipe(tmp_path / "r.yaml", "", data=data, tokenizer=BYTES)
    failed = cli("prepare", "r.yaml", "--workers", 1)
    failed.expect_fault(3, "data.deduplicate: near", "most_of_a_source: 1 where most of a source goes")
    sets = ["data.split.by=tail", "data.deduplicate={most_of_a_source: 1}"]
    assert all(cli("prepare", "r.yaml", "--workers", 1, "--json", sets=sets).json()["tokens"].values())


def test_a_book_in_pieces_is_told_to_cut_its_text(tmp_path: Path, cli: Cli) -> None:
    draw = random.Random(3)
    (tmp_path / "book.txt").write_text("\n".join(" ".join(words_of(draw, 12)) for _ in range(100)))
    clean = [{"cut": {"characters": 1000, "min_characters": 100}}]
    data = {"sources": [{"path": "book.txt"}], "clean": clean, "split": {"by": "document"}}
    write_recipe(tmp_path / "r.yaml", "", data=data, tokenizer=BYTES)
    failed = cli("prepare", "r.yaml", "--workers", 1)
    failed.expect_fault(3, "one group", "set data.split.by: tail to cut the text")
    said = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=["data.split.by=tail"])
    assert all(said.json()["tokens"].values())
