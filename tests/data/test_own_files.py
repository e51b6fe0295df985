"""What tilth wrote among the texts of a source is left out; what only looks like it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.test_sources_listing import listed, rules, write
from tilth.core.errors import DataError
from tilth.data.sources.inputs import Listing
from tilth.jobs import pages

RECIPE = "# mine\nname: me\ndata:\n  sources:\n    - {path: .}\ntrain: {steps: 3}\n"
HASH = "0123456789abcdef" * 2


def workspace(folder: Path) -> Path:
    """The names that `tilth prepare` leaves."""
    write(folder / ".lock", "12")
    write(folder / "tasks" / f"collect-{HASH[:20]}" / "manifest.json", "{}")
    write(folder / "listings" / f"{HASH}.json", "{}")
    write(folder / "prepared" / f"me-{HASH[:20]}.json", "{}")
    dataset(folder / "datasets" / f"me-{HASH[:12]}")
    write(folder / "downloads" / f"{HASH[:16]}-page.html")
    return folder


def dataset(folder: Path) -> Path:
    write(folder / "documents" / "train" / "part.jsonl", '{"text": "a"}')
    write(folder / "manifest.json", json.dumps({"dataset_version": 1, "files": {}, "seal": HASH * 2}))
    return folder


def run(folder: Path) -> Path:
    """The names that `tilth train` leaves."""
    write(folder / "recipe.json", json.dumps({"name": "me", "data": {"sources": []}, "train": {}}))
    write(folder / "data.json", "{}")
    write(folder / "final" / "README.md")
    return folder


def export(folder: Path) -> Path:
    """The names that `tilth export` leaves."""
    write(
        folder / "manifest.json",
        json.dumps({"format": "huggingface", "files": {"README.md": 1, "config.json": 1}, "seal": HASH * 2}),
    )
    write(folder / "README.md")
    write(folder / "config.json")
    return folder


def names(listing: Listing) -> list[str]:
    return [item.locator for item in listing]


@pytest.mark.parametrize("path", [".", "**/*", "**/*.*"])
def test_workspaces_runs_and_recipes_below_a_source_are_left_out_and_named(tmp_path: Path, path: str) -> None:
    write(tmp_path / "texts" / "a.txt")
    write(tmp_path / "r.yaml", RECIPE)
    write(tmp_path / "texts" / "other.yml", json.dumps({"train": {}, "name": "x", "data": {"sources": []}}))
    workspace(tmp_path / "old" / "space")
    (run(tmp_path / "runs" / "me") / "final" / "newest").symlink_to(tmp_path / "runs")
    run(tmp_path / "experiments" / "deep" / "2")
    write(tmp_path / "runs" / "notes.txt")
    listing = listed(tmp_path, path=path)
    assert names(listing) == ["runs/notes.txt", "texts/a.txt"]
    assert rules(listing) == dict.fromkeys(
        ["experiments/deep/2", "old/space", "r.yaml", "runs/me", "texts/other.yml"], "own_files"
    )
    said = {verdict.detail for verdict in listing.skipped}
    assert {"r.yaml: a recipe of tilth", "runs/me: a run folder of tilth"} < said
    assert listing.passed_over == [], "nothing is done again when another run or recipe comes to lie there"


def test_a_name_alone_leaves_nothing_out(tmp_path: Path) -> None:
    kept = [
        *("work/a.txt", "work/tasks/b.txt", "runs/c.txt", "runs/me/d.json", "datasets/e.txt", "tasks/one-2/f.txt"),
        *("cooking/recipe.json", "cooking/data.json", "settings.yaml", "listings/g.json", "broken.yaml", "large.yaml"),
    ]
    for name in kept:
        write(tmp_path / "all" / name, json.dumps({"name": "soup", "data": 3, "train": "sources"}))
    write(tmp_path / "all" / "broken.yaml", "name data sources train: [")
    write(tmp_path / "all" / "large.yaml", RECIPE + "# much more\n" * 6000)  # no recipe is of that size
    listing = listed(tmp_path, path="all")
    assert names(listing) == sorted(f"all/{name}" for name in kept) and listing.skipped == ()


def test_exports_and_pages_are_left_out_and_what_only_looks_like_them_is_not(tmp_path: Path) -> None:
    write(export(tmp_path / "all" / "model") / "notes.txt")
    dataset(tmp_path / "all" / "mydata")
    for page in ("report.html.jinja", "data_report.html.jinja"):
        head = (Path(pages.__path__[0]) / page).read_text().partition("<head>")[2]
        write(
            tmp_path / "all" / "pages" / page.replace(".jinja", ""), f'<!doctype html>\n<html lang="en">\n<head>{head}'
        )
    write(tmp_path / "all" / "theirs" / "manifest.json", json.dumps({"format": "huggingface", "files": []}))
    write(tmp_path / "all" / "mine.html", "<!doctype html><p>I like tilth.</p>")
    for path in ("all", "all/**/*"):
        listing = listed(tmp_path, path=path)
        assert names(listing) == ["all/mine.html", "all/model/notes.txt", "all/theirs/manifest.json"]
        left = ["all/model", "all/mydata", "all/pages/data_report.html", "all/pages/report.html"]
        assert rules(listing) == dict.fromkeys(left, "own_files")
    assert "all/model/README.md" in names(listed(tmp_path, path="all/model"))


def test_texts_of_the_user_in_a_workspace_s_folders_are_read(tmp_path: Path) -> None:
    space = workspace(tmp_path / "work")
    for name in (
        "downloads/d.txt",
        "tasks/mine.txt",
        "datasets/poems/a.txt",
        "datasets/diary-202401011230/a.txt",
        "prepared/b.txt",
        "listings/notes/c.txt",
    ):
        write(space / name)
    write(space / "tasks" / f".collect-{HASH[:20]}.12-0123abcd.tmp" / "d.txt")
    for path in (".", "work", "**/*"):
        listing = listed(tmp_path, path=path)
        wanted = [
            "datasets/diary-202401011230/a.txt",
            "datasets/poems/a.txt",
            "downloads/d.txt",
            "listings/notes/c.txt",
            "prepared/b.txt",
            "tasks/mine.txt",
        ]
        assert names(listing) == [f"work/{name}" for name in wanted] and rules(listing) == {"work": "own_files"}


def test_texts_in_a_workspace_are_read_beside_what_is_kept_there(tmp_path: Path) -> None:
    write(workspace(tmp_path / "work") / "mine" / "a.txt")
    for path in ("work", "work/**/*"):
        listing = listed(tmp_path, path=path)
        assert names(listing) == ["work/mine/a.txt"] and rules(listing) == {"work": "own_files"}


def test_a_workspace_in_use_is_known_before_there_is_anything_in_it(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    write(tmp_path / ".lock", "12")  # `listed` has its downloads here
    (tmp_path / "new").mkdir()
    write(tmp_path / "new" / ".lock", "12")
    listing = listed(tmp_path, path=".")
    assert names(listing) == ["a.txt"] and rules(listing) == {".": "own_files", "new/.lock": "hidden"}
    write(tmp_path / "downloads" / f"{HASH[:16]}-page.html")
    assert listed(tmp_path, path=".") == listing


def test_what_is_named_in_a_workspace_or_run_is_meant(tmp_path: Path) -> None:
    workspace(tmp_path / "work")
    run(tmp_path / "runs" / "me")
    write(tmp_path / "r.yaml", RECIPE)
    documents = f"work/datasets/me-{HASH[:12]}/documents"
    for path in (documents, f"{documents}/**/*.jsonl"):
        assert names(listed(tmp_path, path=path)) == [f"{documents}/train/part.jsonl"]
    assert names(listed(tmp_path, path="runs/me/final")) == ["runs/me/final/README.md"]
    assert "runs/me/final/README.md" in names(listed(tmp_path, path="runs/me"))
    assert names(listed(tmp_path, path="r.yaml")) == ["r.yaml"]


def test_a_folder_with_nothing_else_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "r.yaml", RECIPE)
    with pytest.raises(DataError, match=r"passed over: r\.yaml: a recipe of tilth"):
        listed(tmp_path, path=".")
