"""Conversations as ChatGPT exports them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_input

MAP = {"messages": "mapping"}


def said(role: str, *parts: Any, kind: str = "text", **more: Any) -> dict[str, Any]:
    return {"author": {"role": role, "name": None}, "content": {"content_type": kind, "parts": [*parts]}, **more}


def exported(*messages: dict[str, Any] | None, current: str | None = None) -> dict[str, Any]:
    """A conversation of messages, each below the one before; its first node says nothing."""
    names = [f"id{n}" for n in range(len(messages) + 1)]
    mapping = {
        name: {"id": name, "message": message, "parent": parent, "children": [child] if child else []}
        for name, message, parent, child in zip(
            names, [None, *messages], [None, *names], [*names[1:], None], strict=False
        )
    }
    return {"title": "A title", "create_time": 1.5, "mapping": mapping, "current_node": current or names[-1], "id": "x"}


def read(folder: Path, rows: Any, name: str = "conversations.json", **data: Any) -> list[Outcome]:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(json.dumps(rows) if name.endswith("json") else lines)
    config = parse(SourceConfig, {"path": name, **data})
    return [o for item in list_inputs(config, folder, folder) for o in read_input(item, config)]


def spoken(outcome: Outcome) -> list[tuple[str, str]]:
    assert outcome.document is not None, outcome
    return [(message["role"], message["content"]) for message in outcome.document.meta["messages"]]


HIDDEN = {"metadata": {"is_visually_hidden_from_conversation": True}}


@pytest.mark.parametrize("name", ["conversations.json", "conversations.jsonl"])
def test_the_branch_that_was_shown_last_is_the_conversation(tmp_path: Path, name: str) -> None:
    row = exported(
        said("system", ""),
        {
            **said("user", kind="user_editable_context"),
            "content": {"content_type": "x", "user_profile": "me"},
            **HIDDEN,
        },
        said("user", "Why?"),
        said("assistant", "So.", recipient="all", metadata={}),
        said("user", "And ", "then?"),
        said("assistant", "The end."),
        said("tool"),
    )
    row["mapping"]["other"] = {"id": "other", "message": said("assistant", "No."), "parent": "id3", "children": []}
    again = {**row, "current_node": "other"}
    whole, other = read(tmp_path, [row, again], name, map=MAP)
    turns = [("user", "Why?"), ("assistant", "So."), ("user", "And \nthen?"), ("assistant", "The end.")]
    assert spoken(whole) == turns
    assert spoken(other) == [("user", "Why?"), ("assistant", "No.")]
    assert whole.document is not None and whole.document.text.startswith("user: Why?\n\nassistant: So.")


def test_thoughts_of_a_reasoning_model_are_no_part_of_it(tmp_path: Path) -> None:
    thought = {"content_type": "thoughts", "thoughts": [{"summary": "Counting", "content": "1, 2"}]}
    recap = {"content_type": "reasoning_recap", "content": "Thought for 12 seconds"}
    between = ({**said("assistant"), "content": content} for content in (thought, recap))
    (row,) = read(tmp_path, [exported(said("user", "Why?"), *between, said("assistant", "So."))], map=MAP)
    assert spoken(row) == [("user", "Why?"), ("assistant", "So.")] and not row.verdicts


IMAGE = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
CODE = {**said("assistant"), "content": {"content_type": "code", "language": "python", "text": "1 + 1"}}

THOUGHT = {**said("assistant"), "content": {"content_type": "thoughts", "thoughts": [{"summary": "Hm"}]}}


@pytest.mark.parametrize(
    ("row", "rule", "detail"),
    [
        (exported(said("user", IMAGE, "What?", kind="multimodal_text")), "beyond_text", "message 1 holds image_asset"),
        (exported(said("user", "1 + 1?"), CODE), "beyond_text", "message 2 holds code, which is no text"),
        (exported(said("assistant", "it", recipient="bio")), "beyond_text", "message 1 is a call of 'bio'"),
        (exported(said("user", "Why?"), THOUGHT, said("assistant", "")), "beyond_text", "it ends in thoughts"),
        (exported(said("critic", "No.")), "unknown_role", "message 1 is by 'critic'"),
        (exported({"author": {"role": "user"}}), "not_text", "message 1 holds NoneType"),
        (exported(said("user", "Why?"), current="gone"), "not_messages", "no way leads from its first message to"),
        ({**exported(said("user", "Why?")), "current_node": None}, "not_messages", "current_node None"),
        (
            {**exported(), "mapping": {"a": {"message": None, "parent": "a"}}, "current_node": "a"},
            "not_messages",
            "way",
        ),
        (exported(said("system", "")), "empty", "no text"),
    ],
)
def test_what_is_no_conversation_of_texts_is_a_bad_row(
    tmp_path: Path, row: dict[str, Any], rule: str, detail: str
) -> None:
    good, bad = read(tmp_path, [exported(said("user", "Why?"), said("assistant", "So.")), row], map=MAP)
    assert spoken(good) == [("user", "Why?"), ("assistant", "So.")] and bad.document is None
    assert [verdict.rule for verdict in bad.verdicts] == [rule]
    assert "conversations.json#row=2: " in bad.verdicts[0].detail and detail in bad.verdicts[0].detail


def test_images_are_no_sign_of_a_wrong_recipe(tmp_path: Path) -> None:
    good, image = exported(said("user", "Why?"), said("assistant", "So.")), exported(said("user", IMAGE))
    found = read(tmp_path, [*[good] * 116, *[image] * 24], map=MAP)
    assert sum(one.document is not None for one in found) == 116
    part = {"type": "image_url", "image_url": {"url": "x"}}
    parts = [{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}]
    text = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    found = read(tmp_path, [{"m": text}] * 9 + [{"m": parts}] * 9, "a.jsonl", map={"messages": "m"})
    assert [verdict.rule for one in found for verdict in one.verdicts] == ["beyond_text"] * 9
    assert "message 1 holds 'image_url'" in found[-1].verdicts[0].detail
    with pytest.raises(DataError, match="message 1 holds list"):
        read(tmp_path, [{"m": [{"role": "user", "content": [1]}]}] * 9, "a.jsonl", map={"messages": "m"})


def test_the_last_node_is_looked_for_beside_the_tree(tmp_path: Path) -> None:
    row = {"conversation": exported(said("user", "Why?"), said("assistant", "So."))}
    (found,) = read(tmp_path, [row], map={"messages": "conversation.mapping"})
    assert spoken(found) == [("user", "Why?"), ("assistant", "So.")]


def test_the_export_of_claude(tmp_path: Path) -> None:
    says = [{"sender": "human", "text": "Why?", "content": []}, {"sender": "assistant", "text": "So.", "files": []}]
    (found,) = read(tmp_path, [{"name": "t", "chat_messages": says}], map={"messages": "chat_messages"})
    assert spoken(found) == [("user", "Why?"), ("assistant", "So.")]
    with pytest.raises(DataError) as caught:
        read(tmp_path, [{"name": "t", "chat_messages": says}] * 3)
    assert "map: {messages: chat_messages}" in caught.value.remedy


def test_titles_are_not_offered_as_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no 'text'") as caught:
        read(tmp_path, [exported(said("user", "Why?"))] * 30)
    wanted = "these are conversations that ChatGPT exported: write `map: {messages: mapping}`"
    assert caught.value.remedy.startswith(wanted) and "title" not in caught.value.remedy
