"""What a recipe may say of a source, and what it is told when it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tilth.core.config import parse, parse_yaml
from tilth.core.errors import RecipeError
from tilth.data.sources import SourceConfig

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("data", "message", "remedy"),
    [
        ({}, "none of them", "keep exactly one"),
        ({"path": "a.txt", "builtin": "python_docs"}, "path and builtin", "keep exactly one"),
        ({"path": " "}, "path: the path is empty", "name a file"),
        ({"path": "https://example.org/a.txt"}, "is an address, not a path", "url:"),
        ({"path": "a\0b"}, "NUL", "remove"),
        ({"url": "https://example.org/a.txt"}, "a url needs its sha256", "sha256sum"),
        ({"path": "a.txt", "sha256": SHA}, "sha256 is for a url", "remove it"),
        ({"url": "https://example.org/a.txt", "sha256": "12"}, "'12' is not 64 hex digits", "sha256sum"),
        ({"url": "ftp://example.org/a.txt", "sha256": SHA}, "not an http or https address", "path:"),
        ({"url": "file:///etc/passwd", "sha256": SHA}, "not an http or https address", "path:"),
        ({"url": "https://me:secret@example.org/a.txt", "sha256": SHA}, "user name or password", "path:"),
        ({"url": "http://host:port/a.txt", "sha256": SHA}, "not an address", "https://host/file"),
        ({"builtin": "python"}, "builtin: 'python'", "python_docs"),
        ({"builtin": "python_docs", "format": "jsonl"}, "format say how files are read", "leave it out"),
        (
            {"builtin": "python_docs", "map": {"messages": "m"}, "document": "line"},
            "map and document say how",
            "leave it",
        ),
        ({"path": "a.txt", "name": ""}, "name: it is empty", "leave the key out"),
        ({"path": "a.txt", "max_bad_rows": 2}, "max_bad_rows: 2", "at most 1"),
        ({"path": "a.txt", "feild": "x"}, "feild: unknown key", "field"),
        ({"path": "a.csv", "template": "no column"}, "'no column' names no column", "{column}"),
        ({"path": "a.csv", "template": "{a!r}"}, "holds {column} and nothing else", "take formats"),
        ({"path": "a.csv", "template": "{a:>9}"}, "holds {column} and nothing else", "take formats"),
        ({"path": "a.csv", "template": "{}"}, "holds {column} and nothing else", "take formats"),
        ({"path": "a.csv", "template": "{0}"}, "holds {column} and nothing else", "take formats"),
        ({"path": "a.csv", "template": "{a"}, "template: '{a':", "for a brace"),
        ({"path": "a.csv", "template": "{a}", "field": "b"}, "field and template say the same", "keep one"),
        ({"path": "a.csv", "map": {"prompt": "a"}}, "prompt and completion, or messages", "name those"),
        ({"path": "a.csv", "map": {"prompt": "a", "messages": "b"}}, "prompt and completion, or messages", "name"),
        ({"path": "a.csv", "map": {"prompt": "{a!r}", "completion": "b"}}, "and nothing else", "take formats"),
        ({"path": "a.csv", "separator": ""}, "separator: '' cannot stand between cells", 'in quotes: ";"'),
        ({"path": "a.csv", "separator": '"'}, "separator: '\"' cannot stand between cells", "write one character"),
        ({"path": "a.csv", "separator": "a"}, "separator: 'a' cannot stand", "no letter"),
        ({"path": "a.csv", "separator": "\n"}, "cannot stand between cells", "line end"),
        ({"path": "a.csv", "separator": "\\n"}, "cannot stand between cells", 'or "\\t" for a tab'),
        ({"path": "a.csv", "separator": "§"}, "separator: '§' cannot stand", "write one character"),
        ({"path": "a", "separator": ";", "format": "jsonl"}, "separator ';' is for CSV", "leave it out"),
        ({"builtin": "python_docs", "separator": ";"}, "separator say how files are read", "leave it out"),
        ({"deeplake": "a", "separator": ";"}, "it does nothing beside `deeplake`", "leave it out"),
        ({"path": "a.html", "extract": {"seconds": 0}}, "extract.seconds: 0", "above 0"),
    ],
)
def test_faults_name_value_and_remedy(data: dict[str, Any], message: str, remedy: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(SourceConfig, data)
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert "secret" not in caught.value.message


def test_a_tab_may_be_written_as_a_shell_gives_it() -> None:
    read = parse_yaml(r"{path: a.csv, separator: \t}", "here")
    assert len(read["separator"]) == 2 and parse(SourceConfig, read).separator == "\t"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"path": "data/web"}, "data/web"),
        ({"path": "./data//web/"}, "data/web"),
        ({"path": "data/**/*.md"}, "data/**/*.md"),
        ({"path": "/home/someone/data/web"}, "web"),
        ({"path": "/home/someone/data/*/x.txt"}, "data/*/x.txt"),
        ({"path": "~/web"}, "web"),
        ({"path": "/"}, "files"),
        ({"url": "https://example.org/d/a.txt?token=1", "sha256": SHA}, "example.org/d/a.txt"),
        ({"builtin": "python_docs"}, "python_docs"),
        ({"path": "data/web", "name": "mine"}, "mine"),
    ],
)
def test_the_default_name_is_what_the_recipe_says(data: dict[str, Any], name: str) -> None:
    assert parse(SourceConfig, data).source_name == name


def test_the_name_does_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(SourceConfig, {"path": "texts"})
    before = config.source_name
    monkeypatch.chdir(tmp_path)
    assert config.source_name == before == "texts"


def test_the_hash_is_folded_to_lower_case() -> None:
    assert parse(SourceConfig, {"url": "https://example.org/a", "sha256": SHA.upper()}).sha256 == SHA


def test_files_that_hold_no_text_are_refused_with_what_makes_some() -> None:
    with pytest.raises(RecipeError, match=r"path: 'a/\*.docx' is a document of a word processor") as caught:
        parse(SourceConfig, {"path": "a/*.docx"})
    assert caught.value.remedy == "path: `pandoc FILE -o FILE.md`"
    with pytest.raises(RecipeError, match=r"url: .*a\.PNG' is an image") as caught:
        parse(SourceConfig, {"url": "https://x.org/a.PNG", "sha256": "0" * 64})
    assert "folder" not in caught.value.remedy
    with pytest.raises(RecipeError, match="is a document of an office program") as caught:
        parse(SourceConfig, {"path": "my.pages"})
    assert caught.value.remedy.endswith("; a folder of that name is written with / behind: my.pages/")
    assert parse(SourceConfig, {"path": "a.docx", "format": "text"}).path and parse(SourceConfig, {"path": "a.epub/"})
