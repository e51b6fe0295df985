"""Pairs out of a model's answers: whole, in a fence with words around it, and before the limit of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.chat_server import ChatServer
from tests.data.test_sources_synthetic import listed, read, said, server, texts
from tilth.data.document import documents_table
from tilth.data.sources.files import read_rows
from tilth.data.sources.unusable import Unusable

__all__ = ["server"]  # the fixture
pytestmark = pytest.mark.slow


def pair(question: Any, answer: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer}


@pytest.mark.parametrize(
    ("content", "pairs", "rules"),
    [
        (json.dumps([pair("a?", "b"), pair("c?", "d")]), 2, []),
        ("```json\n" + json.dumps([pair("a?", "b")]) + "\n```", 1, []),
        (json.dumps({"pairs": [pair("a?", "b")]}), 1, []),
        (json.dumps(pair("a?", "b")), 1, []),
        (json.dumps([pair("a?", "b"), pair("", "b"), pair("a", 3), "x"]), 1, ["bad_pair"] * 3),
        (json.dumps([pair("a\ud800?", "b\0")]), 1, ["surrogate"]),
        ("\n".join(json.dumps(pair(f"{n}?", "b")) for n in range(3)), 3, []),
        ("".join(f"```json\n{json.dumps([pair(f'{n}?', 'b')])}\n```\nAnd:\n" for n in range(2)), 2, []),
        ("[1] Here they are:\n```json\n" + json.dumps([pair("a?", "b")]) + "\n```", 1, []),
        ("Sure! Here are the pairs:", 0, ["not_pairs"]),
        ("Sure!\n```json\n" + json.dumps([pair("a?", "```b```"), pair("c?", "d")]) + "\n```\nHave fun", 2, []),
        ("```python\n[x for x in y]\n```\n```\n" + json.dumps({"pairs": [pair("a?", "b")]}), 1, []),
        ("```" * 1000 + '```json ["', 0, ["not_pairs"]),
        ('[{"question": "a?", "answer": "b"}, {"question": "c?', 0, ["not_pairs"]),
        ("[" * 100_000, 0, ["not_pairs"]),
        ("[]", 0, ["not_pairs"]),
        ("7", 0, ["not_pairs"]),
        (" \n", 0, ["empty"]),
    ],
)
def test_pairs(server: ChatServer, tmp_path: Path, content: str, pairs: int, rules: list[str]) -> None:
    server.write = lambda body: content
    outcomes = read(server, tmp_path, make="pairs", requests=1)
    documents = [o.document for o in outcomes if o.document]
    assert [rule for rule, _ in said(outcomes)] == rules and len(documents) == pairs
    assert "JSON array" in server.seen[0].asked
    for document in documents:
        first, second = document.meta["messages"]
        assert (first["role"], second["role"]) == ("user", "assistant")
        assert document.text == f"user: {first['content']}\n\nassistant: {second['content']}"
        assert document.group == documents[0].group and document.meta["provenance"]["request"] == 1
    assert documents_table(documents).num_rows == pairs


@pytest.mark.parametrize(
    "before", ["<think>\nFirst [1], so.\n</think>\n\n", "\n<think></think>", "So I think.\n</think>"]
)
@pytest.mark.parametrize("make", ["pairs", "documents"])
def test_what_was_thought_first_is_taken_out(server: ChatServer, tmp_path: Path, before: str, make: str) -> None:
    answer = json.dumps([pair("a?", "b <think>c</think>")])
    server.write = lambda body: before + answer
    outcomes = read(server, tmp_path, make=make, requests=1)
    shown = {"pairs": "user: a?\n\nassistant: b <think>c</think>", "documents": answer}
    assert texts(outcomes) == [shown[make]] and said(outcomes) == [("thinking", "changed")]
    assert outcomes[0].verdicts[0].value == str(len(before))


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ("A text on </think> tags: the model writes </think> when done.", None),
        ("It ends by `</think>`\n\nThen comes the answer.", None),
        ("What it writes:\n```\n</think>\n```\nand more.", None),
        ("First this. </think>\n \nAn answer.", "An answer."),
        ("They ask for </think> tags.\n</think>\nAn answer on </think> tags.", "An answer on </think> tags."),
        ("<think>a<think>b</think>c</think>A", "A"),
        ("<think>They ask what <think> is.</think>A", "A"),
        ("<think>a</think>A </think>\n\nB", "A </think>\n\nB"),
    ],
)
def test_a_word_on_tags_of_thoughts_is_no_thought(
    server: ChatServer, tmp_path: Path, content: str, left: str | None
) -> None:
    server.write = lambda body: content
    outcomes = read(server, tmp_path, make="documents", requests=1)
    assert texts(outcomes) == [left or content] and said(outcomes) == ([("thinking", "changed")] if left else [])


def test_a_question_on_a_tag_of_thoughts_is_whole(server: ChatServer, tmp_path: Path) -> None:
    server.write = lambda body: json.dumps([pair("What does </think> mean?", "b")])
    assert texts(read(server, tmp_path, make="pairs", requests=1)) == ["user: What does </think> mean?\n\nassistant: b"]


@pytest.mark.parametrize("make", ["pairs", "documents"])
def test_an_answer_that_only_thinks_is_empty(server: ChatServer, tmp_path: Path, make: str) -> None:
    server.finish, server.write = "length", lambda body: "<think>\nFirst, I"
    outcomes = read(server, tmp_path, make=make, requests=1)
    assert texts(outcomes) == [] and outcomes[0].verdicts[-1].rule == "empty"
    assert said(outcomes)[0] == ("thinking", "changed")


@pytest.mark.parametrize(("bad", "told"), [(0, False), (1, False), (2, True)])
def test_answers_that_give_nothing_are_told_from_a_tenth_on(
    server: ChatServer, tmp_path: Path, bad: int, told: bool
) -> None:
    left = iter(range(10))
    server.write = lambda body: "Sorry." if next(left) < bad else json.dumps([pair("a?", "b"), "x"])
    listing, config = listed(server, tmp_path, make="pairs", requests=10, concurrency=1)
    unusable = Unusable()
    for item in listing:
        list(read_rows(item, config, unusable=unusable))
    first = "".join(unusable.plain()["first"])
    assert ("2 of 10 answers cannot be used" in first) == told and ("(and 1 more)" in first) == told


def test_pairs_before_a_cut_in_a_fence_behind_brackets_are_kept(server: ChatServer, tmp_path: Path) -> None:
    server.finish = "length"
    server.write = lambda body: "[see below]\n```json\n" + json.dumps([pair("a?", "b")])[:-1] + ', {"que'
    outcomes = read(server, tmp_path, make="pairs", requests=1)
    assert texts(outcomes) == ["user: a?\n\nassistant: b"] and said(outcomes) == [("cut_off", "dropped")]


@pytest.mark.parametrize("before", ["", "Sure!\n```json\n", '{"pairs": ', "```"])
@pytest.mark.parametrize(("kept", "whole"), [(1.0, 3), (0.95, 2), (0.5, 1), (0.2, 0)])
def test_pairs_before_a_cut_are_kept(server: ChatServer, tmp_path: Path, before: str, kept: float, whole: int) -> None:
    content = json.dumps([pair(f"{n}?", "so, [it] is") for n in range(3)], indent=1)
    server.finish, server.write = "length", lambda body: before + content[: int(kept * len(content))]
    outcomes = read(server, tmp_path, make="pairs", requests=1)
    assert texts(outcomes) == [f"user: {n}?\n\nassistant: so, [it] is" for n in range(whole)]
    closed = kept == 1 and not before.startswith("{")
    assert said(outcomes) == ([] if closed else [("cut_off", "dropped")])
    if not closed:
        verdict = outcomes[-1].verdicts[0]
        assert verdict.value == str(whole) and f"#request=1,pair={whole + 1}: the answer ends here" in verdict.detail
