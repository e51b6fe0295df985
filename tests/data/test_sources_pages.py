"""HTML and PDF as files of a source: one process for many files, and what a document knows of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.data.pdfs import SCAN, make_pdf, without_pages
from tilth.core.config import parse
from tilth.core.errors import DataError, RecipeError
from tilth.core.worker import Worker
from tilth.data import extract
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_input
from tilth.data.sources.pages import _more_room
from tilth.data.sources.unusable import notes
from tilth.data.tasks import collect

pytest.importorskip("trafilatura")
pytest.importorskip("pypdfium2")

PAGE = """<html><head><title>{title}</title><meta name="date" content="2020-01-02"></head><body><p>{text}</p>
<a rel="license" href="https://creativecommons.org/licenses/by/4.0/">CC BY</a></body></html>"""
WORDS = "A page about one thing, and enough of it to be more than a menu."


def source(**data: Any) -> SourceConfig:
    return parse(SourceConfig, {"path": "pages", **data})


def read(folder: Path, config: SourceConfig) -> list[Outcome]:
    with extract.Extractors(config.extract) as extractors:
        return [
            o
            for item in list_inputs(config, folder, folder)
            for o in read_input(item, config, extractors, among_many=True)
        ]


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.html").write_text(PAGE.format(title="Größe", text=WORDS), encoding="cp1252")
    (folder / "b.htm").write_text(PAGE.format(title="B", text=WORDS))
    (folder / "c.pdf").write_bytes(make_pdf([WORDS], title="A paper"))
    (folder / "d.pdf").write_bytes(b"broken")
    (folder / "e.xhtml").write_text("")
    return tmp_path


@pytest.mark.slow
def test_pages_and_pdfs_are_documents_that_know_title_date_and_licence(pages: Path) -> None:
    a, b, c, d, e = read(pages, source())
    assert a.document and b.document and c.document
    assert a.document.meta == {"title": "Größe", "date": "2020-01-02"}  # it does not say what it is in
    assert [(v.rule, v.value, v.verdict) for v in a.verdicts] == [("charset", "cp1252", "changed")]
    assert b.document.license == "CC BY 4.0" and b.document.locator == "pages/b.htm"
    assert c.document.text == WORDS and c.document.meta == {"title": "A paper", "date": "2024-01-31"}
    assert [(o.verdicts[-1].rule, o.verdicts[-1].verdict) for o in (d, e)] == [
        ("broken", "dropped"),
        ("empty", "dropped"),
    ]


@pytest.mark.slow
def test_the_recipe_s_licence_and_choices_come_first(pages: Path) -> None:
    (pages / "pages" / "a.html").write_text(PAGE.format(title="Величина", text=WORDS), encoding="cp1251")
    outcomes = read(pages, source(license="private", invalid_utf8="drop", extract={"max_bytes": 400}))
    assert [o.document.license for o in outcomes if o.document] == ["private"]
    rules = [o.verdicts[-1].rule for o in outcomes if o.document is None]
    assert rules == ["invalid_utf8", "too_large", "broken", "empty"]


@pytest.mark.slow
def test_a_task_reads_many_pages_with_one_process(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    begin = Worker.__init__

    def counted(self: Any, *arguments: Any) -> None:
        started.append(arguments)
        begin(self, *arguments)

    monkeypatch.setattr(Worker, "__init__", counted)
    for n in range(10):
        (pages / "pages" / f"more{n}.html").write_text(PAGE.format(title=n, text=WORDS))
    (pages / "out").mkdir()
    inputs = list(list_inputs(source(), pages, pages))
    facts = collect.collect(pages / "out", source(), inputs, [], 1 << 20)
    assert facts["parts"][0]["documents"] == 13 and facts["rules"]["dropped"]["read/broken"] == 1
    (said,) = facts["lost"]["first"]
    assert facts["lost"]["files"] == 1 and said[0].startswith("pages/d.pdf: it is no PDF"), (
        "it is named, an empty one not"
    )
    assert [what for _, what, _ in started] == ["reads HTML", "reads PDF"]
    table = pq.read_table(pages / "out" / "part-00000.parquet").to_pylist()
    assert json.loads(table[-1]["meta"])["title"] == "9"


@pytest.mark.slow
def test_a_page_that_needs_more_time_is_lost_and_what_gives_it_is_said(pages: Path) -> None:
    (pages / "pages" / "a.html").write_text("<html><body>" + "<p>word</p>" * 300_000)
    config = source(path="pages/a.html", extract={"seconds": 0.2})
    (item,) = list_inputs(config, pages, pages).inputs
    with pytest.raises(DataError, match=r"a\.html: more than 0\.2 seconds") as caught:
        list(read_input(item, config))
    assert caught.value.remedy.startswith("raise `extract: {seconds: …}` (now 0.2)")


def test_what_is_now_is_said_as_a_recipe_takes_it() -> None:
    """`memory` is an integer: 1e9 is none."""
    said = _more_room(source(extract={"memory": 1 << 30, "seconds": 2.5}), "memory")
    assert said.startswith("raise `extract: {memory: …}` (now 1073741824)")
    assert "(now 2.5)" in _more_room(source(extract={"seconds": 2.5}), "timeout")


@pytest.mark.slow
def test_a_pdf_without_a_page_that_can_be_read_is_lost_and_one_that_lacks_some_is_named(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "out").mkdir()
    raw = make_pdf([f"Page {n} has words." for n in range(1, 6)])
    for name, lost in (("all", {1, 2, 3, 4, 5}), ("none", set[int]()), ("some", {2, 4, 5})):
        (tmp_path / "pages" / f"{name}.pdf").write_bytes(without_pages(raw, lost))
    inputs = list(list_inputs(source(), tmp_path, tmp_path))
    facts = collect.collect(tmp_path / "out", source(), inputs, [], 1 << 20)
    ((said, *_),) = facts["lost"]["first"]
    assert facts["lost"]["files"] == 1 and said == "pages/all.pdf: of 5 pages none can be read"
    (named,) = facts["unusable"]["first"]
    assert named.startswith("pages/some.pdf: 3 pages cannot be read: page 2 of 5: ")
    assert ".," not in named and named.endswith(", and 2 more like that") and facts["unusable"]["pages"] == 3
    assert [*notes("pages", [facts["unusable"]] * 6)][5] == (
        "pages: and 1 more file with such pages; in all 18 pages of 6 files"
    )
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table["text"][-1].as_py() == "Page 1 has words.\n\nPage 3 has words."


@pytest.mark.slow
def test_a_pdf_with_pages_that_are_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "out").mkdir()
    raw = make_pdf(["One page has words.", SCAN, "Another has words."])
    (tmp_path / "pages" / "both.pdf").write_bytes(without_pages(raw, {3}))
    (tmp_path / "pages" / "scan.pdf").write_bytes(make_pdf([SCAN]))
    facts = collect.collect(tmp_path / "out", source(), [*list_inputs(source(), tmp_path, tmp_path)], [], 1 << 20)
    both, scan = facts["unusable"]["first"]
    ocr = "pictures without a text layer: page {} (a program for OCR, as ocrmypdf, adds one)"
    assert both.startswith("pages/both.pdf: 1 page cannot be read: page 3 of 3: ")
    assert both.endswith(f"; {ocr.format('2 of 3')}") and scan == f"pages/scan.pdf: {ocr.format('1 of 1')}"
    assert facts["unusable"]["pages"] == 3 and facts["lost"]["files"] == 0


def test_a_missing_library_is_said_before_anything_is_read(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract.extractor.importlib.util, "find_spec", lambda name: None if name == "pypdfium2" else 1)
    with pytest.raises(RecipeError) as caught:
        list_inputs(source(), pages, pages)
    assert caught.value.remedy == "pip install 'tilth[pdf]'"
