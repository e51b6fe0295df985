"""Values that are no texts, in a template or a map: numbers as spelled, and dates that Python does not have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tilth.core.config import parse
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_input

NANOSECONDS = 1_700_000_000_123_456_789


def read(path: Path, **data: Any) -> list[Outcome]:
    config = parse(SourceConfig, {"path": path.name, **data})
    return [o for item in list_inputs(config, path.parent, path.parent) for o in read_input(item, config)]


def texts(outcomes: list[Outcome]) -> list[str]:
    return [o.document.text for o in outcomes if o.document]


def written(path: Path, kind: str, **columns: Any) -> Path:
    table = pa.table(columns)
    if kind == "parquet":
        pq.write_table(table, path.with_suffix(".parquet"))
    else:
        with pa.ipc.new_file(path.with_suffix(".arrow"), table.schema) as file:
            file.write_table(table)
    return path.with_suffix(f".{kind}")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("odd", "of_type"),
    [(2_932_906, pa.date32()), (2**62, pa.timestamp("us")), (-(2**62), pa.timestamp("us", "UTC"))],
)
def test_a_date_that_python_does_not_have_is_a_bad_row(
    tmp_path: Path, kind: str, odd: int, of_type: pa.DataType
) -> None:
    numbers = pa.array([0, odd, 0], pa.int32() if of_type == pa.date32() else pa.int64())
    path = written(tmp_path / "a", kind, text=["a", "b", "c"], when=numbers.cast(of_type))
    outcomes = read(path, template="{text} {when}")
    assert [text[:12] for text in texts(outcomes)] == ["a 1970-01-01", "c 1970-01-01"]
    ((verdict,),) = [o.verdicts for o in outcomes if o.document is None]
    assert verdict.rule == "not_text" and f"#row=2: 'when' holds {of_type} that cannot be read" in verdict.detail
    assert texts(read(path)) == ["a", "b", "c"], "a column that nobody asked for is not read"


def test_a_time_zone_that_nobody_knows_makes_bad_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a", "parquet", text=["a"], when=pa.array([0], pa.timestamp("us", "Mars/Phobos")))
    outcomes = read(path, template="{text} {when}", max_bad_rows=1)
    assert texts(outcomes) == [] and "Mars/Phobos" in outcomes[0].verdicts[0].detail


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_times_are_the_same_wherever_they_stand_and_need_no_pandas(tmp_path: Path, kind: str) -> None:
    when = pa.array([NANOSECONDS, None, NANOSECONDS], pa.timestamp("ns"))
    took = pa.array([1001, 1, 1], pa.duration("ns"))
    inside = pa.StructArray.from_arrays([when, took], ["when", "took"], mask=pa.array([False, False, True]))
    path = written(tmp_path / "a", kind, when=when, m=inside)
    top, within = texts(read(path, template="{when}")), texts(read(path, template="{m.when}", max_bad_rows=1))
    assert top == ["2023-11-14T22:13:20.123456"] * 2 and within == top[:1]
    said = pa.struct([("role", pa.string()), ("content", pa.string()), ("at", pa.timestamp("ns", "UTC"))])
    turns = [{"role": role, "content": role, "at": NANOSECONDS} for role in ("user", "assistant")]
    for lists in (pa.list_(said), pa.large_list(said), pa.list_(said, 2)):
        path = written(tmp_path / "b", kind, messages=pa.array([turns, turns], lists))
        assert texts(read(path, map={"messages": "messages"})) == ["user: user\n\nassistant: assistant"] * 2


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_number_of_32_bits_is_written_with_its_own_digits(tmp_path: Path, kind: str) -> None:
    numbers = pa.array([0.1, 16_777_216, 3.4e38, 1e-45, -0.0], pa.float32())
    vectors = pa.array([[0.1]] * 5, pa.list_(pa.float32()))
    inside = pa.StructArray.from_arrays([numbers, vectors], ["score", "vector"])
    path = written(tmp_path / "a", kind, n=numbers, m=inside)
    expected = ["0.1", "16777216.0", "3.4e+38", "1e-45", "-0.0"]
    assert texts(read(path, template="{n}")) == expected == texts(read(path, template="{m.score}"))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_number_of_16_bits_is_written_with_its_own_digits(tmp_path: Path, kind: str) -> None:
    values = [0.1, 65504, 6e-8, -0.0, None, 1 / 3, math.inf]
    numbers = pa.array([None if value is None else np.float16(value) for value in values], pa.float16())
    within = pa.StructArray.from_arrays([numbers[1:], pa.array(["a"] * 6)], ["score", "name"])
    absent = pa.array([True, *[False] * 5])
    inside = pa.StructArray.from_arrays([within], ["deep"], mask=absent)
    path = written(tmp_path / "a", kind, n=numbers[1:], m=inside)
    expected = ["65504.0", "6e-08", "-0.0", "0.3333", "inf"]
    assert texts(read(path, template="{n}", max_bad_rows=1)) == expected
    assert texts(read(path, template="{m.deep.score}", max_bad_rows=1)) == expected[1:]
    assert texts(read(written(tmp_path / "b", kind, n=numbers[:1]), template="{n}")) == ["0.1"]


SPELLED = ["1.10", "1e5", "12345678901234567890.5", "-0.0", "100", "1E-7"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_numbers_in_json_are_written_as_they_are_spelled(tmp_path: Path, name: str) -> None:
    rows = [f'{{"n": {number}, "at": {{"x": {number}}}}}' for number in SPELLED]
    (tmp_path / name).write_text("\n".join(rows) if name.endswith("l") else f"[{', '.join(rows)}]")
    assert texts(read(tmp_path / name, template="{n}")) == SPELLED == texts(read(tmp_path / name, template="{at.x}"))
    asked = read(tmp_path / name, map={"prompt": "n", "completion": "{at.x} of {n}"})
    assert texts(asked) == [f"user: {n}\n\nassistant: {n} of {n}" for n in SPELLED]


def test_a_number_in_a_system_prompt_is_written_as_it_is_spelled(tmp_path: Path) -> None:
    said = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'
    (tmp_path / "a.jsonl").write_text(f'{{"messages": {said}, "v": 1.10}}')
    asked = read(tmp_path / "a.jsonl", map={"messages": "messages", "system": "version {v}"})
    assert texts(asked) == ["system: version 1.10\n\nuser: q\n\nassistant: a"]


def test_numbers_elsewhere_are_those_of_json(tmp_path: Path) -> None:
    row = '{"q": "q", "a": "a", "tools": [{"name": "f", "least": 1.10}]}'
    (tmp_path / "a.jsonl").write_text(f"{row}\n1.10")
    found, bad = read(tmp_path / "a.jsonl", map={"prompt": "q", "completion": "a", "tools": "tools"}, max_bad_rows=1)
    assert found.document is not None and "it holds float, no keys" in bad.verdicts[0].detail
    tools = found.document.meta["tools"]
    assert type(tools[0]["least"]) is float and repr(tools) == "[{'name': 'f', 'least': 1.1}]"
