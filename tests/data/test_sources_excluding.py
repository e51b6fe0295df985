"""`exclude:` of a source: which files it leaves out, and what is said of patterns that leave nothing out."""

from __future__ import annotations

import glob
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.data.test_sources_listing import listed, rules, write
from tilth.core.config import parse, parse_yaml
from tilth.core.errors import DataError, RecipeError
from tilth.data.plans.collect_plan import read_as
from tilth.data.sources import SourceConfig, read_input
from tilth.data.sources.excluding import idle_patterns
from tilth.data.sources.inputs import Lost
from tilth.data.sources.losses import judge
from tilth.data.sources.unusable import Unusable

NAMES = (
    "a.txt",
    "b.csv",
    "c [1].txt",
    "drafts/a.txt",
    "drafts/deep/b.csv",
    "deep/drafts/a.txt",
    "deep/x/y/b.csv",
    "z.md",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in NAMES:
        write(tmp_path / "notes" / name)
    return tmp_path


def taken(base: Path, path: str, *patterns: str) -> list[str]:
    return [item.locator for item in listed(base, path=path, exclude=list(patterns))]


PATTERNS = [
    "b.csv",
    "**/b.csv",
    "drafts",
    "drafts/",
    "./drafts",
    "*.txt",
    "**/drafts",
    "deep/*/y",
    "?.txt",
    "c [[]1].txt",
]
PATTERNS += ["deep/**/b.csv", "drafts/**", "**/deep/**/*.csv", "[ab].*", "*/a.txt"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_those_of_glob_and_a_folder_goes_with_all_below_it(home: Path, pattern: str) -> None:
    folder = home / "notes"
    named = {Path(path) for path in glob.glob(str(folder / pattern), recursive=True)}  # noqa: PTH207 - the reference
    assert named
    left = [name for name in NAMES if not named & {folder / name, *(folder / name).parents}]
    found = listed(home, path="notes", exclude=[pattern])
    assert [item.locator for item in found] == sorted(f"notes/{name}" for name in left)
    assert set(rules(found).values()) == {"excluded"} and not found.notes
    assert taken(home, "notes/**/*", pattern) == [item.locator for item in found]
    assert taken(home, str(folder), pattern) == sorted(left), "an absolute path"


def test_what_is_left_out_is_named_and_part_of_what_the_source_holds(home: Path) -> None:
    found = listed(home, path="notes", exclude=["drafts", "**/*.csv"])
    assert [verdict.detail for verdict in found.skipped] == [
        "notes/b.csv: `exclude: **/*.csv` names it",
        "notes/deep/x/y/b.csv: `exclude: **/*.csv` names it",
        "notes/drafts: a folder that `exclude: drafts` names",
    ]
    assert [rule for _, rule, _ in found.passed_over] == ["excluded"] * 3
    (home / "notes" / "drafts").chmod(0)
    assert taken(home, "notes", "drafts"), "it is not gone into"
    (home / "notes" / "drafts").chmod(0o755)
    with pytest.raises(DataError, match=r"passed over: .*`exclude: \*\*` names"):
        listed(home, path="notes", exclude=["**"])


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("b.cvs", "notes: `exclude: b.cvs` leaves nothing out; check it for a typo"),
        ("y/b.csv", "did you mean `**/y/b.csv`? Patterns begin in the source's folder"),
        ("notes/b.csv", "did you mean `b.csv`?"),
        ("notes/x/**", "did you mean `**/x/**`?"),
    ],
)
def test_a_pattern_that_leaves_nothing_out_is_told(home: Path, pattern: str, told: str) -> None:
    for path in ("notes", "notes/**/*.*"):
        (note,) = listed(home, path=path, name="notes", exclude=["z.md", pattern]).notes
        assert told in note
    (note,) = listed(home, path="notes/a.txt", exclude=["a.txt", "*.csv"]).notes
    assert note == (
        "notes/a.txt: `exclude: [a.txt, '*.csv']` leaves nothing out: the source is one file; take it out, or give the "
        "file's folder as `path:`"
    )
    (note,) = listed(home, path="notes", exclude=["**/notes/b.csv"]).notes
    assert note.endswith("check it for a typo, or take it out"), "no `**/**/…`"


def test_what_goes_for_other_reasons_makes_no_pattern_a_typo(home: Path) -> None:
    write(home / "notes" / ".git" / "config")
    write(home / "notes" / ".hidden.txt")
    for pattern in (".git", ".git/**", ".git/config", ".hidden.txt", "**/.git/config", "**/.git"):
        assert not listed(home, path="notes", exclude=[pattern]).notes, pattern
    for pattern in ("**/*.lgo", "**/x/.git", "**/drafts/**/*.lgo"):
        (note,) = listed(home, path="notes", exclude=[pattern]).notes
        assert f"`exclude: {pattern}` leaves nothing out" in note


def test_a_folder_is_counted_once_by_any_path(home: Path) -> None:
    for path in ("notes", "notes/**/*.*", "notes/**/*.csv", str(home / "notes/**/*.*")):
        found = listed(home, path=path, name="notes", exclude=["drafts/a.txt", "drafts", "**/x/**"])
        told = [verdict.detail.removeprefix("notes/") for verdict in found.skipped]
        assert told[-1] == "drafts: a folder that `exclude: drafts` names" and len(told) == 2, path


def test_many_stars_take_no_time(tmp_path: Path) -> None:
    """Their ways multiply: 24 names of folders among 8 of them are ten million."""
    write(tmp_path / "notes" / "/".join("d" * 24) / "a.txt")
    for pattern, said in (("**/" * 9 + "x", "**/x"), ("**/*/" * 8 + "x", "**/*/" * 8 + "x")):
        (note,) = listed(tmp_path, path="notes", exclude=[pattern]).notes
        assert f"`exclude: {said}` leaves nothing out" in note


def test_files_in_archives_go_too(home: Path) -> None:
    with zipfile.ZipFile(home / "notes" / "old.zip", "w") as archive:
        for name in ("a.txt", "sub/b.csv", "sub/c.txt"):
            archive.writestr(name, f"text,of\n{name},x")

    def read(path: str, *patterns: str) -> tuple[list[str], tuple[str, ...]]:
        config = parse(SourceConfig, {"path": path, "exclude": list(patterns)})
        listing, unusable = listed(home, path=path, exclude=list(patterns)), Unusable()
        packed = next(item for item in listing if item.kind == "zip")
        found = [one for one in read_input(packed, config, unusable=unusable) if one.document or one.verdicts]
        texts = [one.document.locator.partition("!")[2] for one in found if one.document]
        left_out = [v.detail for one in found for v in one.verdicts if v.rule == "excluded"]
        assert len(left_out) == 3 - len(texts)
        return texts, idle_patterns("notes", listing.unused, [unusable.plain()])

    assert read("notes", "old.zip/sub") == (["a.txt"], ())
    assert read("notes", "**/b.csv") == (["a.txt", "sub/c.txt"], ())
    assert read("notes/*.zip", "old.zip/**/*.txt") == (["sub/b.csv:2"], ())
    assert read("notes/old.zip", "sub") == (["a.txt"], ())
    assert read("notes/old.zip", "old.zip/sub") == (["a.txt"], ()), "as below a folder"
    assert read("notes/old.zip", "old.zip/**/*.csv", "*.zip")[0] == ["a.txt", "sub/c.txt"]
    assert read("notes", "old.zip/sub", "**/b.csv", "**/sub/*") == (["a.txt"], ()), "each that names one is used"
    texts, idle = read("notes", "z.md", "sub/**")
    assert len(texts) == 3 and idle == (
        "notes: `exclude: sub/**` leaves nothing out; check it for a typo, or take it out",
    )


def test_only_what_reads_archives_is_done_anew_for_a_pattern(home: Path) -> None:
    """Of other files what a task reads is what is listed, so tasks whose files all stay are those of before."""
    with zipfile.ZipFile(home / "notes" / "old.zip", "w") as archive:
        archive.writestr("a.txt", "text")

    def said(*patterns: str) -> list[Any]:
        config = parse(SourceConfig, {"path": "notes", "exclude": list(patterns)})
        items = listed(home, path="notes", exclude=list(patterns)).inputs
        plain = [item for item in items if item.kind == "text"]
        return [read_as(config, plain), read_as(config, items)]

    without, one, other = said(), said("b.csv"), said("z.md")
    assert without[0] == one[0] == other[0] == without[1]
    assert len({str(each[1]) for each in (without, one, other)}) == 3


ODD = ["john.doe@example.com.jsonl", "Vol.1, part 2.jsonl", "books (1).jsonl", "d'or & +.jsonl", "x/[a] #1.jsonl"]


@pytest.mark.parametrize("path", ["my [texts]", "my [texts]/**/*", "ABSOLUTE"])
@pytest.mark.parametrize("name", [*ODD, "*.jsonl", "- ?.jsonl", "2024", "caf\u00e9: \t.jsonl"])
def test_the_pattern_that_is_advised_leaves_out_that_file_alone(tmp_path: Path, path: str, name: str) -> None:
    folder = tmp_path / ("my t" if "*" in path else "my [texts]")
    for each in (name, "a.jsonl", "z.jsonl"):
        write(folder / each, '{"text": "a"}')
    path = str(folder) if path == "ABSOLUTE" else path
    config = parse(SourceConfig, {"path": path, "format": "jsonl"})
    (lost,) = [item.locator for item in listed(tmp_path, path=path, format="jsonl") if item.locator.endswith(name)]
    told = judge(config, 3, 1, [Lost(f"{lost}:1: not JSON", "", lost)])
    assert told
    pattern = re.search(r"to do without it, name it under `exclude: (\[.*\])`", told)
    assert pattern
    found = listed(tmp_path, path=path, format="jsonl", exclude=parse_yaml(pattern[1], "the remedy"))
    assert lost not in [item.locator for item in found] and len(found) == 2 and not found.notes


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"path": "a", "exclude": ["../b"]}, "names nothing below the source's folder"),
        ({"path": "a", "exclude": ["/b"]}, "names nothing below"),
        ({"path": "a", "exclude": ["."]}, "names nothing below"),
        ({"path": "a", "exclude": [" "]}, "names nothing below"),
        ({"path": "a", "exclude": "b"}, "exclude"),
        ({"builtin": "python_docs", "exclude": ["b"]}, "leave it out"),
        ({"crawl": {"start": ["https://a.example/"], "contact": "a@b.example"}, "exclude": ["b"]}, "crawl: {exclude"),
        ({"hub": "a/b", "exclude": ["b"]}, "hub: {files"),
    ],
)
def test_what_cannot_be_left_out(data: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(SourceConfig, data)
    assert told in f"{caught.value.message} | {caught.value.remedy}"
