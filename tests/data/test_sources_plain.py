"""Lines and columns of which nothing is to be said: what comes at once is what comes one by one, to the byte."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.data.document import Outcome, Rows
from tilth.data.sources import SourceConfig, list_inputs, parquet_rows, read_rows, streams, texts
from tilth.data.sources.plain import all_filled, plain_column, plain_lines
from tilth.data.tasks import parts
from tilth.data.tasks.collect import collect

SPACES = [character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace()]
LINES = [
    b"one",
    b"",
    b"\r",
    b"two\r",
    b"three\r\r",
    b" indented \xc2\xa0",
    " \u2028\u3000\u1680\u205f".encode(),
    "漢字 \U0001f600".encode(),
    b"\xe3\x80",
    b"\xff",
    b"nul \x00",
    b"\x00",
]


def one_by_one(block: bytes) -> tuple[list[bytes], list[int]]:
    """The lines that hold a text, and the places of the others."""
    lines = [line.removesuffix(b"\r") for line in streams.split_lines(block)]
    blank = [n for n, line in enumerate(lines) if not line or line.decode().isspace()]
    return [line for n, line in enumerate(lines) if n not in blank], blank


def check_lines(block: bytes) -> None:
    found = plain_lines(block)
    try:
        block.decode()
    except UnicodeDecodeError:
        assert found is None
        return
    if b"\0" in block:
        assert found is None
        return
    assert found is not None
    texts, blank = one_by_one(block)
    assert [text.encode() for text in found.texts.to_pylist()] == texts
    assert found.blank.tolist() == blank
    assert sorted([*found.blank.tolist(), *found.filled.tolist()]) == list(range(len(texts) + len(blank)))


@settings(deadline=None)
@given(st.lists(st.sampled_from(LINES[:-4]) | st.binary(max_size=4), min_size=1, max_size=6), st.booleans())
def test_the_lines_of_any_block(lines: list[bytes], ended: bool) -> None:
    block = b"\n".join(lines) + (b"\n" if ended else b"")
    if block:
        check_lines(block)


@pytest.mark.parametrize("block", [b"\r", b"one\n\r", b"one\n\r\n", b"\n", b"one\r", b"\n\n"])
def test_a_block_that_ends_in_the_midst_of_a_line_end(block: bytes) -> None:
    check_lines(block)


def test_white_space_is_what_python_calls_so() -> None:
    assert len(SPACES) > 20
    for character in SPACES:
        assert not all_filled(pa.array(["x", character, "y"], pa.large_string())), ascii(character)
        found = plain_lines(f"x\r\na{character}\n{character}{character}".encode())
        assert found is not None and found.filled.tolist()[0] == 0 and found.blank.tolist()[-1] >= 2, ascii(character)
    assert all_filled(pa.array([f"{character}x" for character in SPACES], pa.large_string()))


def source_of(folder: Path, path: str, **data: Any) -> tuple[SourceConfig, list[Any]]:
    config = parse(SourceConfig, {"path": path, "max_bad_rows": 1, **data})
    return config, list(list_inputs(config, folder, folder))


def hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def collected(folder: Path, name: str, config: SourceConfig, inputs: list[Any]) -> tuple[dict[str, str], Any]:
    (folder / name).mkdir()
    facts = collect(folder / name, config, inputs, (), 3000)
    return dict(hashes(folder / name)), facts


def test_lines_give_the_same_files_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BATCH_BYTES", 1000)
    monkeypatch.setattr(streams, "PIECE", 300)
    raw = b"\n".join([b"line %d of some" % n for n in range(400)] + LINES + [b"more"] * 400)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + raw)
    config, inputs = source_of(tmp_path, "a.txt", document="line")
    fast = collected(tmp_path, "fast", config, inputs)
    assert sum(isinstance(found, Rows) for found in read_rows(inputs[0], config)) > 20
    monkeypatch.setattr(texts, "plain_lines", lambda block: None)
    assert collected(tmp_path, "slow", config, inputs) == fast and len(fast[0]) > 2
    assert fast[1]["rules"]["dropped"] == {"read/empty": 4} and fast[1]["rules"]["changed"]["read/invalid_utf8"] == 2


COLUMN = ["a", "b é", None, "", " ", "\u3000", "nul \0", "漢字", *(f"text {n}" for n in range(600))]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_column_gives_the_same_files_as_row_by_row(
    tmp_path: Path, kind: pa.DataType, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"n": range(len(COLUMN)), "text": pa.array(COLUMN).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=400)
    config, inputs = source_of(tmp_path, "a.parquet")
    fast = collected(tmp_path, "fast", config, inputs)
    found = [one for one in read_rows(inputs[0], config) if isinstance(one, Rows)]
    assert (not found) == pa.types.is_dictionary(kind)
    monkeypatch.setattr(parquet_rows, "plain_column", lambda column: None)
    assert collected(tmp_path, "slow", config, inputs) == fast
    assert all(isinstance(one, Outcome) for one in read_rows(inputs[0], config))


def test_a_column_that_is_no_text_is_not_taken() -> None:
    wrong = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    for column in (wrong, pa.array([1]), pa.array([], pa.string()), pa.array(["a", None]), pa.array([b"a"])):
        assert plain_column(column) is None
    assert plain_column(pa.array(["x", "a", "b"]).slice(1)).to_pylist() == ["a", "b"]


def test_what_is_longer_than_a_line_may_be_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE", 5)
    assert plain_column(pa.array(["abcde"])) is not None
    assert plain_column(pa.array(["abcdef"])) is None
