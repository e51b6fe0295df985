"""A stage's edits put into documents by columns: against the same done to one document after the other."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tilth.core.files import new_folder
from tilth.data.document import Document, table_documents
from tilth.data.sources.messages import rendered
from tilth.data.tasks import encode, parts
from tilth.data.tasks.parts import DocumentWriter, EditWriter, Part
from tilth.data.tasks.split import CUT, REMOVED, AssignedPart
from tilth.tokenizer import TokenizerConfig, train_tokenizer

UNCOUNTED = pa.default_memory_pool()
# It lives as long as the process: Arrow's threads give back their last buffers after a read has ended, on a busy
# machine after the test has, and to a pool that is gone by then they cannot.
COUNTED = pa.proxy_memory_pool(UNCOUNTED)

TEXTS = ["", "é — naïve", "plain text", "<|endoftext|> is spelt out", "many words " * 40, "  "]


def documents(number: int, draw: random.Random) -> list[Document]:
    return [Document(f"{n:032x}", draw.choice(TEXTS) + str(n), "s", f"f:{n}") for n in range(number)]


def written(folder: Path, given: list[Document], rows: int) -> Part:
    with new_folder(folder, {}) as place, DocumentWriter(place / "part.parquet") as writer:
        for n, document in enumerate(given, 1):
            writer.add(document)
            if n % rows == 0:
                writer.flush()
    return Part(folder, "part.parquet")


def changed(document: Document, draw: random.Random) -> list[Document]:
    """What a stage may leave of a document."""
    kind = draw.randrange(6)
    if kind == 0:
        return []
    if kind == 1:
        return [replace(document, text=document.text.upper())]
    if kind == 2:
        return [replace(document, meta={"language": "ß", "group": "g"})]
    if kind == 3:
        pieces = [replace(document, doc_id=f"{n:x}{document.doc_id[1:]}", text=f"piece {n}") for n in range(3)]
        return [replace(piece, locator=f"{piece.locator}#{n}", meta={}) for n, piece in enumerate(pieces)]
    return [document]


@pytest.mark.parametrize("seed", range(12))
def test_edits_by_columns_are_those_made_one_by_one(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_VERDICTS_HELD", 5)  # edits in several row groups, their borders anywhere
    draw = random.Random(seed)
    expected = documents(draw.randrange(1, 60), draw)
    part = written(tmp_path / "read", expected, draw.randrange(1, 20))
    for stage in range(3):
        after = []
        with new_folder(tmp_path / str(stage), {}) as folder, EditWriter(folder) as edits:
            for document in expected:
                made = changed(document, draw)
                edits.add(document, made)
                after += made
        expected = after
        part = replace(part, stages=(*part.stages, tmp_path / str(stage)))
    assert list(part.documents()) == expected


def test_a_text_in_a_thousand_pieces_is_not_there_a_thousand_times(tmp_path: Path) -> None:
    whole = Document("0" * 32, "".join(f"word{n} " for n in range(400_000)), "s", "f")
    cut = [replace(whole, doc_id=f"{n:032x}", text=whole.text[n * 3000 : n * 3000 + 3000]) for n in range(1000)]
    part = written(tmp_path / "read", [whole], 1)
    with new_folder(tmp_path / "cut", {}) as folder, EditWriter(folder) as edits:
        edits.add(whole, cut)
    part = Part(part.folder, part.name, (tmp_path / "cut",))
    pa.set_memory_pool(COUNTED)
    try:
        left = [document for table in part.tables() for document in table_documents(table)]
    finally:
        pa.set_memory_pool(UNCOUNTED)
    assert left == cut
    assert (most := COUNTED.max_memory()) and most < 20 * len(whole.text), "text, its pieces, and what unpacks them"


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_a_shard_holds_what_the_tokenizer_gives_for_each_document(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_UNIT_BYTES", 64)  # short ones are encoded together, long ones in pieces
    given = documents(200, random.Random(7))
    part = written(tmp_path / "read", given, 33)
    sides = np.array([n % 3 if n % 5 else 255 for n in range(200)], np.uint8)
    with new_folder(tmp_path / "sides", {}) as folder:
        sides.tofile(folder / "sides-00000.bin")
        (folder / "cuts.json").write_text("{}")
    tokenizer = train_tokenizer(
        TokenizerConfig.model_validate({"kind": kind, **_size(kind)}), (d.text for d in given), 1
    )
    with new_folder(tmp_path / "tokenizer", {}) as folder:
        tokenizer.save(folder)
    assigned = AssignedPart(part, 0, tmp_path / "sides", ("train", "validation", "test"))
    with new_folder(tmp_path / "encoded", {}) as folder:
        facts = encode.encode(folder, assigned, "s", assigned.names, tmp_path / "tokenizer", 2)
    for number, name in enumerate(assigned.names):
        own = [document for document, side in zip(given, sides, strict=True) if side == number]
        assert own and list(assigned.split(name)) == own
        ids = [[*tokenizer.encode(document.text), tokenizer.end_of_text] for document in own]
        tokens = np.fromfile(tmp_path / "encoded" / name / "tokens.bin", facts[name]["dtype"])
        assert tokens.tolist() == [token for document in ids for token in document]
        offsets = np.fromfile(tmp_path / "encoded" / name / "offsets.bin", np.int64)
        assert np.diff(offsets).tolist() == [len(document) for document in ids]
        assert (tmp_path / "encoded" / name / "doc_ids.bin").read_bytes().hex() == "".join(d.doc_id for d in own)
        assert facts[name]["text_bytes"] == sum(len(document.text.encode()) for document in own)


@pytest.mark.parametrize("cuts", [{}, {"0": {"7": [["train", 0, 4], ["validation", 4, 10]]}}])
def test_tables_of_a_split_hold_its_documents_with_what_is_taken_out(tmp_path: Path, cuts: dict[str, object]) -> None:
    given = documents(60, random.Random(9))
    given[7] = replace(given[7], text="cut in two")
    said = [{"role": "user", "content": "nada"}]
    for number in (38, 40):
        given[number] = replace(given[number], text=rendered(said), meta={"messages": said, "n": number})
    part = written(tmp_path / "read", given, 17)
    sides = np.array([n % 2 if n % 7 else 255 for n in range(60)], np.uint8)
    sides[7] = CUT if cuts else 255
    with new_folder(tmp_path / "sides", {}) as folder:
        sides.tofile(folder / "sides-00000.bin")
        (folder / "cuts.json").write_text(json.dumps(cuts))
        (folder / REMOVED).write_text(json.dumps({"0": {"2": [[1, 2]], "40": [[0, 1], [2, 4]]}}))
    assigned = AssignedPart(part, 0, tmp_path / "sides", ("train", "validation"))
    for name in assigned.names:
        found = [document for table in assigned.tables(name) for document in table_documents(table)]
        assert found == list(assigned.split(name)) and found
    metas = {document.doc_id: document.meta for document in assigned.split("train")}
    assert metas[given[38].doc_id] == given[38].meta
    assert metas[given[40].doc_id] == {"messages_withdrawn": "decontaminate", "n": 40}
    by_id = {document.doc_id: document.text for document in assigned.split("train")}
    assert {n for n, document in enumerate(given) if by_id.get(document.doc_id, document.text) != document.text} == (
        {2, 7, 40} if cuts else {2, 40}
    )


def _size(kind: str) -> dict[str, int]:
    return {"vocab_size": 300} if kind == "bpe" else {}
