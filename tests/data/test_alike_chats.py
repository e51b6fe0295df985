"""Conversations are compared by all that a chat template writes of them, their tools and names included."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq

from tilth.data.document import Document, Rows
from tilth.data.duplicates.dedup import digest
from tilth.data.duplicates.minhash import MinHash, MinHashConfig
from tilth.data.sources.messages import rendered
from tilth.data.tasks.cleaning import DIGESTS, SIGNATURES, digests, signatures
from tilth.data.tasks.parts import Part

SAID = [
    {"role": "user", "content": "what is the weather in a town by the sea today"},
    {"role": "assistant", "content": "rain"},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "of a town"}}]
NO_PART = cast(Part, None)


def chat(number: int, messages: list[dict[str, Any]], **more: Any) -> Document:
    return Document(f"{number:032x}", rendered(messages), "s", f"x:{number}", meta={"messages": messages, **more})


def named(name: str) -> list[dict[str, Any]]:
    return [{**SAID[0], "name": name}, SAID[1]]


CHATS = [
    chat(0, SAID),
    chat(1, SAID, tools=TOOLS),
    chat(2, SAID, tools=[*TOOLS, *TOOLS]),
    chat(3, named("Ann")),
    chat(4, named("Bob")),
    chat(5, [SAID[0], {**SAID[1], "tool_call_id": "1"}]),
]
COPIES = [chat(10 + n, one.meta["messages"], tools=one.meta.get("tools")) for n, one in enumerate(CHATS)]
PLAIN = Document("f" * 32, CHATS[0].text, "s", "y:1", meta={"tools": "of no conversation", "name": "Ann"})


def run(link: Any) -> None:
    for _ in link:
        pass


def test_exact_copies_have_the_same_tools_and_names(tmp_path: Path) -> None:
    run(digests(tmp_path, iter([Rows.of([*CHATS, *COPIES, PLAIN])]), NO_PART))
    found = pq.read_table(tmp_path / DIGESTS)["digest"].to_pylist()
    assert len({*found}) == len(CHATS) and found[: len(CHATS)] == found[len(CHATS) : -1]
    assert found[0] == found[-1] == digest(CHATS[0].text.encode())


def test_near_copies_have_the_same_tools_and_names(tmp_path: Path) -> None:
    config = MinHashConfig()
    run(signatures(tmp_path, iter([Rows.of([*CHATS, *COPIES, PLAIN])]), NO_PART, config))
    bands = np.fromfile(tmp_path / SIGNATURES, np.uint64).reshape(config.keys, -1)
    assert all(len({*row.tolist()}) == len(CHATS) for row in bands)
    assert (bands[:, : len(CHATS)] == bands[:, len(CHATS) : -1]).all()
    assert (bands[:, [0, -1]] == MinHash(config).bands([CHATS[0].text]).T).all()
    run(
        signatures(
            tmp_path, iter([Rows.of([chat(0, [{"role": "user", "content": ""}], tools=TOOLS)])]), NO_PART, config
        )
    )
    assert not np.fromfile(tmp_path / SIGNATURES, np.uint64).any(), "a text without a word is like no other"
