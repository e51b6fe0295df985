"""Conversations to shards with marks: through the whole preparation, by a stand-in for a chat template."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.jobs.encoders import ConversationEncoder
from tilth.core.chosen_executor import open_executor
from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.batches.batch import IGNORE
from tilth.data.batches.packed import packed_pass
from tilth.data.batches.packing import PackingConfig, pack
from tilth.data.chats import ChatDocuments
from tilth.data.config import DataConfig
from tilth.data.dataset import Dataset, verify_dataset
from tilth.data.plans.pipeline import Workshop, prepare
from tilth.jobs.trace import trace_document
from tilth.tokenizer import Tokenizer, TokenizerConfig
from tilth.tokenizer.chat_config import ChatConfig
from tilth.tokenizer.templates import ChatTemplate

SPLIT = {"validation": 0.3, "by": "document"}


def turns(tokenizer: Tokenizer, messages: Sequence[dict[str, str]], end: bool) -> tuple[list[int], list[bool]]:
    """Each message, end-of-text after it; what the assistant says is trained."""
    if "refuse" in messages[0]["content"]:
        raise DataError("the template does not take this", "leave it out")
    ids, marks = list[int](), list[bool]()
    for message in messages:
        own = [*tokenizer.encode(message["content"]), *([tokenizer.end_of_text] if end else [])]
        ids += own
        marks += [message["role"] == "assistant"] * len(own)
    return ids, marks


def write_chats(folder: Path) -> None:
    chats = [
        [{"role": "user", "content": f"question {n} {'?' * (n % 7)}"}, {"role": "assistant", "content": f"answer {n}"}]
        for n in range(60)
    ]
    chats[3][0]["content"] = "please refuse this one"
    chats[7] = chats[7][:1]
    (folder / "chats.jsonl").write_text("\n".join(json.dumps({"messages": chat}) for chat in chats))
    (folder / "plain.txt").write_text("A text that is no conversation, and is trained as a whole.")


def prepared(
    base: Path, workers: int = 1, clean: Any = "none", encoder: Any = None, workspace: str = "work"
) -> Dataset:
    sources = [{"path": "chats.jsonl", "map": {"messages": "messages"}}, {"path": "plain.txt"}]
    config = parse(
        DataConfig, {"sources": sources, "clean": clean, "split": SPLIT, "decontaminate": {"validation": False}}
    )
    with open_executor("processes" if workers > 1 else "inline", workers) as executor:
        shop = Workshop(base / workspace, executor)
        encoder = encoder or ConversationEncoder(functools.partial(turns, end=True), {"turns": 1, "end": True})
        return prepare(config, parse(TokenizerConfig, {"kind": "byte"}), "chats", base, shop, encoder=encoder)


def documents_of(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    folder = dataset.folder / "documents" / split
    return [row for file in sorted(folder.iterdir()) for row in pq.read_table(file).to_pylist()]


def test_shards_hold_the_marks_of_each_conversation(tmp_path: Path) -> None:
    write_chats(tmp_path)
    dataset = prepared(tmp_path)
    tokenizer, seen = dataset.tokenizer, 0
    for split in ("train", "validation"):
        stream = dataset.stream(split)
        borders = [*stream.document_starts().tolist(), stream.tokens]
        documents = documents_of(dataset, split)
        assert len(documents) == stream.documents
        for number, document in enumerate(documents):
            assert stream.doc_id(number) == document["doc_id"]
            places = np.arange(borders[number], borders[number + 1])
            messages = json.loads(document["meta"]).get("messages")
            if messages is None:
                assert stream.trained(places).all() and stream.take(places)[-1] == tokenizer.end_of_text
                continue
            ids, marks = turns(tokenizer, messages, end=True)
            assert stream.take(places).tolist() == ids and stream.trained(places).tolist() == marks
            seen += 1
        packing = pack(stream, 64, PackingConfig())
        labels = np.concatenate([batch.labels.ravel() for batch in packed_pass(packing, 8)])
        first = stream.trained(stream.document_starts()).sum()
        assert (labels != IGNORE).sum() == stream.trained(np.arange(stream.tokens)).sum() - first
    assert seen == 58


@pytest.mark.slow
def test_what_cannot_be_encoded_is_counted_and_told(tmp_path: Path) -> None:
    write_chats(tmp_path)
    dataset = prepared(tmp_path)
    assert dataset.facts["rules"]["dropped"] == {"encode/not_encoded": 1, "encode/nothing_trained": 1}
    assert dataset.facts["documents"] == 59
    assert dataset.facts["flow"][-1] | {"text_bytes": 0} == {
        "stage": "encode",
        "name": "encode",
        "documents": 59,
        "text_bytes": 0,
    }
    assert set(dataset.facts["dropped_bytes"]) == {"encode/not_encoded", "encode/nothing_trained"}
    told = trace_document(dataset, "chats.jsonl:4")
    assert told["fate"] == "dropped by encode/not_encoded" and told["splits"] == []
    assert "chats.jsonl:4: the template does not take this" in told["verdicts"][-1]["detail"]
    assert trace_document(dataset, "chats.jsonl:8")["fate"] == "dropped by encode/nothing_trained"
    assert trace_document(dataset, "chats.jsonl:5")["splits"][0]["tokens"] > 10


def test_what_is_rewritten_is_trained_on_as_it_is_then(tmp_path: Path) -> None:
    write_chats(tmp_path)
    clean = [{"replace": {"rules": [{"name": "asks", "pattern": "question 1", "replacement": "query"}]}}]
    dataset = prepared(tmp_path, clean=clean)
    assert "encode/text_changed" not in dataset.facts["rules"]["dropped"]
    assert dataset.facts["rules"]["changed"]["clean/asks"] == 11, "question 1, and 10 to 19"
    streams = {split: dataset.stream(split) for split in ("train", "validation")}
    read = "".join(dataset.tokenizer.decode(one.take(np.arange(one.tokens)).tolist()) for one in streams.values())
    assert read.count("query") == 11 and "question 1" not in read and "question 2" in read
    metas = [document["meta"] for split in streams for document in documents_of(dataset, split)]
    assert sum("query" in meta for meta in metas) == 11 and not any("question 1" in meta for meta in metas)


MAIL, KEY = "ada{n}@gmail.com", "ghp_Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb7dEf"
PAIRS = ChatDocuments(None, None)
BYE = "Many thanks, and a very good night to all of you there."


def write_secrets(folder: Path) -> None:
    rows = [
        {
            "q": f"Write to {MAIL.format(n=n)}, number {n}, please.",
            "a": f"Sent {n} with {KEY} to {MAIL.format(n=n)}.\n{BYE}",
        }
        for n in range(40)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))


def pairs_prepared(
    base: Path, workers: int = 1, workspace: str = "work", encoder: Any = PAIRS, **sections: Any
) -> Dataset:
    sources = [{"path": "pairs.jsonl", "map": {"prompt": "q", "completion": "a"}}]
    given = {"sources": sources, "split": SPLIT, "decontaminate": {"validation": False}, **sections}
    with open_executor("processes" if workers > 1 else "inline", workers) as executor:
        shop, tokenizer = Workshop(base / workspace, executor), parse(TokenizerConfig, {"kind": "byte"})
        return prepare(parse(DataConfig, given), tokenizer, "pairs", base, shop, encoder=encoder)


def check_nothing_private(dataset: Dataset) -> list[dict[str, Any]]:
    """No document says, in text or meta, what was masked; the documents of both splits."""
    documents = [document for split in ("train", "validation") for document in documents_of(dataset, split)]
    assert not any(word in str(document) for document in documents for word in ("@gmail", "ghp_"))
    return documents


def test_masked_pairs_are_trained_on_with_their_masks(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    dataset = pairs_prepared(tmp_path, clean=["standard", "pii"])
    rules = dataset.facts["rules"]
    assert rules["dropped"] == {} and rules["changed"] == {"clean/pii/email": 40, "clean/pii/key": 40}
    assert len(check_nothing_private(dataset)) == 40
    for split in ("train", "validation"):
        stream = dataset.stream(split)
        ids, trained = stream.take(np.arange(stream.tokens)), stream.trained(np.arange(stream.tokens))
        assert dataset.tokenizer.decode(ids[~trained].tolist()).count("Write to [EMAIL], number") == stream.documents
        answers = dataset.tokenizer.decode(ids[trained].tolist())
        assert answers.count("with [KEY] to [EMAIL].") == stream.documents and "@" not in answers


CALLING = (
    "{% for m in messages %}{{ '<' + m.role + ' ' + (m.name or '') + '>' + m.content }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.tool_calls | tojson if m.tool_calls }}{% endgeneration %}{% endif %}{% endfor %}"
    "{{ tools | tojson }}"
)


def test_calls_of_tools_are_trained_on_with_their_masks(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Mail {n}"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"name": "mail", "arguments": {"to": MAIL.format(n=n), "n": n}}],
                },
                {"role": "tool", "name": MAIL.format(n=n), "content": f"{KEY} sent to\n{MAIL.format(n=n)}"},
            ],
            "tools": [{"name": "mail", "description": f"not to {MAIL.format(n='')}"}],
        }
        for n in range(40)
    ]
    (tmp_path / "calls.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sources = [{"path": "calls.jsonl", "map": {"messages": "messages", "tools": "tools"}}]
    encoder = ChatDocuments(ChatConfig(), ChatTemplate("calling", CALLING))
    dataset = pairs_prepared(tmp_path, encoder=encoder, sources=sources, clean=["pii"])
    assert dataset.facts["rules"]["dropped"] == {} and len(check_nothing_private(dataset)) == 40
    stream = dataset.stream("train")
    ids, trained = stream.take(np.arange(stream.tokens)), stream.trained(np.arange(stream.tokens))
    assert (
        dataset.tokenizer.decode(ids[trained].tolist()).count('[{"name": "mail", "arguments": {"to": "[EMAIL]", "n": ')
        == stream.documents
    )
    seen = dataset.tokenizer.decode(ids.tolist())
    assert seen.count("<tool [EMAIL]>[KEY] sent to\n[EMAIL][") == seen.count('"not to [EMAIL]"') == stream.documents
    assert "gmail" not in seen


@pytest.mark.slow
def test_masked_pairs_are_the_same_by_any_executor(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    alone, shared = (
        pairs_prepared(tmp_path, workers, f"work{workers}", clean=["standard", "pii"]) for workers in (1, 2)
    )
    assert alone.fingerprint == shared.fingerprint
    for path in sorted(alone.folder.rglob("*.bin")):
        assert path.read_bytes() == (shared.folder / path.relative_to(alone.folder)).read_bytes()


LEAK = {"against": ["items.jsonl"], "action": "cut", "margin": 0, "ngram": 4, "validation": False}
CUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a message is emptied": (
        "drop_lines",
        {"clean": ["pii", {"drop_lines": {"rules": [{"name": "asks", "pattern": "^Write to"}]}}]},
    ),
    "pieces": (
        "cut",
        {
            "split": {"validation": 0.3, "by": "tail"},
            "clean": ["pii", {"cut": {"characters": 60, "min_characters": 10}}],
        },
    ),
    "lines of many": (
        "shared_lines",
        {"clean": ["pii"], "shared_lines": {"documents": 3, "keep": "none"}},
    ),
    "an item of an evaluation": ("decontaminate", {"clean": ["pii"], "decontaminate": LEAK}),
    "divided within": ("split", {"clean": ["pii"], "split": {"validation": 0.31, "by": "tail"}}),
}


@pytest.mark.parametrize("case", CUTS)
def test_messages_that_cannot_follow_go_and_say_by_what(tmp_path: Path, case: str) -> None:
    write_secrets(tmp_path)
    by, sections = CUTS[case]
    (tmp_path / "items.jsonl").write_text(json.dumps({"text": BYE}))
    plain = check_nothing_private(pairs_prepared(tmp_path, encoder=None, **sections))
    metas = [json.loads(document["meta"]) for document in plain]
    withdrawn = [meta for meta in metas if "messages" not in meta]
    assert withdrawn and {meta["messages_withdrawn"] for meta in withdrawn} == {by}
    if by == "split":
        dataset = pairs_prepared(tmp_path, **sections)
        assert len(check_nothing_private(dataset)) == len(metas) - len(withdrawn)
        assert dataset.facts["rules"]["dropped"] == {"encode/text_changed": len(withdrawn)}
    else:
        with pytest.raises(DataError, match=f"encode/text_changed dropped .*: its text was cut or cleaned by {by} "):
            pairs_prepared(tmp_path, **sections)


@pytest.mark.slow
def test_another_encoder_makes_other_shards_and_processes_the_same(tmp_path: Path) -> None:
    write_chats(tmp_path)
    alone, shared = prepared(tmp_path), prepared(tmp_path, workers=2, workspace="other")
    assert alone.fingerprint == shared.fingerprint
    verify_dataset(shared.folder)
    for path in sorted(alone.folder.rglob("*.bin")):
        assert path.read_bytes() == (shared.folder / path.relative_to(alone.folder)).read_bytes()
    other = ConversationEncoder(functools.partial(turns, end=False), {"turns": 1, "end": False})
    assert prepared(tmp_path, encoder=other).fingerprint != alone.fingerprint


def test_marks_that_do_not_fit_are_a_fault_of_the_program(tmp_path: Path) -> None:
    write_chats(tmp_path)
    wrong = ConversationEncoder(lambda tokenizer, messages: ([1, 2], [True]), 0)
    with pytest.raises(AssertionError, match="a mark for each token"):
        prepared(tmp_path, encoder=wrong)


RUNS_AWAY = (
    "{% for m in messages %}{{ m.content }}"
    "{% if 'LOOP' in m.content %}{{ ''.__class__.__mro__ }}{% endif %}{% endfor %}"
)


def test_a_row_that_a_template_runs_away_on_is_named(tmp_path: Path) -> None:
    """Behind others that were left out, and in the second of the files."""
    for name, odd in (("a", 9), ("b", 4)):
        rows = [{"messages": [{"role": "user", "content": f"{name} {n}"}]} for n in range(6)]
        rows = [{"messages": [*row["messages"], {"role": "assistant", "content": "Yes."}]} for row in rows]
        rows[3:] = [{"messages": [{"role": "user", "content": ""}]}, *rows[3:]]
        if odd < len(rows):
            rows[odd]["messages"][0]["content"] = "LOOP"
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    encoder = ChatDocuments(ChatConfig(), ChatTemplate("own", RUNS_AWAY))
    sources = [{"path": "*.jsonl", "map": {"messages": "messages"}}]
    with pytest.raises(DataError, match=r"must not touch, at b\.jsonl:5"):
        pairs_prepared(tmp_path, encoder=encoder, sources=sources, split={"validation": 0, "by": "document"})
