"""`tilth trace` by the address of a page that several WARC files have, as files of Common Crawl do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.conftest import Cli
from tilth.core.config import parse
from tilth.data.config import DataConfig
from tilth.data.dataset import Dataset
from tilth.data.document import make_doc_id
from tilth.data.plans.pipeline import prepare
from tilth.data.plans.workshop import Workshop
from tilth.data.sources.web.warc import make_record
from tilth.jobs.trace import trace_documents
from tilth.tokenizer import TokenizerConfig

pytestmark = pytest.mark.slow

SAME = "The same words about the harvest of barley in a cold spring of the year.\n"
PAGES = {
    "a": [("x", "1", "tiny"), ("y", "1", SAME), ("z", "1", "One page about rye, as it was in the first month.\n")],
    "b": [
        ("x", "2", "A longer page about wheat.\n"),
        ("y", "2", SAME),
        ("z", "2", "Another page about oats.\n"),
        ("z", "3", "The page about oats, once more, with what had changed.\n"),
    ],
}


def date(month: str) -> str:
    return f"2026-0{month}-01T00:00:00Z"


def write_files(folder: Path) -> None:
    folder.mkdir()
    for name, pages in PAGES.items():
        records = (
            make_record("conversion", f"http://e.org/{page}", date(month), text.encode(), "text/plain")[1]
            for page, month, text in pages
        )
        (folder / f"{name}.wet.gz").write_bytes(b"".join(records))


def made(base: Path, work: str, **data: object) -> Dataset:
    whole = {"sources": [{"path": "web"}], "deduplicate": "exact", "split": {"validation": 0}, **data}
    config = parse(DataConfig, whole, "data")
    return prepare(config, parse(TokenizerConfig, {"kind": "byte"}), "web", base, Workshop(base / work))


def fates(dataset: Dataset, name: str) -> dict[str, str]:
    return {one["document"]["locator"]: one["fate"] for one in trace_documents(dataset, name)}


def test_each_file_s_page_of_an_address_is_a_document_and_found_by_it(tmp_path: Path, cli: Cli) -> None:
    write_files(tmp_path / "web")
    dataset = made(tmp_path, "work")
    a, b = "web/a.wet.gz!http://e.org", "web/b.wet.gz!http://e.org"
    assert fates(dataset, "http://e.org/x") == {f"{a}/x": "dropped by clean/min_length", f"{b}/x": "kept in train"}
    assert sorted(fates(dataset, "http://e.org/y").values()) == [
        "dropped by deduplicate/exact_duplicate",
        "kept in train",
    ]
    in_order = [f"{a}/z", f"{b}/z", f"{b}/z {date('3')}"]
    assert list(fates(dataset, "http://e.org/z")) == in_order
    assert list(fates(dataset, f"{a}/z")) == [f"{a}/z"]
    assert list(fates(dataset, f"{b}/z")) == [f"{b}/z"], "and not the later page of that place"
    told = cli("trace", "web", "--doc", "http://e.org/z", "--json")
    assert [one["document"]["locator"] for one in told.json()["documents"]] == in_order
    assert "document 3 of 3" in told.out
    cli("trace", "web", "--doc", "http://e.org/w").expect_fault(3, "did you mean", "http://e.org/")


def test_ids_do_not_depend_on_which_files_are_read_together(tmp_path: Path) -> None:
    write_files(tmp_path / "web")
    expected = {make_doc_id("web", one) for one in fates(made(tmp_path, "work"), "http://e.org/z")}
    apart = made(tmp_path, "apart", shard_bytes=65536)
    (tmp_path / "web" / "a.wet.gz").rename(tmp_path / "a.wet.gz")
    alone = made(tmp_path, "alone")
    assert {one["document"]["doc_id"] for one in trace_documents(apart, "http://e.org/z")} == expected
    assert {one["document"]["doc_id"] for one in trace_documents(alone, "http://e.org/z")} < expected
