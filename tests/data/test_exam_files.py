"""What is said of evaluation files that are not whole, or of which something is not looked for."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.data.pdfs import SCAN, drawn, make_pdf
from tests.data.planted import words_of
from tilth.core.errors import DataError
from tilth.data.leaks.exam_files import faults, sources_of
from tilth.data.leaks.exam_words import passed_over
from tilth.data.sources import SourceConfig, list_inputs
from tilth.data.tasks.items import evaluation_items

BAD_ROWS = "{bad\n" * 5
CUT = '[{"text": "one"}, {"te'
NO_COLUMN = "title,summary\na,b\n"


def text(number: int) -> str:
    return " ".join(words_of(random.Random(number), 20))


def rows(*texts: str | None) -> str:
    return "".join(json.dumps({"text": one}) + "\n" for one in texts)


ITEMS = rows(*map(text, range(12)))


def broken_page(pages: int, *broken: int) -> bytes:
    """A PDF of which these pages (from 0) cannot be loaded."""
    parts = make_pdf([text(100 + n) for n in range(pages)]).split(b"/Type /Page ")
    kinds = [b"/Type /Xage " if n in broken else b"/Type /Page " for n in range(pages)]
    return parts[0] + b"".join(kind + part for kind, part in zip(kinds, parts[1:], strict=True))


def seen(home: Path, *sources: dict[str, Any]) -> list[dict[str, Any]]:
    """What the manifest keeps of them."""
    against = [SourceConfig(**source) for source in sources]
    listings = [list_inputs(source, home, home / "downloads") for source in against]
    folder = home / "index"
    folder.mkdir()
    pairs = [(source, listing.inputs) for source, listing in zip(against, listings, strict=True)]
    facts = evaluation_items(folder, pairs, 13, 8)
    return sources_of(against, listings, facts["sources"])


def said(home: Path, *sources: dict[str, Any]) -> list[str]:
    return [one.removeprefix("data.decontaminate.against: ") for one in faults(seen(home, *sources))]


@pytest.fixture
def exams(tmp_path: Path) -> Path:
    """A folder with one exam that is whole."""
    folder = tmp_path / "exams"
    folder.mkdir()
    (folder / "a.jsonl").write_text(ITEMS)
    return folder


@pytest.mark.parametrize("broken", [(1,), (0, 1, 2)])
def test_a_pdf_that_lacks_a_page_is_not_whole(exams: Path, broken: tuple[int, ...]) -> None:
    pytest.importorskip("pypdfium2")
    (exams / "exam.pdf").write_bytes(broken_page(3, *broken))
    told = f"page {broken[0] + 1} of 3: Failed to load page" if len(broken) == 1 else "of 3 pages none can be read"
    with pytest.raises(DataError, match=rf"exams/exam\.pdf: {told}"):
        seen(exams.parent, {"path": "exams"})
    (exams.parent / "index").rename(exams.parent / "old")
    first, second = said(exams.parent, {"path": "exams", "max_bad_rows": 1})
    assert first.startswith(f"exams: 1 of its 2 files cannot be used, or not whole: exams/exam.pdf: {told}")
    of_the_file, more = ("read/broken 1 (exams/exam.pdf), ", " and 2 more") if len(broken) == 3 else ("", "")
    assert second == f"exams: not looked for: {of_the_file}read/broken_page {len(broken)} (exams/exam.pdf{more})"


@pytest.mark.parametrize("rule", ["encrypted", "unsupported", "nested_archive"])
def test_what_cannot_be_read_of_an_archive_stops_the_run(exams: Path, rule: str) -> None:
    name = "in.zip" if rule == "nested_archive" else "last.jsonl"
    with zipfile.ZipFile(exams / "x.zip", "w") as archive:
        for n in range(300):
            archive.writestr(f"{n}.jsonl", rows(text(n)))
        archive.writestr(name, rows(text(300)))
    raw = bytearray((exams / "x.zip").read_bytes())
    if rule != "nested_archive":
        raw[raw.rindex(b"last.jsonl") - (38 if rule == "encrypted" else 36)] = 1 if rule == "encrypted" else 9
    (exams / "x.zip").write_bytes(raw)
    with pytest.raises(
        DataError, match=rf"1 of its 2 files cannot be used, or not whole: exams/x\.zip!{name}: "
    ) as found:
        seen(exams.parent, {"path": "exams"})
    assert "unzip exams/x.zip" in found.value.remedy
    shutil.rmtree(exams.parent / "index")
    assert not said(exams.parent, {"path": "exams", "exclude": [f"x.zip/{name}"]}), "but its name can leave it out"
    shutil.rmtree(exams.parent / "index")
    told = said(exams.parent, {"path": "exams", "max_bad_rows": 1})
    assert f"exams: not looked for: read/{rule} 1 (exams/x.zip!{name})" in told


def test_files_that_give_no_item_are_named(exams: Path) -> None:
    pytest.importorskip("pypdfium2")
    (exams / "head.csv").write_text("text\n")
    (exams / "null.jsonl").write_text(rows(*[None] * 9))
    (exams / "scan.pdf").write_bytes(drawn(b"0 0 m 100 100 l S"))
    (exams / "short.jsonl").write_text(rows("too short", "this too"))
    (exams / "zero.jsonl").write_text("")
    (told,) = said(exams.parent, {"path": "exams"})
    named = "exams/head.csv (read/empty 1), exams/null.jsonl (read/empty 9), exams/scan.pdf (read/empty 1)"
    assert told == f"exams: 5 files give no item: {named} and 2 more"


def test_rows_among_others_may_be_empty_or_short(exams: Path) -> None:
    (exams / "a.jsonl").write_text(ITEMS + rows("", None, "too short") + "\n")
    (exams / "one.txt").write_text("a text that is short")
    assert not said(exams.parent, {"path": "exams"})


def test_a_source_that_gives_no_item_is_named(exams: Path) -> None:
    (exams / "short.jsonl").write_text(rows(*["what is one plus two"] * 50, ""))
    told = said(exams.parent, {"path": "exams/a.jsonl"}, {"path": "exams/short.jsonl"})
    assert told == ["exams/short.jsonl: no item is looked for: 50 too short, read/empty 1"]


def test_what_is_left_out_is_told_beside_odd_rows(exams: Path) -> None:
    pytest.importorskip("pypdfium2")
    (exams / "enc.pdf").write_bytes(make_pdf([text(5)], encrypted=True))
    (exams / "scan.pdf").write_bytes(make_pdf([text(5), SCAN]))
    (exams / "o.json").write_text(json.dumps({"text": text(1), "rows": [{"text": text(n)} for n in range(30)]}))
    with pytest.raises(DataError, match=r"exams/enc\.pdf: it needs a password"):
        seen(exams.parent, {"path": "exams"})
    shutil.rmtree(exams.parent / "index")
    told = said(exams.parent, {"path": "exams", "max_bad_rows": 1})
    assert any("exams/o.json: its rows at 'rows' are not read" in one for one in told)
    assert any("exams/scan.pdf: pictures without a text layer: page 2 of 2" in one for one in told)
    assert "exams: not looked for: read/encrypted 1 (exams/enc.pdf)" in told


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", BAD_ROWS + rows(text(50)), "rows.jsonl: 5 of 6 rows cannot be used"),
        ("cut.json", CUT, "cut.json#row=2: "),
        ("cols.csv", NO_COLUMN, "cols.csv:1: no column 'text'"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_limits_hold_in_archives_too(exams: Path, name: str, content: str, message: str, *, packed: bool) -> None:
    if packed:
        with zipfile.ZipFile(exams / "x.zip", "w") as archive:
            archive.writestr("b.jsonl", ITEMS)
            archive.writestr(name, content)
    else:
        (exams / name).write_text(content)
    with pytest.raises(DataError) as raised:
        seen(exams.parent, {"path": "exams"})
    assert f"exams/{'x.zip!' if packed else ''}{message}" in raised.value.message
    assert "`max_bad_rows:" in raised.value.remedy
    (exams.parent / "index").rename(exams.parent / "old")
    assert any(name in one for one in said(exams.parent, {"path": "exams", "max_bad_rows": 1}))


def test_a_share_of_bad_rows_passes_and_is_named(exams: Path) -> None:
    (exams / "b.jsonl").write_text(rows(*map(text, range(200, 400))) + "{bad\n")
    first, second = said(exams.parent, {"path": "exams"})
    assert first.startswith("exams/b.jsonl: 1 of 201 rows cannot be used")
    assert second == "exams: not looked for: read/not_json 1 (exams/b.jsonl:201)"


def test_what_a_folder_passes_over_an_archive_does_too(exams: Path) -> None:
    with zipfile.ZipFile(exams / "x.zip", "w") as archive:
        for name in ("b.jsonl", "drafts/d.jsonl", ".hidden.jsonl", "a.dat", "drafts/e.jsonl"):
            archive.writestr(name, ITEMS)
        archive.writestr("empty.jsonl", "")
    found = seen(exams.parent, {"path": "exams", "exclude": ["x.zip/drafts"]})
    (told,) = faults(found)
    assert told.endswith("exams: 1 file gives no item: exams/x.zip!empty.jsonl (read/empty 1)")
    *over, unknown = (one.partition("exams: ")[2] for one in passed_over(found))
    assert over == [
        "2 files not read by read/excluded: exams/x.zip!drafts/d.jsonl, exams/x.zip!drafts/e.jsonl",
        "1 file not read by read/hidden: exams/x.zip!.hidden.jsonl",
    ]
    how = 'text is read from such by a pattern: {path: "exams/x.zip", format: text} (of the archive all files of an '
    assert unknown.startswith(f"1 file not read by read/unknown_suffix: exams/x.zip!a.dat; {how}unknown suffix are")
    assert found[0]["left_out"] == {"read/empty": 1}


SQUAD = json.dumps({"version": "1.1", "data": [{"text": text(n)} for n in range(300, 350)]})
SETTINGS = json.dumps({"name": "exam", "shots": 3})


def stopped(home: Path, *sources: dict[str, Any]) -> DataError:
    with pytest.raises(DataError) as raised:
        seen(home, *sources)
    shutil.rmtree(home / "index")
    return raised.value


@pytest.mark.parametrize("limit", [0, 0.5])
def test_an_object_that_holds_the_rows_is_no_exam_and_settings_pass(exams: Path, limit: float) -> None:
    (exams / "settings.json").write_text(SETTINGS)
    assert any("not looked for: read/no_field 1" in one for one in said(exams.parent, {"path": "exams"}))
    (exams.parent / "index").rename(exams.parent / "before")
    (exams / "squad.json").write_text(SQUAD)
    fault = stopped(exams.parent, {"path": "exams", "max_bad_rows": limit})
    assert "exams: 1 of its 3 files cannot be used, or not whole: exams/squad.json: 1 of 1 rows" in fault.message
    assert "write `records: data`; give this file an entry of its own, and name it under" in fault.remedy
    parted = {"path": "exams", "exclude": ["squad.json"]}, {"path": "exams/squad.json", "records": "data"}
    assert sum(one["items"] for one in seen(exams.parent, *parted)) == 12 + 50


def test_files_of_other_shapes_are_told_to_be_parted(exams: Path) -> None:
    (exams / "wrong.jsonl").write_text(ITEMS.replace('"text"', '"tekst"'))
    fault = stopped(exams.parent, {"path": "exams"})
    assert fault.remedy.startswith("the rows have tekst: write `field: tekst`; give this file an entry of its own")
    assert fault.remedy.endswith("name it under `exclude: [wrong.jsonl]` of this one")
    parted = {"path": "exams", "exclude": ["wrong.jsonl"]}, {"path": "exams/wrong.jsonl", "field": "tekst"}
    assert [one["items"] for one in seen(exams.parent, *parted)] == [12, 12]


@pytest.mark.parametrize("path", ["exams", "exams/x.zip"])
def test_so_are_those_in_archives(exams: Path, path: str) -> None:
    with zipfile.ZipFile(exams / "x.zip", "w") as archive:
        archive.writestr("in/b.jsonl", ITEMS)
        archive.writestr("in/wrong[1].csv", NO_COLUMN)
    fault = stopped(exams.parent, {"path": path})
    assert "exams/x.zip!in/wrong[1].csv:1: no column 'text'" in fault.message
    told = "give this file, unpacked, an entry of its own, and name it under `exclude: ['x.zip/in/wrong[[]1].csv']`"
    assert told in fault.remedy
    (one,) = seen(exams.parent, {"path": path, "exclude": ["x.zip/in/wrong[[]1].csv"]})
    assert one["items"] == (24 if path == "exams" else 12) and "idle" not in one


def test_where_nothing_is_looked_for_what_is_known_of_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "squad.json").write_text(SQUAD)
    fault = stopped(tmp_path, {"path": "squad.json"})
    assert fault.remedy == "the file is one object; for the rows in it write `records: data`"
    (tmp_path / "settings.json").write_text(SETTINGS)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.dat", "x")
        archive.writestr("b.txt", "too short")
    fault = stopped(tmp_path, {"path": "settings.json"}, {"path": "x.zip"})
    for part in ("1 row left out by read/no_field", "1 file not read by read/unknown_suffix", "settings.json: 1 of 1"):
        assert part in fault.message
    assert fault.remedy == "the rows have name, shots: write `field: name`, or lower data.decontaminate.shortest"
