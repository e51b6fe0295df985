"""Parquet: streamed rows, other schemas, damage, and what Arrow does not check."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome, Rows
from tilth.data.sources import SourceConfig, list_inputs, parquet_rows, read_input, read_rows, streams


def read(path: Path, **data: Any) -> list[Outcome]:
    config = parse(SourceConfig, {"path": path.name, **data})
    return [o for item in list_inputs(config, path.parent, path.parent) for o in read_input(item, config)]


def written(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def rules(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(v.rule, v.verdict) for o in outcomes for v in o.verdicts]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_rows_are_those_of_pyarrow(tmp_path: Path, kind: pa.DataType) -> None:
    values = [f"text {n % 700} é" for n in range(2000)]
    table = pa.table({"id": range(2000), "text": pa.array(values).cast(kind), "other": [None] * 2000})
    outcomes = read(written(tmp_path / "a.parquet", table, row_group_size=300))
    assert [o.document.text for o in outcomes if o.document] == pq.read_table(tmp_path / "a.parquet")[
        "text"
    ].to_pylist()
    assert outcomes[299].document is not None and outcomes[299].document.locator == "a.parquet#row=300"
    assert rules(outcomes) == []


def test_rows_without_a_text_are_counted(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None, "", "b"]})
    assert rules(read(written(tmp_path / "a.parquet", table))) == [("empty", "dropped"), ("empty", "dropped")]
    numbers = written(tmp_path / "b.parquet", pa.table({"text": [1, 2]}))
    with pytest.raises(DataError, match=r"2 of 2 rows cannot be used.*holds int"):
        read(numbers)


def test_another_schema_is_named_with_its_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", pa.table({"content": ["a"], "n": [1]}))
    with pytest.raises(DataError, match=r"no column 'text'; the columns are 'content' \(string\), 'n' \(int64\)") as e:
        read(path)
    assert e.value.remedy.startswith("name the column") and "field:" in e.value.remedy
    with pytest.raises(DataError, match="no column 'Content'") as e:
        read(path, field="Content")
    assert e.value.remedy.startswith("did you mean `content`? name the column")
    counted = read(path, max_bad_rows=1)
    assert rules(counted) == [("other_schema", "dropped")] and "'content'" in counted[0].verdicts[0].detail
    assert read(path, field="content")[0].document is not None


@pytest.mark.parametrize("raw", [b"", b"PAR1", b"PAR1 and no more PAR1", b"text " * 1000])
def test_what_is_no_parquet_is_named(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(raw)
    assert rules(read(tmp_path / "a.parquet", max_bad_rows=1)) == [("damaged", "dropped")]


def test_a_damaged_file_keeps_what_came_before(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text number {n}" for n in range(4000)]})
    path = written(tmp_path / "a.parquet", table, row_group_size=1000, use_dictionary=False, compression="zstd")
    raw = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    raw[start : start + 200] = bytes(200)
    path.write_bytes(raw)
    outcomes = read(path, max_bad_rows=1)
    assert sum(o.document is not None for o in outcomes) == 2000
    assert rules(outcomes) == [("damaged", "dropped")]


def test_text_that_is_not_utf8_is_counted_row_by_row(tmp_path: Path) -> None:
    column = pa.Array.from_buffers(pa.string(), 3, pa.array([b"good", b"b\xffad", b"fine"], pa.binary()).buffers())
    outcomes = read(written(tmp_path / "a.parquet", pa.table({"text": column})))
    assert [o.document.text for o in outcomes if o.document] == ["good", "b\ufffdad", "fine"]
    assert rules(outcomes) == [("invalid_utf8", "changed")]


def test_a_long_text_in_each_row_does_not_fill_memory_and_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BOMB_BYTES", 20_000_000)
    monkeypatch.setattr(parquet_rows, "_LARGEST_BATCH", 30_000_000)
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 5000), ["x" * 1_000_000])})
    path = written(tmp_path / "a.parquet", table, compression="zstd")
    assert path.stat().st_size < 20_000
    before = pa.total_allocated_bytes()
    count, verdicts, most = 0, [], 0
    config = parse(SourceConfig, {"path": "a.parquet", "max_bad_rows": 1})
    for item in list_inputs(config, tmp_path, tmp_path):
        for outcome in read_input(item, config):
            count += outcome.document is not None
            verdicts += outcome.verdicts
            most = max(most, pa.total_allocated_bytes() - before)
    assert count == 20 and [v.rule for v in verdicts] == ["bomb"]
    assert most < 100_000_000  # of five billion


def test_a_row_group_that_would_fill_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_LARGEST_ROW_GROUP", 1000)
    path = written(tmp_path / "a.parquet", pa.table({"text": ["a" * 2000]}))
    assert rules(read(path, max_bad_rows=1)) == [("too_large", "dropped")]


def test_a_packed_or_changed_parquet(tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), file)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(file.getvalue()))
    assert read(tmp_path / "a.parquet.gz")[0].document is not None
    path = written(tmp_path / "b.parquet", pa.table({"text": ["a"]}))
    config = parse(SourceConfig, {"path": "b.parquet"})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    written(path, pa.table({"text": ["b"]}))
    with pytest.raises(DataError, match=r"b\.parquet changed"):
        list(read_input(item, config))


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("count", [1, 30, 3000])
def test_the_size_of_a_dictionary_is_read_from_its_page(tmp_path: Path, count: int, compression: str) -> None:
    values = [f"text {n} é" for n in range(count)]
    path = written(tmp_path / "a.parquet", pa.table({"text": values * 3}), compression=compression)
    part = pq.read_metadata(path).row_group(0).column(0)
    with path.open("rb") as file:
        found = parquet_rows._dictionary_size(file, part)
        # Each value as its length, 4 bytes, and its bytes; Snappy may make more of few, and the larger is taken.
        plain = sum(4 + len(value.encode()) for value in values)
        assert plain <= found <= plain + 20
    raw = bytearray(path.read_bytes())
    raw[part.dictionary_page_offset] ^= 0xFF
    path.write_bytes(raw)
    with path.open("rb") as file:
        assert parquet_rows._dictionary_size(file, part) == part.total_uncompressed_size


def test_of_short_texts_many_come_at_once(tmp_path: Path) -> None:
    """The usual case: one row group, whose writer began a dictionary and gave it up."""
    values = [f"{n} said in few words" for n in range(150_000)]
    path = written(tmp_path / "a.parquet", pa.table({"text": values}), dictionary_pagesize_limit=1 << 16)
    config = parse(SourceConfig, {"path": str(path)})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    found = [len(rows) for rows in read_rows(item, config) if isinstance(rows, Rows)]
    assert sum(found) == len(values) and len(found) < 40


def test_a_batch_fits_though_each_row_is_as_long_as_all_dictionaries(tmp_path: Path) -> None:
    once = pa.array([0] * 20_000, pa.int32())
    names = ("a", "bb", "ccc", "dddd")
    table = pa.table({name: pa.DictionaryArray.from_arrays(once, [name * 30_000]) for name in names})
    path = written(tmp_path / "a.parquet", table)
    with path.open("rb") as file:
        rows = parquet_rows._batch_rows(file, pq.read_metadata(path).row_group(0), 0, table.column_names)
    assert rows * 300_000 <= parquet_rows._LARGEST_BATCH < 2 * (rows + 1) * 300_000


def test_a_text_within_a_struct_is_offered_where_it_is_missed(tmp_path: Path) -> None:
    rows = [{"id": 1, "doc": {"meta": {"n": 2}, "text": "a text"}}]
    path = written(tmp_path / "a.parquet", pa.Table.from_pylist(rows))
    with pytest.raises(DataError) as caught:
        read(path)
    assert "did you mean `doc.text`?" in caught.value.remedy
    assert [o.document.text for o in read(path, field="doc.text") if o.document] == ["a text"]


def test_dates_and_decimals_stand_in_a_template(tmp_path: Path) -> None:
    at = datetime(2024, 2, 29, 13, 5, 6, 789, tzinfo=UTC)
    columns = {
        "day": pa.array([at.date(), None]),
        "at": pa.array([at, None], pa.timestamp("us", "UTC")),
        "fine": pa.array([int(at.timestamp()) * 10**9 + 7, None], pa.timestamp("ns")),
        "clock": pa.array([at.time(), None], pa.time64("us")),
        "price": pa.array([Decimal("0.00000001"), None], pa.decimal128(10, 8)),
        "text": ["a", "b"],
    }
    path = written(tmp_path / "a.parquet", pa.table(columns))
    found = [o.document.text for o in read(path, template="{day}|{at}|{fine}|{clock}|{price}|{text}") if o.document]
    assert found == [
        "2024-02-29|2024-02-29T13:05:06.000789+00:00|2024-02-29T13:05:06|13:05:06.000789|0.00000001|a",
        "|||||b",
    ]
    assert "'day' holds date, not a text" in read(path, field="day")[0].verdicts[0].detail
