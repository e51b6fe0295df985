"""Numbers in sentences."""

from __future__ import annotations

import pytest

from tilth.core.config import parse_yaml
from tilth.core.words import bytes_of, left_out, plural


@pytest.mark.parametrize(("number", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1234, "1,234 files")])
def test_one_is_not_several(number: int, said: str) -> None:
    assert plural(number, "file") == said


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("32MB", 32 * 10**6),
        (" 24 gib ", 24 << 30),
        ("1.5K", 1500),
        ("24G", 24 * 10**9),
        ("1TiB", 1 << 40),
        ("2000", 2000),
        ("512 B", 512),
    ],
)
def test_amounts_of_bytes_are_read(said: str, number: int) -> None:
    assert bytes_of(said) == number


@pytest.mark.parametrize("said", ["", "B", "MB", "-1MB", "1e6", "3 PB", "24i", "24iB", "24 GB free"])
def test_what_is_no_amount_is_none(said: str) -> None:
    assert bytes_of(said) is None


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (["notes/app.log", "x/b.srt"], '{path: "notes/*.log", format: text}'),
        (["a.docx", "deep/er/b.SRT"], '{path: "deep/er/*.SRT", format: text}'),
        (["texts/LICENSE"], '{path: "texts/LICENSE", format: text}'),
        (["run [1]/app.log"], '{path: "run [[]1]/*.log", format: text}'),
        (["app.log"], '{path: "*.log", format: text}'),
        (["d/a.srt.gz"], '{path: "d/*.srt.gz", format: text}'),
        (["d/a.v2.SRT.XZ"], '{path: "d/*.SRT.XZ", format: text}'),
        (["d/dump.gz"], '{path: "d/dump.gz", format: text}'),
        (["what!/is!.srt"], '{path: "what!/*.srt", format: text}'),
        (['said "so"/a.log'], '{path: said "so"/*.log, format: text}'),
        ([], '{path: "d/*.srt", format: text}'),
    ],
)
def test_how_text_is_read_is_said_of_the_files_that_are_there(names: list[str], source: str) -> None:
    said = left_out("list/unknown_suffix", names, len(names))
    assert said.endswith(f"text is read from such by a pattern: {source}")
    assert parse_yaml(source, "")["format"] == "text"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("d/z.zip!in/x.srt", '{path: "d/z.zip", format: text}'),
        ("d/z.tar.gz!in/y.zip!x.srt", '{path: "d/z.tar.gz", format: text}'),
        ("z.TGZ!x.srt", '{path: "z.TGZ", format: text}'),
    ],
)
def test_of_an_archive_it_is_said_what_else_is_read_as_text(name: str, source: str) -> None:
    said = left_out("read/unknown_suffix", [name], 1).partition("text is read from such by a pattern: ")[2]
    assert said.startswith(f"{source} (of the archive all files of an unknown suffix are read as text then, images too")
    assert said.endswith("unpack it, and name the texts by a pattern)")
