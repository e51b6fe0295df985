"""Evaluation files of which something is not read: each is told by name wherever leaks are spoken of, since what is
not looked for is trained on."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.data.pdfs import make_pdf
from tests.jobs.conftest import Cli
from tests.jobs.helpers import SMALL, write_recipe, write_texts

pytestmark = pytest.mark.slow
ITEM = "In Größe {} prüft der Müller früh die Brücke über den Fluß und fährt später zurück nach Köln"
ENCODED = "are not UTF-8, and became U+FFFD: exams/exde.jsonl looks like Windows-1252 (Latin-1); `iconv"


def rows(count: int) -> list[str]:
    return [json.dumps({"text": ITEM.format(n)}, ensure_ascii=False) for n in range(count)]


def home(folder: Path, exam: dict[str, Any]) -> Path:
    write_texts(folder / "texts", documents=15)
    (folder / "exams").mkdir()
    data = {"decontaminate": {"against": [exam]}, "split": {"validation": 0.1}}
    write_recipe(folder / "r.yaml", "texts", data=data, train={"steps": 1})
    return folder


def flat(text: str) -> str:
    return " ".join(text.split())


def test_what_is_not_read_of_an_exam_is_told_everywhere(tmp_path: Path, cli: Cli) -> None:
    folder = home(tmp_path, {"path": "exams", "max_bad_rows": 0.5})
    exams, elsewhere = folder / "exams", folder / "elsewhere.txt"
    (exams / "exde.jsonl").write_bytes("\n".join(rows(12)).encode("cp1252"))
    (exams / "bad.jsonl").write_text("\n".join([*rows(3), "{nothing", *rows(2)]))
    (exams / "a.dat").write_text("x")
    (exams / ".hidden.jsonl").write_text(rows(1)[0])
    elsewhere.write_text("words")
    (exams / "link.txt").symlink_to(elsewhere)
    told = [
        "1 of 6 rows cannot be used: not JSON: Expecting property name",
        "(exams/bad.jsonl:4)",
        ENCODED,
        "exams: 1 file not read by list/hidden: exams/.hidden.jsonl",
        "exams: 1 file not read by list/leaves_folder: exams/link.txt",
        "exams: 1 file not read by list/unknown_suffix: exams/a.dat; text is read from such by a pattern",
    ]
    replaced = "12 items hold U+FFFD in the place of characters that were lost (exams/exde.jsonl:1, exams/exde.jsonl:2"
    dry = cli("prepare", "r.yaml", "--dry-run", "--workers", 1, "--json", sets=SMALL)
    notes = " ".join(dry.json()["notes"])
    assert all(one in notes for one in [*told, replaced])
    for _ in range(2):  # also where all is done
        said = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=SMALL)
        assert all(one in flat(said.err) for one in [*told, replaced]), said.err
        assert all(one in flat(said.out) for one in [*told[3:], replaced, "read/not_json 1 (exams/bad.jsonl:4)"])
        (files,) = said.json()["evaluation_files"]
        assert files["replaced"]["items"] == 12 and files["left_out"] == {"read/not_json": 1}
        assert files["named"] == {"read/not_json": ["exams/bad.jsonl:4"]} and files["undecoded"]["files"] == 1
        assert files["passed_over"]["list/hidden"] == {"files": 1, "first": ["exams/.hidden.jsonl"]}
    checked = cli("check", "r.yaml", "--json", sets=SMALL)
    assert all(one in flat(checked.out) for one in [*told, replaced])
    assert checked.json()["evaluation_files"] == [files]
    (warning,) = [one for one in checked.json()["warnings"] if one["rule"] == "evaluation_files"]
    assert ENCODED in warning["message"]
    report = cli("report", said.json()["folder"], "--json", "--html", "page.html")
    assert all(one in flat(report.out) for one in [*told[3:], replaced])
    assert report.json()["leaks"]["evaluation"]["sources"] == [files]
    page = (folder / "page.html").read_text()
    assert "exams/.hidden.jsonl" in page and "exams/exde.jsonl looks like Windows-1252" in page


def test_files_without_items_and_rows_left_out_are_told_everywhere(tmp_path: Path, cli: Cli) -> None:
    pytest.importorskip("pypdfium2")
    folder = home(tmp_path, {"path": "exams", "exclude": ["x.zip/drafts"], "max_bad_rows": 1})
    exams = folder / "exams"
    (exams / "a.jsonl").write_text("\n".join(rows(12)))
    (exams / "null.jsonl").write_text('{"text": null}\n' * 9)
    (exams / "enc.pdf").write_bytes(make_pdf(["text " * 50], encrypted=True))
    (exams / "o.json").write_text(json.dumps({"text": ITEM.format(1), "rows": [*map(json.loads, rows(30))]}))
    with zipfile.ZipFile(exams / "x.zip", "w") as archive:
        archive.writestr("b.jsonl", "\n".join(rows(2)))
        archive.writestr("drafts/c.jsonl", "\n".join(rows(2)))
    told = [
        "exams: 1 of its 5 files cannot be used, or not whole: exams/enc.pdf: it needs a password",
        "exams: not looked for: read/encrypted 1 (exams/enc.pdf)",
        "exams: 1 file gives no item: exams/null.jsonl (read/empty 9)",
    ]
    passed_over = "exams: 1 file not read by read/excluded: exams/x.zip!drafts/c.jsonl"
    dry = cli("prepare", "r.yaml", "--dry-run", "--workers", 1, "--json", sets=SMALL)
    assert all(one in " ".join(dry.json()["notes"]) for one in [*told, passed_over])
    said = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=SMALL)
    assert all(one in flat(said.err) for one in [*told, passed_over]), said.err
    assert all(one in flat(said.out) for one in [told[2], passed_over])
    checked = cli("check", "r.yaml", "--json", sets=SMALL)
    assert passed_over in flat(checked.out)
    (warning,) = [one for one in checked.json()["warnings"] if one["rule"] == "evaluation_files"]
    assert all(one in warning["message"] for one in told) and "read/excluded" not in warning["message"]
    (without,) = re.findall("`exclude: .*` of exams", warning["remedy"])
    assert without == "`exclude: [enc.pdf, null.jsonl]` of exams"
    cli("report", said.json()["folder"], "--html", "page.html")
    page = (folder / "page.html").read_text()
    assert all(one in page for one in [*told, passed_over])


def test_an_exam_that_is_whole_is_not_spoken_of(tmp_path: Path, cli: Cli) -> None:
    folder = home(tmp_path, {"path": "exams"})
    (folder / "exams" / "good.jsonl").write_text("\n".join(rows(12)))
    said = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=SMALL)
    assert "decontaminate.against" not in said.err and "12 evaluation items looked for" in flat(said.out)
    assert said.json()["evaluation_files"][0]["replaced"] == {"items": 0, "first": []}


def test_a_broken_file_of_an_exam_stops_the_run_or_is_named(tmp_path: Path, cli: Cli) -> None:
    pytest.importorskip("pypdfium2")
    folder = home(tmp_path, {"path": "exams"})
    (folder / "exams" / "a.jsonl").write_text("\n".join(rows(12)))
    (folder / "exams" / "b.pdf").write_bytes(make_pdf(["text " * 50] * 9)[:700])
    stopped = cli("prepare", "r.yaml", "--workers", 1, sets=SMALL)
    stopped.expect_fault(3, "exams/b.pdf: ", "get these files again", "set `max_bad_rows: 1`")
    home_again = {"decontaminate": {"against": [{"path": "exams", "max_bad_rows": 1}]}, "split": {"validation": 0.1}}
    write_recipe(folder / "r.yaml", "texts", data=home_again, train={"steps": 1})
    said = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=SMALL)
    assert "exams: 1 of its 2 files cannot be used, or not whole: exams/b.pdf: " in flat(said.err)
    assert said.json()["evaluation_files"][0]["lost"]["files"] == 1


def test_a_list_with_a_fault_in_its_structure_is_no_exam(tmp_path: Path, cli: Cli) -> None:
    folder = home(tmp_path, {"path": "exams"})
    many = rows(400)
    (folder / "exams" / "a.json").write_text("[" + ",".join(many[:20]) + " " + ",".join(many[20:]) + "]")
    stopped = cli("prepare", "r.yaml", "--workers", 1, sets=SMALL)
    stopped.expect_fault(3, "exams/a.json#row=21: ',' or ']' must stand at byte", "mend the file there")


@pytest.mark.parametrize("packed", [False, True])
def test_check_offers_to_do_without_a_file_where_others_stay(tmp_path: Path, cli: Cli, *, packed: bool) -> None:
    name = "x.zip" if packed else "exam.jsonl"
    folder = home(tmp_path, {"path": f"exams/{name}", "max_bad_rows": 0.5})
    some = "\n".join([*rows(30), "{nothing"])
    if packed:
        with zipfile.ZipFile(folder / "exams" / name, "w") as archive:
            archive.writestr("a.jsonl", "\n".join(rows(30)))
            archive.writestr("b.jsonl", some)
    else:
        (folder / "exams" / name).write_text(some)
    cli("prepare", "r.yaml", "--workers", 1, "--json", sets=SMALL)
    checked = cli("check", "r.yaml", "--json", sets=SMALL).json()
    (warning,) = [one for one in checked["warnings"] if one["rule"] == "evaluation_files"]
    offered = "mend these files, or do without: `exclude: [x.zip/b.jsonl]` of exams/x.zip;" if packed else "files; what"
    assert offered in warning["remedy"] and packed is ("exclude" in warning["remedy"])
    if packed:
        exam = {"path": f"exams/{name}", "exclude": ["x.zip/b.jsonl"], "max_bad_rows": 0.5}
        write_recipe(folder / "r.yaml", "texts", data={"decontaminate": {"against": [exam]}}, train={"steps": 1})
        cli("prepare", "r.yaml", "--workers", 1, "--json", sets=SMALL)
        checked = cli("check", "r.yaml", "--json", sets=SMALL).json()
        assert not [one for one in checked["warnings"] if one["rule"] == "evaluation_files"]


def test_the_report_of_a_name_is_of_what_was_prepared_last(tmp_path: Path, cli: Cli) -> None:
    folder = home(tmp_path, {"path": "exams"})
    (folder / "exams" / "a.jsonl").write_text("\n".join(rows(12)))
    hidden = folder / "exams" / ".hidden.jsonl"
    for there in (True, False, True, False):  # the last two find what is done
        if there:
            hidden.write_text(rows(1)[0])
        else:
            hidden.unlink()
        prepared = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=SMALL)
        report = cli("report", "small", "--json")
        assert ("list/hidden" in prepared.err) is ("list/hidden" in report.out) is there
    # A recipe that is changed, and changed back: nothing is prepared, and what is looked at is what was before.
    other = cli("prepare", "r.yaml", "--workers", 1, "--json", sets=[*SMALL, "data.split.validation=0.2"])
    assert cli("report", "small", "--json").json()["folder"] == other.json()["folder"] != prepared.json()["folder"]
    cli("check", "r.yaml", "--json", sets=SMALL)
    assert cli("report", "small", "--json").json()["folder"] == prepared.json()["folder"]
