"""Data preparation end to end: the same bytes for any number of workers, only what changed done again, every document
accounted for, and the shards hold the text that was read."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.data.planted import words_of
from tests.jobs.helpers import hashes, write_texts
from tilth.core.chosen_executor import open_executor
from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.core.executors import ExecutorName
from tilth.core.tasks import Done
from tilth.data.config import DataConfig
from tilth.data.dataset import Dataset
from tilth.data.document import make_doc_id
from tilth.data.plans.pipeline import prepare
from tilth.data.plans.workshop import Workshop
from tilth.data.stages import PRESETS
from tilth.tokenizer import TokenizerConfig

pytestmark = pytest.mark.slow


def prepared(
    base: Path,
    data: dict[str, Any],
    tokenizer: dict[str, Any] | None = None,
    done: list[Done] | None = None,
    workers: int = 1,
    workspace: str = "work",
    executor: ExecutorName = "processes",
) -> Dataset:
    """The dataset of a `data:` section; finished tasks go to `done`."""
    on_done = None if done is None else (lambda task, finished, total: done.append(task))
    config = parse(DataConfig, {"shard_bytes": 65536, **data}, "data")
    with open_executor(executor, workers) as opened:
        shop = Workshop(base / workspace, opened, on_done)
        return prepare(config, parse(TokenizerConfig, tokenizer or {"kind": "byte"}), "small", base, shop)


def texts_of(dataset: Dataset, split: str) -> list[str]:
    """What the tokens of a split decode to, document by document."""
    stream, tokenizer = dataset.stream(split), dataset.tokenizer
    ids = stream.read(0, stream.tokens)
    ends = np.flatnonzero(ids == tokenizer.end_of_text)
    parts = np.split(ids, ends + 1)[:-1]
    return [tokenizer.decode(part[:-1]) for part in parts]


def ids_of(dataset: Dataset, split: str) -> list[str]:
    return [shard.doc_id(n) for shard in dataset.stream(split).shards for n in range(shard.documents)]


def ledger_of(dataset: Dataset) -> list[dict[str, str]]:
    return [row for file in sorted((dataset.folder / "ledger").iterdir()) for row in pq.read_table(file).to_pylist()]


def reused(done: list[Done]) -> dict[str, tuple[int, int]]:
    """For each kind of task how many were found and how many were done."""
    kinds = Counter((task.task.kind, task.reused) for task in done)
    return {kind: (kinds[kind, True], kinds[kind, False]) for kind, _ in kinds}


def write_many(folder: Path) -> None:
    """Two sources: a folder of files and a file of rows, large enough for several shards each."""
    write_texts(folder / "texts", documents=300)
    rows = (f"row {n} of a table that goes on for quite a while, {'so ' * (n % 40)}it seems" for n in range(2000))
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))


BOTH: dict[str, Any] = {"sources": [{"path": "texts"}, {"path": "rows.jsonl"}]}
BPE = {"kind": "bpe", "vocab_size": 300}
BYTES = {"kind": "byte"}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of both sources, with a workspace in which they were prepared with either tokenizer."""
    folder = tmp_path_factory.mktemp("many")
    write_many(folder)
    for tokenizer in (BYTES, BPE):
        prepared(folder, BOTH, tokenizer)
    return folder


@pytest.fixture
def done_before(many: Path, tmp_path: Path) -> Path:
    """A copy of it, in the test's own folder."""
    shutil.copytree(many, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_place_on_the_disk_changes_no_bit(tmp_path: Path) -> None:
    for place in ("here", "there"):
        write_texts(tmp_path / place / "texts", documents=20)
    here, there = (prepared(tmp_path / place, {"sources": [{"path": "texts"}]}) for place in ("here", "there"))
    assert hashes(here.folder) == hashes(there.folder)


def test_nothing_is_done_twice(done_before: Path) -> None:
    before, fingerprints = hashes(done_before / "work"), set[str]()
    for workers in (1, 2):
        done: list[Done] = []
        fingerprints.add(prepared(done_before, BOTH, done=done, workers=workers).fingerprint)
        assert done and all(task.reused for task in done) and hashes(done_before / "work") == before
    assert len(fingerprints) == 1


TRAINING = ("held_out", "hits", "leaks", "recall")
LEAKS = (*TRAINING, "held_out_index")
COMPARE = ("digest", "signature", "exact", "candidates", "shingles", "near", "assign", *LEAKS)


@pytest.mark.parametrize(
    ("change", "tokenizer", "again"),
    [
        ({"split": {"validation": 0.2}}, BPE, {"assign", *LEAKS, "tokenizer", "encode"}),
        ({"split": {"validation": 0.2}}, BYTES, {"assign", *LEAKS, "encode"}),
        ({}, {"kind": "bpe", "vocab_size": 301}, {"tokenizer", "encode"}),
        ({"deduplicate": "none"}, BYTES, {"candidates", "shingles", "near", "assign", *TRAINING, "encode"}),
        ({"clean": ["strip"]}, BYTES, {"clean", "digest", "signature"}),  # which leaves the same text
        ({"clean": [{"min_length": {"characters": 60}}]}, BYTES, {"clean", *COMPARE, "encode"}),
        ({"shard_bytes": 70_000}, BYTES, {"collect", "clean", *COMPARE, "encode"}),
        ({"cross_document_attention": False}, BYTES, set()),
    ],
)
def test_a_change_redoes_only_what_follows_it(
    done_before: Path, change: dict[str, Any], tokenizer: dict[str, Any], again: set[str]
) -> None:
    done: list[Done] = []
    prepared(done_before, {**BOTH, **change}, tokenizer, done)
    assert {kind for kind, (_, made) in reused(done).items() if made} == again


def test_a_new_source_and_a_changed_file_redo_only_their_parts(done_before: Path) -> None:
    tmp_path = done_before
    parts = prepared(tmp_path, BOTH).facts["shards"]
    (tmp_path / "more.txt").write_text("A third source, which has only this one line of text in it.\n")
    done: list[Done] = []
    prepared(tmp_path, {"sources": [*BOTH["sources"], {"path": "more.txt"}]}, done=done)
    found = reused(done)
    assert found["collect"] == found["digest"] == found["signature"] == (parts, 1) and found["tokenizer"] == (1, 0)
    assert found["clean"] == (parts * len(PRESETS["standard"]), len(PRESETS["standard"]))
    assert found["encode"] == found["shingles"] == (parts, 1), "what was found of other parts did not change"
    last = sorted((tmp_path / "texts").iterdir())[-1]
    last.write_text(last.read_text() + "One more sentence in the last file.\n")
    done.clear()
    prepared(tmp_path, BOTH, done=done)
    assert reused(done)["collect"][1] == reused(done)["digest"][1] == 1


def test_one_other_stage_redoes_only_what_follows_it(tmp_path: Path) -> None:
    write_many(tmp_path)
    clean = ["newlines", "strip", {"min_length": {"characters": 20}}]
    parts = prepared(tmp_path, {**BOTH, "clean": clean}).facts["shards"]
    assert parts >= 3
    done: list[Done] = []
    changed = [*clean[:2], {"min_length": {"characters": 60}}]
    other = prepared(tmp_path, {**BOTH, "clean": changed}, done=done)
    assert reused(done)["clean"] == (2 * parts, parts) and reused(done)["collect"] == (parts, 0)
    alone = prepared(tmp_path, {**BOTH, "clean": changed}, workspace="alone")
    assert hashes(other.folder) == hashes(alone.folder), "taken up in the midst, or done in one pass: the same bytes"


def test_exact_duplicates_go_and_the_ledger_names_the_one_that_stays(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=10)  # with copy.txt, which is 0000.txt
    (tmp_path / "again.txt").write_text((tmp_path / "texts" / "0004.txt").read_text() + "\n\n\n")
    data = {"sources": [{"path": "texts"}, {"path": "again.txt"}], "split": {"validation": 0}}
    dataset = prepared(tmp_path, data)
    dropped = {row["doc_id"]: row["value"] for row in ledger_of(dataset) if row["rule"] == "exact_duplicate"}
    assert dropped == {
        make_doc_id("texts", "texts/copy.txt"): make_doc_id("texts", "texts/0000.txt"),
        make_doc_id("again.txt", "again.txt"): make_doc_id("texts", "texts/0004.txt"),  # equal after cleaning
    }
    assert len(texts_of(dataset, "train")) == 10
    assert len(texts_of(prepared(tmp_path, {**data, "deduplicate": "none"}), "train")) == 12


@pytest.mark.parametrize("share", [0.1, 0.25, 0.333, 0.9])
def test_the_tail_is_cut_where_the_share_says(tmp_path: Path, share: float) -> None:
    write_texts(tmp_path / "texts", documents=9)
    (tmp_path / "texts" / "wide.txt").write_text("Ümläute, 文字 and 😀 are characters of several bytes.\n" * 9)
    whole = "".join(path.read_text() for path in sorted((tmp_path / "texts").iterdir()))
    data: dict[str, Any] = {"sources": [{"path": "texts"}], "clean": "none", "deduplicate": "none"}
    data["decontaminate"] = {"validation": False}  # or the first text would go, whose copy is held out
    dataset = prepared(tmp_path, {**data, "split": {"validation": share, "by": "tail"}})
    train, held_out = ("".join(texts_of(dataset, split)) for split in ("train", "validation"))
    assert train + held_out == whole
    assert len(train) == int(len(whole) * (1 - share))
    assert dataset.facts["documents"] == dataset.facts["read"]["documents"], "one that is cut in two is counted once"


def test_the_tail_is_cut_across_shards_and_after_duplicates(tmp_path: Path) -> None:
    draw = random.Random(2)
    write_texts(tmp_path / "texts", documents=300)
    for path in (tmp_path / "texts").iterdir():  # like no other, or those that the cut parts would go to training
        path.write_text(" ".join(words_of(draw, draw.randrange(9, 90))))
    (tmp_path / "texts" / "copy.txt").write_text((tmp_path / "texts" / "0000.txt").read_text())
    lines = [json.dumps({"text": " ".join(words_of(draw, draw.randrange(9, 90)))}) for _ in range(900)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, *lines[100:200]]))
    data = {**BOTH, "clean": "none", "split": {"validation": 0.4, "by": "tail"}}
    dataset = prepared(tmp_path, data)
    texts = [path.read_text() for path in sorted((tmp_path / "texts").iterdir()) if path.name != "copy.txt"]
    rows = (json.loads(line)["text"] for line in (tmp_path / "rows.jsonl").read_text().splitlines())
    of_sources = ["".join(texts), "".join(dict.fromkeys(rows))]
    train, held_out = ("".join(texts_of(dataset, split)) for split in ("train", "validation"))
    assert dataset.facts["shards"] >= 3
    assert train == "".join(whole[: int(len(whole) * 0.6)] for whole in of_sources)
    assert held_out == "".join(whole[int(len(whole) * 0.6) :] for whole in of_sources)


def test_drawn_documents_depend_on_their_ids_and_the_seed_alone(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=200)
    (tmp_path / "texts" / "copy.txt").unlink()  # or it comes back when what it copies goes
    data: dict[str, Any] = {"sources": [{"path": "texts"}], "split": {"validation": 0.2, "by": "document"}}
    held_out = set(ids_of(prepared(tmp_path, data), "validation"))
    assert 20 <= len(held_out) <= 60
    assert held_out.isdisjoint(ids_of(prepared(tmp_path, data), "train"))
    for path in sorted((tmp_path / "texts").iterdir())[:50]:
        path.unlink()
    fewer = prepared(tmp_path, data)
    assert set(ids_of(fewer, "validation")) <= held_out, "a document does not change sides when others go"
    data["split"] |= {"seed": 2}
    assert set(ids_of(prepared(tmp_path, data), "validation")) != set(ids_of(fewer, "validation"))


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Of the documentation of Python alone: all its modules are parsed for it, which takes longer than the rest."""
    data = {"sources": [{"builtin": "python_docs"}], "split": {"validation": 0.3, "by": "document", "seed": 5}}
    data |= {"shard_bytes": 1 << 20, "decontaminate": {"validation": False}}
    return prepared(tmp_path_factory.mktemp("documentation"), data)


def workspace_of(dataset: Dataset) -> Path:
    return dataset.folder.parents[1]


def test_a_group_is_never_divided_and_its_twins_are_counted(documentation: Dataset) -> None:
    """The embedded documentation holds many texts twice: a module's source, and the reference made of it."""
    dataset = documentation
    sides: dict[str, list[str]] = {}
    for split in ("train", "validation"):
        for file in sorted((dataset.folder / "documents" / split).iterdir()):
            for row in pq.read_table(file).to_pylist():
                group = json.loads(row["meta"]).get("group", row["doc_id"])
                sides.setdefault(group, []).append(split)
    assert all(set(splits) == {"train"} or splits == ["validation"] for splits in sides.values())
    held_out = sum("validation" in splits for splits in sides.values())
    assert 0.25 < held_out / len(sides) < 0.35
    twins = [row for row in ledger_of(dataset) if row["rule"] == "held_out_twin"]
    assert len(twins) == dataset.facts["rules"]["dropped"]["split/held_out_twin"] > 100


def test_every_document_is_accounted_for(tmp_path: Path, documentation: Dataset) -> None:
    """What is read and cleaned of the documentation is found; all that follows is done, and all of the others."""
    shutil.copytree(workspace_of(documentation), tmp_path / "work")
    write_many(tmp_path)
    (tmp_path / "texts" / "short.txt").write_text("short")
    (tmp_path / "texts" / "empty.txt").touch()
    (tmp_path / "texts" / ".hidden.txt").write_text("never seen")
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('\nno json\n{"other": 1}\n')
    sources = [*BOTH["sources"], {"builtin": "python_docs"}]
    dataset = prepared(tmp_path, {"sources": sources, "split": {"validation": 0.05}, "shard_bytes": 1 << 20}, workers=2)
    rows, facts = ledger_of(dataset), dataset.facts
    dropped = Counter(f"{row['stage']}/{row['rule']}" for row in rows if row["verdict"] == "dropped")
    assert dict(sorted(dropped.items())) == facts["rules"]["dropped"]
    changed = Counter(f"{row['stage']}/{row['rule']}" for row in rows if row["verdict"] == "changed")
    assert dict(sorted(changed.items())) == facts["rules"]["changed"]
    assert dropped["list/hidden"] == dropped["read/not_json"] == dropped["read/no_field"] == 1
    # Python's own modules add to these.
    assert dropped["read/empty"] >= 1 and dropped["clean/min_length"] >= 1 and dropped["split/held_out_twin"] > 10
    after_reading = sum(n for rule, n in dropped.items() if rule.split("/")[0] not in ("list", "read"))
    kept = [doc_id for split in ("train", "validation") for doc_id in ids_of(dataset, split)]
    assert facts["read"]["documents"] == len(kept) + after_reading
    assert len(set(kept)) == len(kept) == sum(facts["splits"][split]["documents"] for split in ("train", "validation"))
    gone = [row["doc_id"] for row in rows if row["verdict"] == "dropped"]
    assert len(set(gone)) == len(gone) and not set(gone) & set(kept), "a document has one end"


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_the_shards_hold_the_cleaned_text_in_order(tmp_path: Path, kind: str) -> None:
    write_many(tmp_path)
    (tmp_path / "texts" / "odd.txt").write_bytes("caf\xe9  \r\nand\t\ttabs \U0001f600\n\n\n\n\nend".encode())
    data = {**BOTH, "split": {"validation": 0}}
    dataset = prepared(tmp_path, data, {"kind": kind} | ({"vocab_size": 400} if kind == "bpe" else {}))
    paths = [path for path in sorted((tmp_path / "texts").iterdir()) if path.name not in ("copy.txt", "odd.txt")]
    texts = [path.read_text() for path in paths]
    rows = [json.loads(line)["text"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    odd = "café\nand\t\ttabs \U0001f600\n\n\nend"
    assert texts_of(dataset, "train") == [*texts, odd, *dict.fromkeys(rows)]
    assert dataset.facts["splits"]["train"]["text_bytes"] == sum(len(t.encode()) for t in [*texts, odd, *set(rows)])
    assert dataset.facts["splits"]["train"]["unknown_characters"] == 0


def test_a_vocabulary_beyond_65535_ids_gets_four_bytes_an_id(tmp_path: Path) -> None:
    points = [code for code in range(0x3400, 0x20000) if not 0xD800 <= code <= 0xDFFF][:66_000]
    text = "".join(map(chr, points))
    (tmp_path / "wide.txt").write_text(text)
    data = {"sources": [{"path": "wide.txt"}], "clean": "none", "split": {"validation": 0}}
    dataset = prepared(tmp_path, data, {"kind": "char"})
    shard = dataset.stream("train").shards[0]
    assert dataset.tokenizer.vocab_size == 66_002 and shard.dtype == np.dtype("<u4")
    assert texts_of(dataset, "train") == [text]
    (tmp_path / "wide.txt").write_text(text[: 65_535 - 2])
    shard = prepared(tmp_path, data, {"kind": "char"}).stream("train").shards[0]
    assert shard.manifest["vocab_size"] == 65_535 and shard.dtype == np.dtype("<u2")


def test_the_tokenizer_learns_from_the_training_split_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a letter or two, again and again. " * 50 + "§" * 20)
    data = {"sources": [{"path": "a.txt"}], "split": {"validation": 0.05, "by": "tail"}}
    dataset = prepared(tmp_path, data, {"kind": "char"})
    assert "§" not in dataset.tokenizer.decode(range(dataset.tokenizer.vocab_size - 2))
    assert dataset.facts["splits"]["validation"]["unknown_characters"] == 20
    assert dataset.facts["splits"]["train"]["unknown_characters"] == 0
    bpe = prepared(tmp_path, data, {"kind": "bpe", "vocab_size": 400})
    assert bpe.tokenizer.training["bytes_read"] == bpe.facts["splits"]["train"]["text_bytes"]
    assert not any("§§".encode() in bpe.tokenizer.token_bytes(n) for n in range(bpe.tokenizer.vocab_size))


def write_copies(folder: Path, own: int) -> None:
    """The sources a, of 60 rows, and b: `own` rows of its own, 40 of a's and 20 that are like others of a's."""
    rng = np.random.default_rng(0)
    rows = [" ".join(map(str, rng.integers(1000, 9999, 60))) for _ in range(60)]
    mine = [" ".join(map(str, rng.integers(1000, 9999, 60))) for _ in range(own)]
    like = [f"{row} and more" for row in rows[40:]]
    for name, texts in (("a", rows), ("b", [*rows[:40], *like, *mine])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


COPIES: dict[str, Any] = {"sources": [{"path": "a.jsonl"}, {"path": "b.jsonl"}], "clean": "none"}


def test_copies_and_near_duplicates_count_alike_in_what_a_source_may_lose(tmp_path: Path) -> None:
    write_copies(tmp_path, own=40)  # of 100 rows neither the 40 copies nor the 20 near ones are more than half
    with pytest.raises(DataError, match="would drop 60 of 100 documents of source b") as raised:
        prepared(tmp_path, {**COPIES, "deduplicate": {"keep": "first"}})
    assert "1 like a.jsonl:1 of a.jsonl, such as b.jsonl:1 of b.jsonl (the same)" in raised.value.message
    assert "most_of_a_source (now 0.5)" in raised.value.remedy
    kept = prepared(tmp_path, {**COPIES, "deduplicate": {"keep": "first", "most_of_a_source": 0.6}})
    assert kept.facts["documents"] == 100


@pytest.mark.parametrize(("own", "told"), [(40, False), (19, True)])
def test_exact_names_a_source_that_is_mostly_copies_and_goes_on(tmp_path: Path, own: int, told: bool) -> None:
    write_copies(tmp_path, own)
    config = parse(DataConfig, {**COPIES, "deduplicate": "exact"}, "data")
    for _ in range(2):  # the second time nothing is done, and it is said again
        said: list[str] = []
        prepare(
            config,
            parse(TokenizerConfig, {"kind": "byte"}),
            "small",
            tmp_path,
            Workshop(tmp_path / "w", say=said.append),
        )
        assert [note.partition(";")[0] for note in said] == [
            "deduplication drops 40 of 79 documents of source b.jsonl"
        ] * told
