"""Rows whose text is null or empty: counted where others have one, a wrong key where none has."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_input


def read(path: Path, rows: list[dict[str, Any]], **data: Any) -> list[Outcome]:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = parse(SourceConfig, {"path": path.name, **data})
    return [o for item in list_inputs(config, path.parent, path.parent) for o in read_input(item, config)]


def counted(outcomes: list[Outcome]) -> tuple[int, int]:
    """Documents, and empty rows."""
    rules = [verdict.rule for one in outcomes for verdict in one.verdicts]
    return sum(one.document is not None for one in outcomes), rules.count("empty")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_key_that_holds_nothing_in_nearly_all_rows_is_a_wrong_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    empty: dict[str, Any] = {"summary": None, "body": "all that is said"}
    full = {"summary": "short", "body": "x"}
    with pytest.raises(DataError, match=r"299 of 300 rows have no text by `field: summary`") as caught:
        read(path, [full] + [empty] * 299, field="summary")
    assert "max_bad_rows: 1" in caught.value.remedy
    assert ("write `field: body`" in caught.value.remedy) == (suffix == "jsonl")  # the others read one column
    assert counted(read(path, [full] + [empty] * 299, field="summary", max_bad_rows=1)) == (1, 299)
    assert counted(read(path, [full] * 3 + [empty] * 197, field="summary")) == (3, 197)
    assert counted(read(path, [empty] * 9, field="summary")) == (0, 9)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_template_without_any_value_is_no_document(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, Any]] = [{"title": "", "body": " "}, {"title": "A", "body": ""}, {"title": "", "body": "b"}]
    found = read(tmp_path / f"a.{suffix}", rows, template="# {title}\n\n{body}")
    assert [one.document.text for one in found if one.document] == ["# A\n\n", "# \n\nb"]
    assert counted(found) == (2, 1)
