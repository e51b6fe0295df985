"""What is source code: one table, from the suffix that is read to what cleaning leaves alone."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.data.test_sources_text import read_bytes
from tilth.data.document import Document
from tilth.data.sources.inputs import KINDS
from tilth.data.sources.languages import LANGUAGES, PROSE_LIKE
from tilth.data.stages.run import clean
from tilth.data.stages.table import build_stages

OHM = "Ohm is written \u2126 here, twice: \u2126.\n"  # U+2126, of which `unicode` makes U+03A9
# Each of them was read as code, and cleaned as prose.
ONCE_FORGOTTEN = (
    ".dart .zig .vue .kts .fs .tf .proto .scm .tcl .vb .cu .groovy .gradle .graphql .less .mli .nix .svelte"
)


def documents(folder: Path, name: str, raw: bytes = OHM.encode(), **data: Any) -> list[Document]:
    return [outcome.document for outcome in read_bytes(folder, raw, name, **data) if outcome.document]


def is_left_alone(document: Document) -> bool:
    (left,) = clean(document, build_stages(({"unicode": {}},))).documents
    assert left.text == document.text or "\u03a9" in left.text
    return left.text == document.text


def test_a_suffix_is_source_code_or_read_like_it() -> None:
    assert not LANGUAGES.keys() & set(PROSE_LIKE)
    read_so = {suffix for suffix, kind in KINDS.items() if kind in ("code", "python")}
    assert read_so == LANGUAGES.keys() | set(PROSE_LIKE)
    assert set(ONCE_FORGOTTEN.split()) <= LANGUAGES.keys()


@pytest.mark.parametrize("suffix", sorted(LANGUAGES))
def test_source_files_are_noted_and_left_alone(tmp_path: Path, suffix: str) -> None:
    (document,) = documents(tmp_path, f"a{suffix}")
    assert document.meta == {"code": LANGUAGES[suffix]} and is_left_alone(document)


def test_what_is_prose_stays_it_where_format_says_code(tmp_path: Path) -> None:
    (document,) = documents(tmp_path, "a.yaml", format="code")
    assert document.meta == {} and not is_left_alone(document)


@pytest.mark.parametrize("name", [*(f"a{suffix}" for suffix in PROSE_LIKE), "a.txt", "a.md", "a.rs.txt", "a.rst"])
def test_prose_is_neither(tmp_path: Path, name: str) -> None:
    (document,) = documents(tmp_path, name)
    assert document.meta == {} and not is_left_alone(document)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("A.ZIG", {}, "zig"),
        ("a.rs", {"format": "text"}, "rust"),
        ("a.py", {"format": "text"}, "python"),
        ("a.rs", {"document": "line"}, "rust"),
        ("a.rs", {"document": "paragraph"}, "rust"),
        ("script", {"format": "python"}, "python"),
        ("Makefile", {"format": "code"}, "code"),
        ("a.rkt", {"format": "code"}, "code"),
        ("Android.mk", {"format": "code"}, "makefile"),
    ],
)
def test_the_name_says_it_however_a_file_is_read(tmp_path: Path, name: str, data: dict[str, Any], code: str) -> None:
    (document,) = documents(tmp_path, name, **data)
    assert document.meta == {"code": code} and is_left_alone(document)


def test_packed_files_are_what_they_were(tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("src/main.zig", OHM)
        archive.writestr("notes.txt", OHM)
    packed = documents(tmp_path, "a.zip", held.getvalue())
    assert [(d.locator, d.meta) for d in packed] == [
        ("a.zip!src/main.zig", {"code": "zig"}),
        ("a.zip!notes.txt", {}),
    ]
    assert [is_left_alone(document) for document in packed] == [True, False]
    (alone,) = documents(tmp_path, "a.dart.gz", gzip.compress(OHM.encode()))
    assert alone.meta == {"code": "dart"} and is_left_alone(alone)


def test_a_page_is_no_source_file(tmp_path: Path) -> None:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + OHM.encode()
    head = (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        b"WARC-Target-URI: https://a.example/index.php\r\nContent-Type: application/http; msgtype=response\r\n"
        b"Content-Length: %d\r\n\r\n"
    )
    (page,) = documents(tmp_path, "a.warc", head % len(http) + http + b"\r\n\r\n")
    assert page.locator.endswith("index.php") and "code" not in page.meta and not is_left_alone(page)
