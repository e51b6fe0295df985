"""A source that holds the workspace, runs and the recipe itself: the same data however often a command is typed."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.jobs.conftest import call
from tests.jobs.helpers import SMALL, write_recipe, write_texts
from tilth.data.dataset import Dataset, open_dataset
from tilth.jobs.prepare import find_prepared
from tilth.jobs.recipe import load_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of texts with a recipe beside them that reads all of the folder."""
    write_texts(tmp_path, documents=30)
    write_recipe(tmp_path / "r.yaml", ".", train={"steps": 1}, sample={"prompts": ["a"], "max_new_tokens": 1})
    return tmp_path


def only_dataset(workspace: Path) -> Dataset:
    (folder,) = (workspace / "datasets").iterdir()
    return open_dataset(folder)


def test_every_command_finds_what_the_first_made(home: Path) -> None:
    assert call(home, "train", "r.yaml", "--workers", 1, sets=SMALL).code == 0
    made = only_dataset(home / "work")
    tasks = sorted((home / "work" / "tasks").iterdir())
    ledger = [row for file in made.files("ledger") for row in pq.read_table(file).to_pylist() if row["stage"] == "list"]
    assert made.facts["read"]["documents"] == 31 and made.facts["rules"]["dropped"]["list/own_files"] == 2
    assert sorted(row["detail"].partition(":")[0] for row in ledger) == ["r.yaml", "work"]
    write_recipe(home / "another.yaml", "elsewhere")
    for words in (["prepare", "r.yaml", "--workers", 1], ["train", "r.yaml"]):
        said = call(home, *words, sets=SMALL)
        assert said.code == 0, said.err
    assert only_dataset(home / "work").folder == made.folder
    assert sorted((home / "work" / "tasks").iterdir()) == tasks, "nothing was done again"
    dry = call(home, "prepare", "r.yaml", "--dry-run", "--workers", 1, "--json", sets=SMALL).json()
    assert dry["rules"]["dropped"]["list/own_files"]["value"] == 4  # another recipe, and a run


def test_an_older_workspace_is_no_text(home: Path) -> None:
    for _ in range(2):
        for workspace in ("older", "work"):
            said = call(home, "prepare", "r.yaml", "--workers", 1, "--workspace", workspace, sets=SMALL)
            assert said.code == 0, said.err
    made = only_dataset(home / "work")
    assert made.facts["read"]["documents"] == 31 and made.facts["rules"]["dropped"]["list/own_files"] == 3
    assert only_dataset(home / "older").fingerprint == made.fingerprint
    found = find_prepared(load_recipe(home / "r.yaml", SMALL), None, home / "work", home)
    assert found is not None and found.dataset.folder == made.folder


def test_a_workspace_among_the_items_of_an_evaluation_is_none_of_them(home: Path) -> None:
    (home / "exam").mkdir()
    (home / "exam" / "a.txt").write_text(" ".join(f"w{n}" for n in range(40)))
    against = {"decontaminate": {"against": [{"path": "exam"}]}, "sources": [{"path": "*.txt"}]}
    write_recipe(home / "r.yaml", "", data=against)
    for _ in range(2):
        said = call(home, "prepare", "r.yaml", "--workers", 1, "--workspace", "exam/space", sets=SMALL)
        assert said.code == 0, said.err
    assert len(list((home / "exam" / "space" / "tasks").glob("items-*"))) == 1


@pytest.mark.parametrize("path", ["notes", "notes/*.txt", "."])
def test_a_command_in_the_wrong_folder_leaves_nothing_there(tmp_path: Path, path: str) -> None:
    write_recipe(tmp_path / "r.yaml", path)
    call(tmp_path, "prepare", "r.yaml").expect_fault(3, "source ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.yaml"]
