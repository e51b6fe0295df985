"""Files of a folder that are not read, for their suffix or as hidden ones: counted, and the first of them named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.jobs.conftest import call
from tests.jobs.helpers import SMALL, write_recipe, write_texts

pytestmark = pytest.mark.slow
NAMED = "texts/LICENSE, texts/a.docx, texts/b: c.docx and 2 more"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Texts of two folders, and among them what is no text."""
    for folder in ("texts", "more"):
        write_texts(tmp_path / folder, documents=15, seed=len(folder))
    for name in ("texts/LICENSE", "texts/a.docx", "texts/b: c.docx", "texts/d.docx", "more/e.docx", "more/.f.txt"):
        (tmp_path / name).write_text("x")
    write_recipe(tmp_path / "r.yaml", "", data={"sources": [{"path": "texts"}, {"path": "more"}]}, train={"steps": 1})
    return tmp_path


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_preparing_and_checking_name_them(home: Path) -> None:
    said = call(home, "prepare", "r.yaml", "--workers", 1, sets=SMALL)
    assert said.code == 0, said.err
    shown = lines(said.out)
    place = next(n for n, line in enumerate(shown) if line.startswith("left out by list/unknown_suffix"))
    assert shown[place].split()[-1] == "5"
    (note,) = [line for line in shown if line.startswith("list/unknown_suffix: ")]
    assert note.startswith(f"list/unknown_suffix: {NAMED}")
    assert note.endswith('text is read from such by a pattern: {path: "texts/LICENSE", format: text}')
    assert "list/hidden: more/.f.txt" in shown
    first = ["texts/LICENSE", "texts/a.docx", "texts/b: c.docx"]
    passed_over = {
        "list/hidden": {"files": 1, "first": ["more/.f.txt"]},
        "list/unknown_suffix": {"files": 5, "first": first},
    }
    again = call(home, "prepare", "r.yaml", "--workers", 1, "--json", sets=SMALL)
    assert again.json()["passed_over"] == passed_over
    checked = call(home, "check", "r.yaml", "--json", sets=SMALL)
    assert f"left out: list/unknown_suffix 5: {NAMED}" in " ".join(checked.out.split())
    assert checked.json()["passed_over"] == passed_over


def test_a_forecast_names_them(home: Path) -> None:
    said = call(home, "prepare", "r.yaml", "--dry-run", "--workers", 1, "--json", sets=SMALL)
    assert said.json()["passed_over"]["list/hidden"] == {"files": 1, "first": ["more/.f.txt"]}
    assert NAMED in " ".join(said.out.split())


def test_files_of_an_archive_are_named_too_and_how_they_are_read(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", documents=3)
    with zipfile.ZipFile(tmp_path / "texts" / "a.zip", "w") as archive:
        for n in range(4):
            archive.writestr(f"s/{n}.srt", "x")
    read_as = '{path: "texts/a.zip", format: text}'
    for path, code in (("texts/a.zip", 3), ("texts", 0)):
        write_recipe(tmp_path / "r.yaml", "", data={"sources": [{"path": path}]}, train={"steps": 1})
        said = call(tmp_path, "prepare", "r.yaml", "--workers", 1, sets=SMALL)
        assert said.code == code and f"text is read from such by a pattern: {read_as}" in said.err + said.out
        assert ("a.zip!s/0.srt, texts/a.zip!s/1.srt, texts/a.zip!s/2.srt and 1 more" in said.out) == (code == 0)
        assert "check that the files hold text" not in said.err
