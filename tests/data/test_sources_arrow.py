"""Arrow and Parquet files as rows: forms of text columns, faults, and damage."""

from __future__ import annotations

import io
import json
import re
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_input, streams

TEXTS = ["one", "zwei ü", "", None, "fünf\nLines"]


def read(folder: Path, name: str, **data: Any) -> list[Outcome]:
    config = parse(SourceConfig, {"path": name, **data})
    return [o for item in list_inputs(config, folder, folder) for o in read_input(item, config)]


def texts(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.document.locator.rpartition("#row=")[2]: o.document.text for o in outcomes if o.document}


def said(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [
        (v.rule, re.split("#row=|, row ", v.detail)[1].split(":")[0].split(",")[0])
        for o in outcomes
        for v in o.verdicts
    ]


def write(path: Path, table: pa.Table, form: str) -> None:
    if form == "parquet":
        pq.write_table(table, path, row_group_size=2)
    elif form == "feather":
        feather.write_feather(table, str(path), compression="zstd", chunksize=2)
    else:
        make = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with make(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)


@pytest.mark.parametrize("form", ["stream", "file", "feather", "parquet"])
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_rows_are_documents(tmp_path: Path, form: str, kind: pa.DataType) -> None:
    column = pa.array(TEXTS, pa.string())
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    name = "a.parquet" if form == "parquet" else "a.arrow"
    write(tmp_path / name, pa.table({"n": [1, 2, 3, 4, 5], "text": column}), form)
    outcomes = read(tmp_path, name)
    assert texts(outcomes) == {"1": "one", "2": "zwei ü", "5": "fünf\nLines"}
    assert said(outcomes) == [("empty", "3"), ("empty", "4")]


def test_many_rows_keep_their_numbers(tmp_path: Path) -> None:
    expected = {str(i + 1): f"row {i}" for i in range(1000)}
    table = pa.table({"text": list(expected.values())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=170)
    feather.write_feather(table, str(tmp_path / "b.arrow"))
    assert texts(read(tmp_path, "a.parquet")) == texts(read(tmp_path, "b.arrow")) == expected


def test_bytes_that_are_no_utf8_cost_a_character_not_the_file(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"bad \xff", b"good"], pa.binary())
    wrong = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    for name, form in (("a.parquet", "parquet"), ("a.arrow", "stream")):
        write(tmp_path / name, pa.table({"text": wrong}), form)
        outcomes = read(tmp_path, name)
        assert texts(outcomes) == {"1": "good", "2": "bad \ufffd", "3": "good"}
        assert said(outcomes) == [("invalid_utf8", "2")]


def test_offsets_that_point_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "a.arrow", pa.table({"text": ["a", "bc"]}), "stream")
    raw = (tmp_path / "a.arrow").read_bytes()
    offsets = struct.pack("<3i", 0, 1, 3)
    assert raw.count(offsets) == 1
    (tmp_path / "a.arrow").write_bytes(raw.replace(offsets, struct.pack("<3i", 0, 1, 1 << 30)))
    with pytest.raises(DataError, match=r", row 1: it is damaged, or none of its kind: "):
        read(tmp_path, "a.arrow")


@pytest.mark.parametrize("compression", ["lz4", "zstd", "uncompressed"])
def test_feather_is_arrow(tmp_path: Path, compression: str) -> None:
    table = pa.table({"n": range(600), "text": [f"row {n}" for n in range(600)]})
    feather.write_feather(table, str(tmp_path / "a.feather"), compression=compression)
    assert list(texts(read(tmp_path, "a.feather")).values()) == table["text"].to_pylist()
    (tmp_path / "a.feather").write_bytes(b"FEA1" + bytes(96) + b"FEA1")
    with pytest.raises(DataError, match="Feather version 1 is another format: write it anew as version 2"):
        read(tmp_path, "a.feather")


@pytest.mark.parametrize("name", ["a.arrow", "a.parquet"])
def test_columns_that_are_not_there_or_hold_no_text(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, pa.table({"body": ["x"], "n": [1]}), "parquet" if name == "a.parquet" else "file")
    with pytest.raises(
        DataError, match=r"no column 'text'; the columns are 'body' \(string\), 'n' \(int64\)"
    ) as caught:
        read(tmp_path, name)
    assert "field:" in caught.value.remedy
    with pytest.raises(DataError, match="'n' holds int, not a text"):
        read(tmp_path, name, field="n")
    assert texts(read(tmp_path, name, field="body")) == {"1": "x"}


@pytest.mark.parametrize("name", ["a.arrow", "a.parquet"])
@pytest.mark.parametrize("cut", [0, 5, 100, -3])
def test_a_file_that_is_cut_off(tmp_path: Path, name: str, cut: int) -> None:
    sink = io.BytesIO()
    table = pa.table({"text": ["some text"] * 100})
    if name == "a.parquet":
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    (tmp_path / name).write_bytes(sink.getvalue()[:cut])
    with pytest.raises(DataError, match=r", row 1: it is damaged, or none of its kind: "):
        read(tmp_path, name)


def test_a_stream_that_is_cut_off_keeps_what_was_read(tmp_path: Path) -> None:
    write(tmp_path / "a.arrow", pa.table({"text": [f"row {i}" for i in range(1000)]}), "stream")
    raw = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(raw[: len(raw) * 3 // 4])
    with pytest.raises(DataError, match=r"a.arrow, row \d+: it is damaged"):
        read(tmp_path, "a.arrow")
    outcomes = read(tmp_path, "a.arrow", max_bad_rows=1)
    rows = len(texts(outcomes))
    assert 600 < rows < 900 and said(outcomes) == [("damaged", str(rows + 1))]


def test_templates_and_conversations(tmp_path: Path) -> None:
    rows = {"q": ["Why?"], "a": ["So."], "chat": [[{"role": "user", "content": "Hi"}]], "unused": [b"x" * 1000]}
    write(tmp_path / "a.arrow", pa.table(rows), "file")
    assert texts(read(tmp_path, "a.arrow", template="{q} {a}")) == {"1": "Why? So."}
    (pair,) = read(tmp_path, "a.arrow", map={"prompt": "q", "completion": "a"})
    assert pair.document and [m["content"] for m in pair.document.meta["messages"]] == ["Why?", "So."]
    (chat,) = read(tmp_path, "a.arrow", map={"messages": "chat"})
    assert chat.document and chat.document.meta["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_cell_beyond_what_is_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE", 100)
    pq.write_table(pa.table({"text": ["a" * 101, "b" * 100]}), tmp_path / "a.parquet")
    outcomes = read(tmp_path, "a.parquet")
    assert list(texts(outcomes)) == ["2"] and said(outcomes) == [("too_long", "1")]


def test_a_file_that_changed_since_it_was_listed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    config = parse(SourceConfig, {"path": "a.parquet"})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="changed while it was used"):
        list(read_input(item, config))


def test_cells_without_a_value_are_empty_and_no_fault(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([None, None], pa.string())}), tmp_path / "a.parquet")
    assert said(read(tmp_path, "a.parquet")) == [("empty", "1"), ("empty", "2")]


CALLED = [
    {"role": "user", "content": "?"},
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "a", "arguments": {"town": "Rome"}}}]},
    {"role": "assistant", "content": "b", "tool_calls": [{"function": {"name": "b", "arguments": {"hours": [1, 2]}}}]},
]
TOOLS = [{"name": "a", "parameters": {"town": {"type": "string"}}}, {"name": "b", "parameters": {"hours": {"n": 1}}}]


@pytest.mark.parametrize("form", ["file", "stream", "parquet"])
def test_keys_that_an_object_has_for_being_arrows_are_left_out(tmp_path: Path, form: str) -> None:
    rows = [{"m": CALLED, "t": TOOLS, "j": json.dumps(TOOLS)}]
    table = pa.Table.from_pylist(rows)
    assert "None" in str(table["t"].to_pylist())
    name = "a.parquet" if form == "parquet" else "a.arrow"
    write(tmp_path / name, table, form)
    (found,) = read(tmp_path, name, map={"messages": "m", "tools": "t"})
    assert found.document is not None
    assert found.document.meta["messages"] == [CALLED[0], {**CALLED[1], "content": ""}, CALLED[2]]
    assert found.document.meta["tools"] == TOOLS


def test_nulls_that_json_says_stay(tmp_path: Path) -> None:
    tools = [{"name": "a", "default": None}]
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": {"town": None}}}]}
    row = {"m": json.dumps([CALLED[0], called]), "t": json.dumps(tools)}
    write(tmp_path / "a.arrow", pa.Table.from_pylist([row]), "file")
    (tmp_path / "a.jsonl").write_text(json.dumps({"m": [CALLED[0], called], "t": tools}))
    for name in ("a.arrow", "a.jsonl"):
        (found,) = read(tmp_path, name, map={"messages": "m", "tools": "t"})
        assert found.document is not None and found.document.meta["tools"] == tools
        assert found.document.meta["messages"][1]["tool_calls"] == called["tool_calls"]


def test_a_content_that_is_null_is_told_as_one(tmp_path: Path) -> None:
    talk = [CALLED[0], {"role": "assistant", "content": None}]
    write(tmp_path / "a.arrow", pa.Table.from_pylist([{"m": talk}]), "file")
    (found,) = read(tmp_path, "a.arrow", map={"messages": "m"}, max_bad_rows=1)
    assert found.document is None and "message 2 holds NoneType, not a text" in str(found)


@pytest.mark.parametrize("key", ["tool_calls", "function_call"])
def test_a_call_without_arguments_is_the_same_from_any_format(tmp_path: Path, key: str) -> None:
    """What another row's sake put there goes, in arguments too, whatever these are called."""
    given: list[dict[str, Any]] = [{"town": "Rome", "arguments": "x"}, {"name": "n"}, {}]
    functions = [{"arguments": one, "name": f"f{n}"} for n, one in enumerate(given)] + [{"name": "f3"}]
    calls = [one if key == "function_call" else [{"function": one, "id": "a"}, one] for one in functions]
    rows = [{"m": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", key: one}]} for one in calls]
    write(tmp_path / "a.arrow", pa.Table.from_pylist(rows), "file")
    write(tmp_path / "a.parquet", pa.Table.from_pylist(rows), "parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a.arrow", "a.parquet", "a.jsonl"):
        found = [one.document for one in read(tmp_path, name, map={"messages": "m"})]
        told = [one.meta["messages"][1]["tool_calls"] for one in found if one]
        wanted = [{"name": f"f{n}", "arguments": one} for n, one in enumerate([*given, {}])]
        assert [one[0]["function"] for one in told] == wanted
        assert key == "function_call" or [one[1] for one in told] == wanted
    assert "None" in str(pa.Table.from_pylist(rows)["m"].to_pylist())
