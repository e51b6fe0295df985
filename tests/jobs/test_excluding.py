"""A folder of texts with a table among them: told with what to do about it, and read by an entry of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import Cli, Said
from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.core.files import read_json

TABLE = {"path": "notes/books.csv", "field": "summary"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_texts(tmp_path / "notes", documents=12, seed=1)
    write_texts(tmp_path / "more", documents=12, seed=2)
    rows = [f"T{n},the {n} words of a summary with the number {n * 7} in it" for n in range(9)]
    (tmp_path / "notes" / "books.csv").write_text("\n".join(["title,summary", *rows]))
    return tmp_path


def prepared(home: Path, cli: Cli, *sources: dict[str, Any], words: tuple[str, ...] = (), **data: Any) -> Said:
    recipe = {"sources": [*sources], "deduplicate": "none", "decontaminate": {"validation": False}, **data}
    write_recipe(home / "r.yaml", "", data=recipe, train={"steps": 1})
    return cli("prepare", "r.yaml", "--workers", "1", "--json", *words, sets=SMALL)


def read_by(home: Path, said: Said) -> set[str]:
    """The tasks that read, by their keys."""
    tasks = read_json(home / said.json()["folder"] / "manifest.json")["tasks"]
    return {name for name in tasks if name.startswith("collect-")}


@pytest.mark.slow
def test_a_file_that_lacks_the_column_is_told_with_its_remedy_which_works(home: Path, cli: Cli) -> None:
    told = (
        "notes/books.csv:1: no column 'text'; the columns are 'title', 'summary'; give this file an entry of its own, "
    )
    told += "and name it under `exclude: [books.csv]` of this one"
    before = prepared(home, cli, {"path": "notes"}, {"path": "more"})
    assert told in before.err
    dry = prepared(home, cli, {"path": "notes"}, {"path": "more"}, words=("--dry-run",))
    assert any(told in note for note in dry.json()["notes"])
    sources: list[dict[str, Any]] = [{"path": "notes", "exclude": ["books.csv"]}, {"path": "more"}, TABLE]
    after = prepared(home, cli, *sources)
    assert "cannot be used" not in after.err and "exclude" not in after.err
    assert after.json()["documents"] == before.json()["documents"] + 9
    assert after.json()["passed_over"] == {"list/excluded": {"files": 1, "first": ["notes/books.csv"]}}
    kept = read_by(home, before) & read_by(home, after)
    assert len(kept) == 1 and len(read_by(home, after)) == 3, "the folder that is as it was is not read anew"
    dry = prepared(home, cli, *sources, words=("--dry-run",))
    assert dry.json()["passed_over"] == after.json()["passed_over"]


@pytest.mark.slow
def test_a_pattern_that_leaves_nothing_out_is_told_everywhere(home: Path, cli: Cli) -> None:
    mistyped = {"path": "notes", "exclude": ["book.csv"]}
    told = "notes: `exclude: book.csv` leaves nothing out; check it for a typo, or take it out"
    assert told in prepared(home, cli, mistyped).err
    assert told in prepared(home, cli, mistyped, words=("--dry-run",)).json()["notes"]


@pytest.mark.slow
def test_files_of_exams_are_left_out_too(home: Path, cli: Cli) -> None:
    (home / "exams").mkdir()
    item = "an item of the exam with the number {} that has more than eight words in it"
    (home / "exams" / "a.jsonl").write_text("\n".join(json.dumps({"text": item.format(n)}) for n in range(12)))
    (home / "exams" / "key.csv").write_text("item,answer\n1,b\n")
    exam = {"path": "exams", "exclude": ["key.csv", "nothing.csv"]}
    against: dict[str, Any] = {"decontaminate": {"against": [exam], "validation": False}}
    idle = "exams: `exclude: nothing.csv` leaves nothing out"
    said = prepared(home, cli, {"path": "more"}, **against)
    (files,) = said.json()["evaluation_files"]
    assert files["passed_over"] == {"list/excluded": {"files": 1, "first": ["exams/key.csv"]}} and files["files"] == 1
    assert idle in said.err
    dry = prepared(home, cli, {"path": "more"}, words=("--dry-run",), **against)
    assert any(idle in note for note in dry.json()["notes"])


@pytest.mark.slow
def test_the_ledger_knows_what_a_lost_file_is_called(home: Path, cli: Cli) -> None:
    folder = prepared(home, cli, {"path": "notes"}).json()["folder"]
    (traced,) = [cli("trace", folder, "--doc", "notes/books.csv", "--json").json()]
    about = traced["document"]
    assert (about["locator"], about["source"], traced["fate"]) == (
        "notes/books.csv",
        "notes",
        "dropped by read/other_schema",
    )
    by_id = cli("trace", folder, "--doc", about["doc_id"], "--json").json()
    assert by_id["document"] == about
    shown = cli("trace", folder, "--doc", "notes/books.csv").out
    assert "unknown" not in shown and "no column 'text'" in shown


@pytest.mark.slow
def test_what_lies_in_a_folder_that_is_left_out_is_said_to(home: Path, cli: Cli) -> None:
    write_texts(home / "notes" / "drafts", documents=1, seed=3)
    for path in ("notes", "notes/**/*.txt"):
        folder = prepared(home, cli, {"path": path, "exclude": ["drafts", "books.csv"]}).json()["folder"]
        said = cli("trace", folder, "--doc", "notes/drafts/0.txt")
        told = "is called notes/drafts/0.txt: nothing there is read, for notes/drafts: "
        told += "a folder that `exclude: drafts` names"
        assert told in said.err
