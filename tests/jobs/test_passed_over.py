"""Files of a folder that are not read, for their suffix or as hidden ones: counted, and the first of them named."""

from __future__ import annotations

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
    assert note.endswith('text is read from such by a pattern: {path: "d/*.srt", format: text}')
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
