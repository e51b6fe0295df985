"""The report of a dataset: figures against counts made by reading everything; a page that data cannot break out of."""

from __future__ import annotations

import difflib
import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs.conftest import Cli
from tests.jobs.helpers import WORDS, write_texts
from tests.jobs.test_pipeline import ledger_of
from tests.jobs.test_report import Page
from tilth.cli.trace_display import print_report
from tilth.core.config import parse
from tilth.data.config import DataConfig
from tilth.data.dataset import Dataset, open_dataset
from tilth.data.document import read_tables, table_documents
from tilth.data.ledger import open_ledger
from tilth.data.plans.pipeline import prepare
from tilth.data.plans.workshop import Workshop
from tilth.jobs.pages import data_page
from tilth.jobs.pages.compared import compared_examples
from tilth.jobs.pages.data_page import differences
from tilth.jobs.pages.data_report import report_data, write_page
from tilth.tokenizer import TokenizerConfig

pytestmark = pytest.mark.slow

HOSTILE = "</pre></style><script>alert(1)</script>{{ 7 * 7 }} <!-- https://evil.example/?a=b&c='\" \x1b[31m"
CLEAN = ["strip", {"min_length": {"characters": 60}}, {"cut": {"characters": 600, "min_characters": 100}}]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    base, draw = tmp_path_factory.mktemp("report"), random.Random(5)
    write_texts(base / "texts", documents=80)
    long = "".join(" ".join(draw.choices(WORDS, k=9)) + ".\n" for _ in range(9))
    for number in range(4):
        (base / "texts" / f"near-{number}.txt").write_text(f"{long}And {number} more.\n")
    (base / "texts" / "short.txt").write_text(HOSTILE[:30])
    (base / "texts" / ("odd " + HOSTILE.replace("/", "∕") + ".txt")).write_text(f"  {HOSTILE}\n" + long[:200] + "  \n")
    (base / "texts" / "empty.txt").touch()
    (base / "code").mkdir()
    (base / "code" / "a.py").write_text("# a comment that is long enough\n" + "x = 1\n" * 60)
    sources = [{"path": "texts"}, {"path": "code"}]
    data = {"sources": sources, "clean": CLEAN, "deduplicate": "near", "split": {"validation": 0.1, "by": "tail"}}
    config = parse(DataConfig, {"shard_bytes": 65536, **data}, "data")
    return prepare(config, parse(TokenizerConfig, {"kind": "byte"}), "small", base, Workshop(base / "work"))


def rows_of(dataset: Dataset) -> list[tuple[str, Any, int]]:
    """(split, document, tokens) of everything that is left: its bytes, and an end-of-text."""
    return [
        (split, document, len(document.text.encode()) + 1)
        for split in dataset.facts["splits"]
        for path in sorted((dataset.folder / "documents" / split).iterdir())
        for table in read_tables(path)
        for document in table_documents(table)
    ]


def test_figures_equal_what_reading_everything_counts(dataset: Dataset) -> None:
    figures, rows = report_data(dataset), rows_of(dataset)
    for name, own in figures["sources"].items():
        tokens = [tokens for _, document, tokens in rows if document.source == name]
        assert (own["documents"], own["tokens"]) == (len(tokens), sum(tokens))
    assert [*figures["languages"]] == ["not stated"] and [*figures["code"]] == ["python"], "code says what it is"
    assert figures["languages"]["not stated"]["documents"] == len(rows)
    lengths = sorted(tokens for _, _, tokens in rows)
    quantiles = figures["lengths"]["quantiles"]
    assert (quantiles["0.0"], quantiles["1.0"]) == (lengths[0], lengths[-1])
    assert quantiles["0.5"] == lengths[(len(lengths) + 1) // 2 - 1]
    for own in figures["lengths"]["histogram"]:
        inside = [tokens for tokens in lengths if own["from"] <= tokens < 2 * own["from"]]
        assert (own["documents"], own["tokens"]) == (len(inside), sum(inside))
    assert sum(own["documents"] for own in figures["lengths"]["histogram"]) == len(lengths)


def test_languages_and_source_code_are_counted_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_texts(tmp_path / "texts", documents=30)
    for name in ("a.py", "b.zig", "c.zig"):
        (tmp_path / "texts" / name).write_text(f"// {name}\n" + "const x = 1;\n" * 30)
    talks = [
        [{"role": "user", "content": f"Compute {n}, please."}, {"role": "assistant", "content": f"{n} it is."}]
        for n in range(9)
    ]
    takes = {"type": "object", "code": "string", "language": "string"}  # of the tool, not of the document
    tools = [{"type": "function", "function": {"name": "run", "parameters": takes}}]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps({"m": talk, "t": tools}) + "\n" for talk in talks))
    sources = [{"path": "talks.jsonl", "map": {"messages": "m", "tools": "t"}}, {"path": "texts"}]
    data = {"sources": sources, "clean": ["language"], "split": {"validation": 0.1, "by": "tail"}}
    config, tokenizer = parse(DataConfig, data, "data"), parse(TokenizerConfig, {"kind": "byte"})
    made = prepare(config, tokenizer, "apart", tmp_path, Workshop(tmp_path / "work"))
    figures, rows = report_data(made), rows_of(made)
    assert any("tools" in document.meta for _, document, _ in rows)
    for figure, key in (("languages", "language"), ("code", "code")):
        expected: dict[str, dict[str, int]] = {}
        for _, document, tokens in rows:
            if key in document.meta:
                own = expected.setdefault(document.meta[key], {"documents": 0, "tokens": 0})
                own["documents"], own["tokens"] = own["documents"] + 1, own["tokens"] + tokens
        assert figures[figure] == expected
    assert {name: own["documents"] for name, own in figures["code"].items()} == {"python": 1, "zig": 2}
    assert "Source code" in Page(write_page(made, figures, tmp_path / "page.html").read_text("utf-8")).text
    print_report(figures)
    assert "source code" in capsys.readouterr().out


def test_the_flow_ends_with_what_is_left(dataset: Dataset) -> None:
    flow, facts, rows = report_data(dataset)["flow"], dataset.facts, rows_of(dataset)
    assert [step["name"] for step in flow] == ["read", "strip", "min_length", "cut", "exact", "near", "assign", "leaks"]
    assert flow[0] == {"stage": "read", "name": "read", **facts["read"]}
    assert flow[-1]["documents"] == facts["documents"]
    assert flow[-1]["text_bytes"] == sum(tokens - 1 for _, _, tokens in rows)
    dropped = facts["rules"]["dropped"]
    sizes = {step["name"]: step["documents"] for step in flow}
    assert sizes["strip"] - sizes["min_length"] == dropped["clean/min_length"] == 1
    assert sizes["cut"] - sizes["exact"] == dropped["deduplicate/exact_duplicate"]
    assert sizes["exact"] - sizes["near"] == dropped["deduplicate/near_duplicate"] >= 3
    by_rule = {f"{rule['stage']}/{rule['rule']}": rule for rule in report_data(dataset)["rules"]}
    assert by_rule["clean/min_length"]["dropped_bytes"] == len(HOSTILE[:30].strip().encode())
    assert by_rule["read/empty"]["dropped_bytes"] is None


def test_clusters_are_those_of_the_ledger(dataset: Dataset) -> None:
    rows = [row for file in sorted((dataset.folder / "ledger").iterdir()) for row in pq.read_table(file).to_pylist()]
    went = Counter(row["detail"] for row in rows if row["rule"] == "near_duplicate")
    clusters = report_data(dataset)["clusters"]
    assert {cluster["kept"]: cluster["members"] for cluster in clusters["largest"]} == went
    assert clusters["clusters"] == len(went) and clusters["documents"] == sum(went.values())
    largest = clusters["largest"][0]
    assert largest["members"] == 3 and all(0.75 <= e["similarity"] < 1 for e in largest["examples"])
    assert {e["locator"] for e in largest["examples"]} | {largest["locator"]} == {
        f"texts/near-{number}.txt{piece}" for number in range(4) for piece in (largest["locator"].partition(".txt")[2],)
    }


def test_the_page_is_whole_and_says_the_figures(dataset: Dataset, tmp_path: Path) -> None:
    figures = report_data(dataset)
    html = write_page(dataset, figures, tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not page.faults
    assert "://" not in html and "\x1b" not in html and "<script" not in html
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe")]
    assert "88 documents" in page.text and "became 110" in page.text, "cut documents are not more than all of them"
    for value in (figures["documents"], figures["clusters"]["documents"], figures["flow"][0]["documents"]):
        assert f"{value:,}" in page.text
    assert "{{ 7 * 7 }}" in page.text and "texts/near-" in page.text
    anchors = {str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"}
    assert anchors <= {str(attributes.get("id")) for _, attributes in page.tags}
    recipe = next(pre for _, pre in page.texts if pre.startswith("data:"))
    assert "min_characters: 100" in recipe and "kind: byte" in recipe


def test_what_went_for_another_is_shown_beside_it(dataset: Dataset, tmp_path: Path) -> None:
    figures = report_data(dataset)
    page = Page(write_page(dataset, figures, tmp_path / "page.html").read_text(encoding="utf-8"))
    went = [row for row in ledger_of(dataset) if row["rule"] == "near_duplicate"]
    for row in sorted(went, key=lambda row: row["doc_id"])[:3]:
        kept = next(c["locator"] for c in figures["clusters"]["largest"] if c["kept"] == row["detail"])
        assert f"{row['value']} like {kept}" in page.text
    assert "texts/empty.txt: no text" in page.text, "what never became a document says why"
    assert not any("bare" in str(attributes.get("class")) for tag, attributes in page.tags if tag == "details")


def test_the_texts_of_duplicates_are_those_that_were_compared(dataset: Dataset) -> None:
    with open_ledger(dataset) as ledger:
        rows = compared_examples(dataset, ledger, 3)
    near = [row for row in rows if row["rule"] == "near_duplicate"]
    assert len(near) == 3
    left = {document.doc_id: document.text for _, document, _ in rows_of(dataset)}
    for row in near:
        number = row["locator"].partition(".txt")[0][-1]
        assert f"And {number} more." in row["before"] and row["after"] in left[row["detail"]]
        assert row["characters"] >= len(row["before"]) > 100
    files = sorted(path.name for path in (dataset.folder.parent.parent / "tasks").iterdir())
    assert files, "texts come from here"


def test_without_the_workspace_there_are_no_such_texts(dataset: Dataset, tmp_path: Path) -> None:
    alone = tmp_path / "away" / "datasets" / "copy"
    shutil.copytree(dataset.folder, alone)
    copy = open_dataset(alone)
    with open_ledger(copy) as ledger:
        assert compared_examples(copy, ledger, 3) == []
    page = Page(write_page(copy, report_data(copy), tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Its documents are no longer in the workspace." in page.text and not page.faults


def test_leaks_are_told(dataset: Dataset, tmp_path: Path) -> None:
    figures = report_data(dataset)
    own = figures["leaks"]["held_out"]
    page = Page(write_page(dataset, figures, tmp_path / "page.html").read_text(encoding="utf-8"))
    found, planted = own["caught"]["verbatim"][1], own["caught"]["verbatim"][0]
    assert planted > 0 and re.search(rf"as they are\s*{found} of {planted}\b", page.text)
    assert f"{own['items']} looked for" in page.text
    own["caught"]["verbatim"], own["common"] = [planted, found - 1], 3
    page = Page(write_page(dataset, figures, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "3 runs of words that many training documents share (data.decontaminate.common) left out" in page.text


def test_the_page_stays_small_whatever_the_data(dataset: Dataset) -> None:
    figures = report_data(dataset)
    figures["rules"] = [
        {
            "stage": "clean",
            "rule": f"rule-{n}" + "&" * 999,
            "changed": n,
            "dropped": n,
            "dropped_bytes": n,
            "cut_bytes": None,
        }
        for n in range(500)
    ]
    figures["sources"] = {f"{n}" + "<" * 9999: figures["sources"]["texts"] for n in range(1000)}
    figures["languages"] = {f"{n}" + "'" * 9999: {"documents": 1, "tokens": 1} for n in range(1000)}
    figures["code"] = figures["languages"]
    example = {"stage": "clean", "verdict": "changed", "value": "'" * 999, "doc_id": "0" * 32, "source": "&" * 999}
    example |= {"locator": "'" * 9999, "before": "'a" * 600, "after": "&b" * 600, "characters": 99999}
    example |= {"note": "<" * 9999}
    examples = {("clean", rule["rule"], "changed"): [example] * 3 for rule in figures["rules"]}
    figures["recipe"] = {"data": "'" * 99_999}
    largest = figures["clusters"]["largest"][0]
    cluster = {**largest, "locator": "'" * 9999, "examples": [{**largest["examples"][0], "locator": "&" * 9999}] * 6}
    figures["clusters"]["largest"] = [cluster] * 12
    page = data_page.render(figures, examples)
    assert len(page) < 2_000_000 and not Page(page.decode()).faults


@given(st.text("ab \n.", max_size=300), st.text("ab \n.", max_size=300))
def test_differences_hold_both_texts(before: str, after: str) -> None:
    spans = differences(before, after, 10_000)
    plain = str.maketrans({"·": " ", "↵": None})

    def side(*kinds: str) -> int:
        return sum(
            int(span.text) if span.kind == "cut" else len(span.text.translate(plain))
            for span in spans
            if span.kind in (*kinds, "same", "cut")
        )

    assert side("gone") == len(before) and side("came") == len(after)
    if before == after:
        assert {span.kind for span in spans} <= {"same", "cut"}
    else:
        assert {"gone", "came"} & {span.kind for span in spans}
    matcher = difflib.SequenceMatcher(None, before, after)
    assert matcher.ratio() < 1 or before == after


def test_the_end_of_clipped_texts_is_no_difference() -> None:
    words = " ".join(np.random.default_rng(0).permutation(400).astype(str))
    spans = differences("zero " + words, words, 700)
    assert [span.kind for span in spans if span.kind in ("gone", "came")] == ["gone"]


def test_the_command(cli: Cli, trained: Path) -> None:
    figures = cli("report", "small", "--html", "page.html", "--json").json()
    of_run = cli("report", "runs/small", "--json").json()
    assert {**of_run, "folder": ""} == {**figures, "folder": ""} and of_run["folder"].endswith(figures["folder"])
    assert figures["documents"] == 120 and (trained / "page.html").stat().st_size < 2_000_000
    shown = cli("report", "small").out
    assert shown.startswith(f"{figures['folder']}\n") and "exact duplicates" in shown
    assert json.loads(json.dumps(figures))["flow"][0]["documents"] == 121
    cli("report", "elsewhere").expect_fault(2, "elsewhere", str(trained / "work" / "datasets"))
    away = cli("report", "small", "--workspace", "away")
    away.expect_fault(2, str(trained / "away" / "datasets"), "name its workspace by --workspace")
    for folder, shown in ((".", "."), ("", "."), ("runs", "runs"), ("..", "..")):
        cli("report", "small", "--html", folder).expect_fault(2, f"--html {shown}: this is a folder", "name a file")
