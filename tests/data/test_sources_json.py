"""JSON files: lists, objects one after another, a list inside an object; cut anywhere, and broken."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_input, streams
from tilth.data.sources.json_rows import MalformedError, rows


def read(folder: Path, raw: str | bytes, **data: Any) -> list[Outcome]:
    (folder / "a.json").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    config = parse(SourceConfig, {"path": "a.json", "max_bad_rows": 1, **data})
    return [o for item in list_inputs(config, folder, folder) for o in read_input(item, config)]


def texts(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.document.locator: o.document.text for o in outcomes if o.document}


def rules(outcomes: list[Outcome]) -> list[str]:
    return [v.rule for o in outcomes for v in o.verdicts]


def test_the_shapes_of_a_file(tmp_path: Path) -> None:
    two = [{"text": 'a, ]}\\"'}, {"text": "b"}]
    expected = {"a.json#row=1": 'a, ]}\\"', "a.json#row=2": "b"}
    assert texts(read(tmp_path, json.dumps(two))) == expected
    assert texts(read(tmp_path, "\ufeff" + json.dumps(two, indent=4))) == expected
    assert texts(read(tmp_path, json.dumps(two).encode("utf-16"))) == expected
    assert texts(read(tmp_path, "\n".join(map(json.dumps, two)))) == expected
    assert texts(read(tmp_path, json.dumps([row["text"] for row in two]))) == expected
    inside = json.dumps({"meta": [{"text": "no"}], "data": {"n": 1, "items": two}})
    assert texts(read(tmp_path, inside, records="data.items")) == expected
    assert texts(read(tmp_path, json.dumps(two[1]))) == {"a.json#row=1": "b"}
    assert texts(read(tmp_path, json.dumps({"row": two[1]}), records="row")) == {"a.json#row=1": "b"}
    assert rules(read(tmp_path, "[]")) == ["empty"] == rules(read(tmp_path, " "))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.sampled_from('a"\\[]{},: é\n')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('k"\\:{'), max_size=2), inner),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 1]), st.integers(1, 9), st.booleans())
def test_rows_are_those_of_the_json_module(values: list[Any], indent: int | None, piece: int, ascii: bool) -> None:
    raw = json.dumps(values, indent=indent, ensure_ascii=ascii).encode()
    pieces = [raw[i : i + piece] for i in range(0, len(raw), piece)]
    assert [json.loads(row) for row in rows(pieces) if isinstance(row, bytes)] == values
    wrapped = b'{"a": [1, {"b": 2}], "x": {"y":' + raw + b"}}"
    assert [json.loads(row) for row in rows([wrapped], ("x", "y")) if isinstance(row, bytes)] == values


@settings(max_examples=300)
@given(st.text(st.sampled_from('[]{}",: \\a1'), max_size=30), st.integers(1, 5))
def test_any_text_gives_rows_or_a_fault_and_the_same_for_any_pieces(text: str, piece: int) -> None:
    def outcome(pieces: list[bytes]) -> list[Any]:
        found: list[Any] = []
        try:
            found += rows(pieces)
        except MalformedError as error:
            found.append((str(error), error.at, error.listed, error.cut))
        return found

    raw = text.encode()
    assert outcome([raw]) == outcome([raw[i : i + piece] for i in range(0, len(raw), piece)])
    try:
        value = json.loads(text)
    except ValueError:
        return
    assert [json.loads(row) for row in rows([raw])] == (value if isinstance(value, list) else [value])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raw", "good", "rule", "detail"),
    [
        ('[{"text": "a"}, {"text": "b"', 1, "not_json", "the value at byte 16 has no end"),
        ('[{"text": "a"}, {"text": "b', 1, "not_json", "the string at byte 25 has no end"),
        ('[{"text": "a"} {"text": "b"}]', 1, "not_json", "',' or ']' must stand at byte 15, not '{'"),
        ('[{"text": "a"}', 1, "not_json", "',' or ']' must stand at byte 14, not the file's end"),
        ('[{"text": "a"}, {"text" "b"}, {"text": "c"}]', 2, "not_json", "Expecting ':' delimiter"),
        ('[{"text": "a"}, 7, {"txt": 1}]', 1, "no_field", "it holds int, no keys"),
        ("[" * 100_000, 0, "not_json", "has no end"),
        ("[" * 100_000 + "]" * 100_000, 0, "not_json", "a.json#row=1"),
        ("no json at all", 0, "not_json", "Expecting value"),
    ],
)
def test_broken_files_keep_what_is_whole_and_name_the_place(
    tmp_path: Path, raw: str, good: int, rule: str, detail: str
) -> None:
    outcomes = read(tmp_path, raw)
    assert len(texts(outcomes)) == good
    bad = [v for o in outcomes for v in o.verdicts]
    assert bad[0].rule == rule and detail in bad[0].detail


MANY = [json.dumps({"text": f"row {n} of several words"}) for n in range(2000)]
WHOLE = f"[{', '.join(MANY)}]"
NEVER = "(its list has no end: the file is cut off, or a quote or bracket is never closed)"


@pytest.mark.parametrize(
    ("raw", "good", "said"),
    [
        (WHOLE.replace(", " + MANY[80], MANY[80]), 80, "',' or ']' must stand at byte"),
        (WHOLE.replace(MANY[80], MANY[80].replace(" of", '" of')), 80, NEVER),
        (WHOLE.replace(MANY[80], MANY[80].removesuffix("}")), 80, "begins with '{' and ends with ']'"),
        (WHOLE[: WHOLE.index(MANY[999]) + 9], 999, NEVER),
        (WHOLE.removesuffix("]"), 2000, NEVER),
        (", ".join(MANY), 1, "a value must stand at byte"),
        ("[, " + WHOLE[1:], 0, "a value must stand at byte 1, not ','"),
    ],
)
def test_what_a_fault_in_the_structure_takes_is_judged_and_its_bytes_are_named(
    tmp_path: Path, raw: str, good: int, said: str
) -> None:
    (outcome,) = [o for o in read(tmp_path, raw) if o.document is None]
    detail = outcome.verdicts[-1].detail
    unread = int(outcome.verdicts[-1].value)
    assert said in detail and f"what follows is not read ({unread:,} byte" in detail
    assert len(texts(read(tmp_path, raw))) == good and outcome.loses == (said == NEVER)
    assert abs(len(raw) - unread - sum(len(row) + 2 for row in MANY[:good])) <= 3, "all that stands before it is read"
    if good == 80 and said != NEVER:
        rows_lost = int(detail.rpartition("about ")[2].split()[0].replace(",", ""))
        assert abs(rows_lost - 1920) < 100, "rows have nearly one size"
    for packed in ("a.json", "b.json.gz"):
        (tmp_path / packed).write_bytes(gzip.compress(raw.encode()) if packed.endswith(".gz") else raw.encode())
        config = parse(SourceConfig, {"path": packed})
        (item,) = list_inputs(config, tmp_path, tmp_path).inputs
        with pytest.raises(DataError, match=f"{packed}#row={good + 1}: .*what follows is not read") as caught:
            list(read_input(item, config))
        assert "`max_bad_rows: 1` takes what stands before it and goes on" in caught.value.remedy
        *_, last = read_input(item, config, among_many=True)
        assert isinstance(last, Outcome) and last.loses, "one of several files counts as lost"


def test_a_fault_that_takes_few_rows_lets_the_file_pass(tmp_path: Path) -> None:
    outcomes = read(tmp_path, WHOLE.replace(", " + MANY[1990], MANY[1990]), max_bad_rows=0.01)
    assert len(texts(outcomes)) == 1990 and not outcomes[-1].loses
    assert "bytes, about 10 rows of the size of those before)" in outcomes[-1].verdicts[-1].detail
    assert len(texts(read(tmp_path, WHOLE + "]", max_bad_rows=0.01))) == 2000


def test_an_object_by_itself_stops_no_run_and_a_list_of_others_does(tmp_path: Path) -> None:
    for raw, rule in (('{"name": "package", "version": 1}', "no_field"), ("{ // settings\n}", "not_json")):
        assert rules(read(tmp_path, raw, max_bad_rows=0.01)) == [rule]
    with pytest.raises(DataError, match=r"2 of 2 rows cannot be used"):
        read(tmp_path, '[{"name": "a"}, {"name": "b"}]', max_bad_rows=0.01)


def test_a_path_that_leads_nowhere_is_said(tmp_path: Path) -> None:
    (outcome,) = read(tmp_path, '{"data": {"rows": []}}', records="data.items")
    assert outcome.verdicts[0].rule == "no_records" and "'data.items'" in outcome.verdicts[0].detail
    with pytest.raises(DataError, match=r"nothing stands at 'data.items'"):
        read(tmp_path, '{"data": [1]}', records="data.items", max_bad_rows=0.01)


@pytest.mark.slow
def test_a_row_beyond_the_limit_is_left_out_and_memory_stays_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE", 1000)
    raw = json.dumps([{"text": "a"}, {"text": ["x"] * 1000}, {"text": "c"}])
    outcomes = read(tmp_path, raw)
    assert texts(outcomes) == {"a.json#row=1": "a", "a.json#row=3": "c"}
    assert rules(outcomes) == ["too_long"]
    item = json.dumps({"text": "words " * 50}).encode() + b","
    tracemalloc.start()
    count = sum(1 for _ in rows([b"[", *[item * 1000] * 20, b"1]"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_001 and peak < 2 << 20


@pytest.mark.parametrize("unit", ["words and ", "\\n", '\\"', "\\\\", "[{"])
def test_a_long_string_is_looked_at_once_however_many_pieces_it_comes_in(unit: str) -> None:
    row = f'{{"text": "{unit * (2_000_000 // len(unit))}"}}'.encode()
    raw = b"[" + row + b", 7]"
    start = time.process_time()
    assert list(rows(raw[at : at + 999] for at in range(0, len(raw), 999))) == [row, b"7"]
    assert time.process_time() - start < 2, "the whole of it at each of 2,000 pieces takes ten times as long"


ROWS = [{"text": f"text {n}", "n": n} for n in range(20)]


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "[" + ",\n".join(map(json.dumps, ROWS)) + "]",
    ],
)
def test_json_that_is_called_lines_is_told_with_the_format_that_reads_it(tmp_path: Path, raw: str) -> None:
    (tmp_path / "a.jsonl").write_text(raw)

    def read_lines(**data: Any) -> list[Outcome]:
        config = parse(SourceConfig, {"path": "a.jsonl", **data})
        return [o for item in list_inputs(config, tmp_path, tmp_path) for o in read_input(item, config)]

    with pytest.raises(DataError) as caught:
        read_lines()
    assert "write `format: json`" in caught.value.remedy
    assert len(texts(read_lines(format="json"))) == 20


@pytest.mark.parametrize("raw", ["[1, 2]\n" * 3, '[{"role": "user"}]\n' * 3, "[broken\n{}\n{}\n", "broken\n"])
def test_lines_that_format_json_would_not_cure_are_not_told_so(tmp_path: Path, raw: str) -> None:
    (tmp_path / "a.jsonl").write_text(raw)
    config = parse(SourceConfig, {"path": "a.jsonl"})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    with pytest.raises(DataError) as caught:
        list(read_input(item, config))
    assert "format: json" not in caught.value.remedy
