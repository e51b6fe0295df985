"""Decontamination and shared lines end to end: what goes, what the ledger says of it, and what is done again."""

from __future__ import annotations

import ast
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.data.planted import words_of
from tests.jobs.helpers import hashes
from tests.jobs.test_pipeline import ids_of, ledger_of, prepared, reused, texts_of
from tilth.core.errors import DataError
from tilth.core.tasks import Done
from tilth.data.dataset import Dataset
from tilth.data.document import make_doc_id
from tilth.data.leaks.planting import PLANTED
from tilth.jobs.pages.data_report import report_data
from tilth.jobs.trace import trace_document

pytestmark = pytest.mark.slow


def text_of(seed: int, count: int = 60) -> str:
    draw = random.Random(seed)
    made = words_of(draw, count)
    return "\n".join(" ".join(made[n : n + 10]) for n in range(0, count, 10)) + "\n"


def write_corpus(folder: Path, documents: int = 150) -> None:
    """Rows of two sources, of several parts, and evaluation items, three of which stand in some of the rows."""
    rows = [{"text": text_of(n)} for n in range(documents)]
    items = [{"question": text_of(10_000 + n, 30), "id": n} for n in range(12)]
    rows[20]["text"] += items[3]["question"].upper()  # type: ignore[attr-defined]
    rows[40]["text"] = items[5]["question"].replace(" ", "\n") + rows[40]["text"]  # type: ignore[attr-defined]
    rows[60]["text"] = str(items[5]["question"])
    write_rows(folder / "rows.jsonl", rows)
    write_rows(folder / "items.jsonl", [*items, {"question": "too short"}, {"other": "no question"}])
    (folder / "texts").mkdir()
    for n in range(25):
        (folder / "texts" / f"{n:02d}.txt").write_text(text_of(500 + n, 900))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


AGAINST = [{"path": "items.jsonl", "field": "question", "max_bad_rows": 0.5}]
DATA: dict[str, Any] = {
    "sources": [{"path": "rows.jsonl"}, {"path": "texts"}],
    "decontaminate": {"against": AGAINST},
    "split": {"validation": 0.1},
    "clean": "none",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """The folder of `write_corpus`, and what was made of `DATA` there; to be looked at alone."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder, prepared(folder, DATA)


def row_id(number: int) -> str:
    return make_doc_id("rows.jsonl", f"rows.jsonl:{number + 1}")


def of_stage(dataset: Any, stage: str) -> list[dict[str, str]]:
    return [row for row in ledger_of(dataset) if row["stage"] == stage]


def test_documents_that_hold_evaluation_items_go(corpus: tuple[Path, Dataset]) -> None:
    _, dataset = corpus
    assert dataset.facts["shards"] >= 3
    gone = {row["doc_id"]: (row["rule"], row["verdict"], row["detail"]) for row in of_stage(dataset, "decontaminate")}
    item = [f"{make_doc_id('items.jsonl', f'items.jsonl:{n + 1}')} items.jsonl:{n + 1}" for n in range(12)]
    assert gone == {
        row_id(row): ("evaluation_item", "dropped", f"rows.jsonl:{row + 1}: {item[n]}")
        for row, n in ((20, 3), (40, 5), (60, 5))
    }
    for name in ("rows.jsonl:21", row_id(20)):
        found = trace_document(dataset, name)["document"]
        assert (found["source"], found["locator"]) == ("rows.jsonl", "rows.jsonl:21"), "what went keeps its name"
    kept = [doc_id for split in ("train", "validation") for doc_id in ids_of(dataset, split)]
    assert len(kept) == 172 and not set(gone) & set(kept)
    assert dataset.facts["rules"]["dropped"] == {"decontaminate/evaluation_item": 3}
    facts = dataset.facts["decontamination"]["evaluation"]
    assert (facts["items"], facts["too_short"], facts["left_out"]) == (12, 1, {"read/no_field": 1})
    assert facts["caught"] == {kind: [12, 12] for kind in PLANTED}
    assert facts["false_alarms"]["shuffled"] == [12, 0] and facts["false_alarms"]["unplanted"][1] == 3
    [file] = [f for f in (dataset.folder / "examples").glob("decontaminate-*") if pq.read_metadata(f).num_rows]
    assert {row["doc_id"] for row in pq.read_table(file).to_pylist()} == set(gone)


def test_passages_are_cut_out_where_asked(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    cut = {"against": AGAINST, "action": "cut", "margin": 0}
    dataset = prepared(tmp_path, {**DATA, "decontaminate": cut})
    rules = dataset.facts["rules"]
    assert rules["changed"]["decontaminate/evaluation_item"] == 2
    assert rules["dropped"] == {"decontaminate/evaluation_item": 1}, "of one that is nothing else, nothing stays"
    texts = dict(
        pair
        for split in ("train", "validation")
        for pair in zip(ids_of(dataset, split), texts_of(dataset, split), strict=True)
    )
    assert texts[row_id(20)].split() == text_of(20).split() and texts[row_id(40)].split() == text_of(40).split()


@pytest.mark.parametrize("code", [False, True])
def test_of_a_document_of_an_item_and_white_space_nothing_stays(tmp_path: Path, code: bool) -> None:
    items = [text_of(10_000 + n) for n in range(3)]
    (tmp_path / "texts").mkdir()
    for n in range(20):
        (tmp_path / "texts" / f"{n}.txt").write_text(text_of(n))
    mostly = [items[0] + "\n" * 400, " " * 300 + items[1], "\n" * 300 + items[2] + "\n" * 300 + items[0]]
    for n, text in enumerate(mostly):
        (tmp_path / "texts" / f"item-{n}.{'js' if code else 'txt'}").write_text(text)
    write_rows(tmp_path / "items.jsonl", [{"text": item} for item in items])
    cut = {"against": [{"path": "items.jsonl"}], "action": "cut"}
    data = {"sources": [{"path": "texts"}], "clean": "none", "decontaminate": cut}
    dataset = prepared(tmp_path, {**data, "split": {"validation": 0.1, "by": "document"}})
    assert dataset.facts["rules"]["dropped"] == {"decontaminate/evaluation_item": 3}
    assert dataset.facts["documents"] == 20


def leaky(folder: Path, action: str = "drop", **split: Any) -> tuple[Any, dict[str, str]]:
    """A dataset in which every held-out text of one source stands in a document of another; that by its id."""
    write_rows(folder / "rows.jsonl", [{"text": text_of(n)} for n in range(200)])
    plain = prepared(folder, {"sources": [{"path": "rows.jsonl"}], "split": {"validation": 0.1, **split}})
    held_out = [text for name in plain.facts["splits"] if name != "train" for text in texts_of(plain, name)]
    quotes = [text_of(900 + n, 100) + text.title() + text_of(950 + n, 100) for n, text in enumerate(held_out)]
    write_rows(folder / "quotes.jsonl", [{"text": quote} for quote in quotes])
    data = {
        "sources": [{"path": "quotes.jsonl"}, {"path": "rows.jsonl"}],
        "split": {"validation": 0.1, **split},
        "decontaminate": {"action": action, "margin": 0},
    }
    quoting = {make_doc_id("quotes.jsonl", f"quotes.jsonl:{n + 1}"): quote for n, quote in enumerate(quotes)}
    return prepared(folder, data), quoting


def test_training_documents_that_hold_held_out_text_go(tmp_path: Path) -> None:
    dataset, quoting = leaky(tmp_path, by="document")
    held_out = set(ids_of(dataset, "validation"))
    in_training = set(quoting) - held_out
    assert len(in_training) >= 8
    rows = of_stage(dataset, "decontaminate")
    assert in_training == {row["doc_id"] for row in rows if row["verdict"] == "dropped"} - leaked_rows(rows)
    assert all(row["detail"].split()[0] in held_out and row["rule"] == "held_out_text" for row in rows)
    assert not in_training & set(ids_of(dataset, "train"))
    assert dataset.facts["rules"]["dropped"] == {"decontaminate/held_out_text": len(rows)}
    total = sum(split["documents"] for split in dataset.facts["splits"].values())
    assert dataset.facts["read"]["documents"] == total + len(rows) == dataset.facts["documents"] + len(rows)
    facts = dataset.facts["decontamination"]["held_out"]
    assert facts["caught"]["verbatim"] == facts["caught"]["case"] == [facts["planted"]] * 2
    examples = [
        row for file in (dataset.folder / "examples").glob("leaks-*") for row in pq.read_table(file).to_pylist()
    ]
    assert {row["doc_id"] for row in examples} == set(sorted(row["doc_id"] for row in rows)[:4])
    for row in examples:
        item = next(made["detail"].split()[0] for made in rows if made["doc_id"] == row["doc_id"])
        quoted = dict(zip(ids_of(dataset, "validation"), texts_of(dataset, "validation"), strict=True))[item]
        assert " ".join(quoted.lower().split()[-20:]) in " ".join(row["before"].lower().split()), "the passage is shown"
    left = " ".join(texts_of(dataset, "train")).lower().split()
    for text in texts_of(dataset, "validation"):
        words = text.lower().split()
        assert not contains(left, words), "held-out text is not trained on"


def leaked_rows(rows: list[dict[str, str]]) -> set[str]:
    """Documents of rows.jsonl that went: a quote that is held out itself holds one of them."""
    return {row["doc_id"] for row in rows} & {row_id(n) for n in range(200)}


def contains(words: list[str], wanted: list[str]) -> bool:
    first = wanted[0]
    return any(words[n : n + len(wanted)] == wanted for n, word in enumerate(words) if word == first)


def test_held_out_passages_are_cut_out_of_training_where_asked(tmp_path: Path) -> None:
    dataset, quoting = leaky(tmp_path, "cut", by="document")
    texts = dict(zip(ids_of(dataset, "train"), texts_of(dataset, "train"), strict=True))
    cut = {row["doc_id"] for row in of_stage(dataset, "decontaminate") if row["verdict"] == "changed"} & set(quoting)
    assert len(cut) >= 8
    for doc_id in cut:
        number = list(quoting).index(doc_id)
        assert texts[doc_id].split() == (text_of(900 + number, 100) + text_of(950 + number, 100)).split()


def test_with_a_cut_tail_documents_before_it_go(tmp_path: Path) -> None:
    dataset, quoting = leaky(tmp_path, by="tail")
    gone = {row["doc_id"] for row in of_stage(dataset, "decontaminate") if row["verdict"] == "dropped"}
    assert gone and gone <= set(quoting)
    assert not gone & set(ids_of(dataset, "train"))


def test_a_document_that_the_split_cuts_stays_and_the_ledger_says_so(tmp_path: Path) -> None:
    text = text_of(1, 800)
    (tmp_path / "one.txt").write_text(text + text_of(2, 70) + text_of(3, 400) + text_of(2, 70))
    data: dict[str, Any] = {"sources": [{"path": "one.txt"}], "split": {"validation": 0.2, "by": "tail"}}
    whole = prepared(tmp_path, {**data, "decontaminate": {"action": "drop"}})
    assert [row["verdict"] for row in of_stage(whole, "decontaminate")] == ["kept"]
    cut = prepared(tmp_path, {**data, "decontaminate": {"action": "cut", "margin": 0}})
    assert [row["verdict"] for row in of_stage(cut, "decontaminate")] == ["changed"]
    [before], [after] = texts_of(whole, "train"), texts_of(cut, "train")
    assert "".join(before.split()) == "".join(after.split()).replace(
        "".join(text.split()), "".join((text + text_of(2, 70)).split())
    )


def test_a_long_document_loses_the_passage_and_a_short_one_goes(tmp_path: Path) -> None:
    """7.8% of Python's sources went for 0.1% of it, as long as documents went whole."""
    write_rows(tmp_path / "rows.jsonl", [{"text": text_of(n, 200)} for n in range(200)])
    plain = prepared(tmp_path, {"sources": [{"path": "rows.jsonl"}], "split": {"validation": 0.1, "by": "document"}})
    quoted = " ".join(texts_of(plain, "validation")[0].split()[50:130])
    long, short = text_of(900, 400) + f"«{quoted.upper()}!» " + text_of(901, 400), text_of(902, 70) + quoted
    write_rows(tmp_path / "quotes.jsonl", [{"text": long}, {"text": short}])
    data = {"sources": [{"path": "quotes.jsonl"}, {"path": "rows.jsonl"}], "split": {"validation": 0.1}}
    dataset = prepared(tmp_path, data)
    ids = [make_doc_id("quotes.jsonl", f"quotes.jsonl:{n}") for n in (1, 2)]
    assert not set(ids) & set(ids_of(dataset, "validation")), "both are for training, by their ids"
    rows = {row["doc_id"]: (row["verdict"], row["value"]) for row in of_stage(dataset, "decontaminate")}
    assert rows == {ids[0]: ("changed", "80"), ids[1]: ("dropped", "80")}
    left = dict(zip(ids_of(dataset, "train"), texts_of(dataset, "train"), strict=True))[ids[0]]
    words, before, after = left.split(), text_of(900, 400).split(), text_of(901, 400).split()
    cut = len(before) - next(n for n, (a, b) in enumerate(zip(words, before, strict=False)) if a != b)
    assert words == before[: len(before) - cut] + after[-(len(words) - len(before) + cut) :], "no half words"
    assert 5 < cut < 60 and len(words) > 700
    kept = sum(len(text.encode()) for split in ("train", "validation") for text in texts_of(dataset, split))
    assert dataset.facts["flow"][-1]["text_bytes"] == kept, "also what was cut out is no longer counted"


def test_source_files_lose_whole_functions_and_still_parse(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for n in range(120):  # each two share a function
        own = [(f"own_{n}_{k}", text_of(6 * n + k, 40)) for k in range(5)]
        own.insert(2, (f"shared_{n // 2}", text_of(5000 + n // 2, 100)))
        defined = [
            f'def {name}(x):\n    """{text}    """\n    if x:\n        return 1\n    return 0\n\n\n'
            for name, text in own
        ]
        (tmp_path / "lib" / f"m{n:03d}.py").write_text("".join(defined))
    data = {"sources": [{"path": "lib"}], "split": {"validation": 0.1}}
    dataset = prepared(tmp_path, data)
    changed = {row["doc_id"]: row["detail"] for row in of_stage(dataset, "decontaminate")}
    texts = dict(zip(ids_of(dataset, "train"), texts_of(dataset, "train"), strict=True))
    files = (tmp_path / "lib").iterdir()
    whole = {make_doc_id("lib", f"lib/{path.name}"): path.read_text().rstrip() + "\n" for path in files}
    gone = {doc_id: len(whole[doc_id]) - len(texts[doc_id]) for doc_id in changed}
    assert {doc_id: said.partition(": ")[2] for doc_id, said in changed.items()} == {
        doc_id: f"{n:,} of {len(whole[doc_id]):,} characters cut out" for doc_id, n in gone.items()
    }
    rule = "decontaminate/held_out_text"
    assert dataset.facts["cut_bytes"] == {rule: sum(gone.values())} and dataset.facts["dropped_bytes"] == {}
    steps = dataset.facts["flow"]
    assert steps[-2]["text_bytes"] - steps[-1]["text_bytes"] == sum(gone.values()), "cut out, and nowhere else"
    [told] = [own for own in report_data(dataset)["rules"] if own["rule"] == "held_out_text"]
    assert (told["changed"], told["cut_bytes"]) == (len(gone), sum(gone.values()))
    assert len(changed) >= 5 and dataset.facts["rules"]["dropped"] == {}
    for doc_id, text in texts.items():
        names = [found.name for found in ast.parse(text).body if isinstance(found, ast.FunctionDef)]
        assert len(names) == (5 if doc_id in changed else 6)
        assert doc_id not in changed or all(name.startswith("own") for name in names)


def test_a_form_that_many_documents_share_is_no_leak(tmp_path: Path) -> None:
    """The first word that differs does not make evidence of the form before it."""
    ask = "What is this question asking for?"
    ends = [" ".join(words_of(random.Random(n), 7)) for n in range(400)]
    asked = [
        f"{ask}\n\nWhat {'is' if n % 2 else 'are'} {'abcdefghij'[n % 10] * 4} {end}?" for n, end in enumerate(ends)
    ]
    write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in asked])
    data = {"sources": [{"path": "rows.jsonl"}], "split": {"validation": 0.1}, "decontaminate": {"common": 50}}
    dataset = prepared(tmp_path, data)
    assert dataset.facts["rules"]["dropped"] == {} and dataset.facts["decontamination"]["held_out"]["items"] > 20
    assert dataset.facts["decontamination"]["held_out"]["common"] > 0
    caught = dataset.facts["decontamination"]["held_out"]["caught"]["verbatim"]
    assert caught[0] == caught[1], "and what is a leak is found as ever"


def test_what_many_training_documents_hold_is_no_leak(tmp_path: Path) -> None:
    footer = text_of(77, 60)
    write_rows(tmp_path / "rows.jsonl", [{"text": text_of(n) + footer} for n in range(150)])
    data = {"sources": [{"path": "rows.jsonl"}], "split": {"validation": 0.1, "by": "document"}}
    dataset = prepared(tmp_path, data)
    assert dataset.facts["rules"]["dropped"] == {}
    assert dataset.facts["decontamination"]["held_out"]["common"] > 40
    with pytest.raises(DataError, match=r"\d+ of \d+ training documents hold text of the validation") as refused:
        prepared(tmp_path, {**data, "decontaminate": {"common": 1000}})
    assert "shared_lines" in refused.value.remedy
    off = prepared(tmp_path, {**data, "decontaminate": {"common": 1000, "validation": False}})
    assert off.facts["decontamination"] == {}


def test_held_out_documents_too_short_to_be_looked_for_are_counted(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"text": f"only a few words, number {n}"} for n in range(200)])
    dataset = prepared(tmp_path, {"sources": [{"path": "rows.jsonl"}], "split": {"validation": 0.1}})
    facts = dataset.facts["decontamination"]["held_out"]
    assert facts["items"] == facts["planted"] == 0
    assert facts["too_short"] == dataset.facts["splits"]["validation"]["documents"] > 5


def test_the_test_split_is_kept_apart_too(tmp_path: Path) -> None:
    dataset, quoting = leaky(tmp_path, by="document", test=0.1)
    held_out = {*ids_of(dataset, "validation"), *ids_of(dataset, "test")}
    found_in = {row["detail"].split()[0] for row in of_stage(dataset, "decontaminate")}
    assert found_in <= held_out and found_in & set(ids_of(dataset, "test"))
    assert set(quoting) - held_out <= {row["doc_id"] for row in of_stage(dataset, "decontaminate")}


def test_evaluation_files_without_an_item_stop_the_run(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    write_rows(tmp_path / "items.jsonl", [{"question": "too short"}, {"question": ""}])
    said = r"gives no item of 8 words or more: 1 shorter; 1 row left out by read/\w+\n"
    with pytest.raises(DataError, match=said):
        prepared(tmp_path, DATA)


LEAKS = {"held_out", "held_out_index", "hits", "leaks", "recall"}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"against": AGAINST, "common": 5}, {"leaks"}),
        ({"against": AGAINST, "share": 0.6}, {"decontaminate", "digest", "signature", "leaks", "recall"}),
        ({"against": []}, {"digest", "signature", *LEAKS} - {"held_out_index"}),
        ({"against": AGAINST, "validation": False}, set()),
    ],
)
def test_a_change_redoes_only_what_follows_it(
    tmp_path: Path, corpus: tuple[Path, Dataset], change: dict[str, Any], again: set[str]
) -> None:
    shutil.copytree(corpus[0], tmp_path, dirs_exist_ok=True)
    done: list[Done] = []
    prepared(tmp_path, {**DATA, "decontaminate": change}, done=done)
    made = {kind for kind, (_, new) in reused(done).items() if new}
    assert made - {"exact", "candidates", "shingles", "near", "assign", "encode"} == again


def test_the_manifest_tells_of_the_options_that_were_used(tmp_path: Path) -> None:
    """Same tokens, other options: another dataset of the same fingerprint, for it says something else."""
    write_corpus(tmp_path)
    first = prepared(tmp_path, {**DATA, "decontaminate": {"words": 50}})
    again = prepared(tmp_path, {**DATA, "decontaminate": {"words": 5000, "share": 1.0}})
    assert first.fingerprint == again.fingerprint and first.folder != again.folder
    said = (set_.facts["decontamination"]["held_out"]["caught"]["one_word_in_20"] for set_ in (first, again))
    before, after = said
    assert before[1] > after[1]


def test_a_page_of_little_but_shared_lines_goes_whole(tmp_path: Path) -> None:
    gone = "The first edition of this book is no longer to be had.\nYou may want to read the current one instead.\n"
    rows = [{"text": f"Title {n}\n{gone}"} for n in range(20)] + [{"text": f"{text_of(n)}{gone}"} for n in range(5)]
    write_rows(tmp_path / "rows.jsonl", rows)
    data: dict[str, Any] = {"sources": [{"path": "rows.jsonl"}], "split": {"validation": 0}, "clean": "none"}
    dataset = prepared(tmp_path, {**data, "deduplicate": "none", "shared_lines": {}})
    assert {verdict: sum(rules.values()) for verdict, rules in dataset.facts["rules"].items()} == {
        "dropped": 19,
        "changed": 5,
    }
    assert texts_of(dataset, "train") == [rows[0]["text"], *(text_of(n) for n in range(5))]
    kept = prepared(tmp_path, {**data, "deduplicate": "none", "shared_lines": {"most_of_a_document": 1.0}})
    assert kept.facts["documents"] == 25


FOOTER = "All rights reserved by the people who made this page."
SHARED: dict[str, Any] = {
    "sources": [{"path": "a.jsonl"}, {"path": "b"}],
    "shared_lines": {"documents": 10},
    "split": {"validation": 0},
    "clean": "none",
}


def write_pages(folder: Path) -> dict[str, str]:
    """Pages of two sources, several parts; all end with a footer, few with another line. The texts by locator."""
    pages = {f"a.jsonl:{n + 1}": f"{text_of(n, 400)}{FOOTER}\n" for n in range(30)}
    pages |= {
        f"b/{n:02d}.txt": f"  {FOOTER}\nA line that only nine of all pages hold.\n{text_of(100 + n, 300)}"
        for n in range(9)
    }
    pages["b/98.txt"] = f"{FOOTER}\n\n{FOOTER}\n"
    pages["b/99.py"] = f"{FOOTER}\n" * 3
    write_rows(folder / "a.jsonl", [{"text": text} for name, text in pages.items() if name.startswith("a.")])
    for name, text in pages.items():
        if name.startswith("b/"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
    return pages


@pytest.mark.parametrize("keep", ["first", "none"])
def test_shared_lines_go_from_all_but_the_first(tmp_path: Path, keep: str) -> None:
    pages = write_pages(tmp_path)
    dataset = prepared(tmp_path, {**SHARED, "shared_lines": {"documents": 10, "keep": keep, "indented": True}})
    assert dataset.facts["shards"] >= 2
    expected = []
    for name, text in pages.items():
        stays = name.endswith(".py") or (keep == "first" and name == "a.jsonl:1")
        kept = text if stays else "\n".join(line for line in text.split("\n") if line.strip() != FOOTER)
        expected += [kept] if kept.strip() else []
    assert sorted(texts_of(dataset, "train")) == sorted(expected)
    changed = Counter((row["rule"], row["verdict"]) for row in of_stage(dataset, "deduplicate"))
    assert changed == {("shared_lines", "changed"): 29 + 9 + (keep == "none"), ("shared_lines", "dropped"): 1}
    assert dataset.facts["rules"]["changed"] == {"deduplicate/shared_lines": 29 + 9 + (keep == "none")}
    assert list((dataset.folder / "examples").glob("shared_lines-*"))


def test_a_line_of_exactly_so_many_documents_stays(tmp_path: Path) -> None:
    write_pages(tmp_path)
    data = {**SHARED, "shared_lines": {"documents": 31}}  # with 98.txt it is 31; indented and code do not count
    assert "changed" in prepared(tmp_path, {**SHARED, "shared_lines": {"documents": 30}}).facts["rules"]
    assert prepared(tmp_path, data).facts["rules"]["changed"] == {}


def test_shared_lines_redo_only_the_parts_that_lose_others(tmp_path: Path) -> None:
    write_pages(tmp_path)
    parts = prepared(tmp_path, SHARED).facts["shards"]
    (tmp_path / "more.txt").write_text(text_of(7777))
    done: list[Done] = []
    more = {**SHARED, "sources": [*SHARED["sources"], {"path": "more.txt"}]}
    together = prepared(tmp_path, more, done=done)
    found = reused(done)
    assert found["lines"] == found["shared_lines"] == found["digest"] == (parts, 1) and found["shared"] == (0, 1)
    done.clear()
    prepared(tmp_path, {**more, "shared_lines": {"documents": 12}}, done=done)
    assert reused(done)["lines"] == (parts + 1, 0), "the lines are counted once"
    alone = prepared(tmp_path, more, workspace="alone")
    assert hashes(together.folder) == hashes(alone.folder)


def test_trace_shows_what_was_taken_out_of_a_document(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    write_pages(tmp_path)
    cut = {"against": AGAINST, "action": "cut", "margin": 0}
    sources = [*DATA["sources"], *SHARED["sources"]]
    data = {**DATA, "sources": sources, "clean": ["strip", "blank_lines"], "decontaminate": cut, "shared_lines": {}}
    dataset = prepared(tmp_path, data)
    [verdict] = trace_document(dataset, "a.jsonl:9")["verdicts"]
    assert (verdict["rule"], verdict["step"]) == ("shared_lines", 2)
    assert FOOTER in verdict["before"] + verdict["after"] and FOOTER not in verdict["after"]
    [verdict] = trace_document(dataset, "rows.jsonl:41")["verdicts"]
    assert (verdict["rule"], verdict["verdict"], verdict["step"]) == ("evaluation_item", "changed", 3)
    assert verdict["after"].split()[:5] == text_of(40).split()[:5]
    gone = trace_document(dataset, "rows.jsonl:61")
    assert gone["verdicts"][-1]["verdict"] == "dropped" and gone["verdicts"][-1]["after"] is None
    flow = [(step["stage"], step["name"]) for step in dataset.facts["flow"]]
    assert flow[:5] == [
        ("read", "read"),
        ("clean", "strip"),
        ("clean", "blank_lines"),
        ("shared_lines", "shared_lines"),
        ("decontaminate", "decontaminate"),
    ]
    assert dataset.facts["flow"][-1]["documents"] == dataset.facts["documents"]
    assert set(dataset.facts["dropped_bytes"]) == set(dataset.facts["rules"]["dropped"])


def test_any_executor_gives_the_same_bytes(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    write_pages(tmp_path)
    sources = [*DATA["sources"], *SHARED["sources"]]
    data = {**DATA, "sources": sources, "shared_lines": {"documents": 10}}
    one = prepared(tmp_path, data, workspace="one")
    two = prepared(tmp_path, data, workspace="two", workers=2)
    ray = prepared(tmp_path, data, workspace="ray", workers=2, executor="ray")
    assert one.facts["rules"]["changed"] and one.facts["rules"]["dropped"]
    assert hashes(one.folder) == hashes(two.folder) == hashes(ray.folder)
    assert hashes(tmp_path / "one/tasks") == hashes(tmp_path / "two/tasks") == hashes(tmp_path / "ray/tasks")
