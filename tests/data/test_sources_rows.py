"""Rows: JSON Lines and CSV, their faults, and when a file has too many of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome, documents_table
from tilth.data.sources import SourceConfig, list_inputs, read_input, streams
from tilth.data.sources.csv_records import records
from tilth.data.sources.files import read_rows
from tilth.data.sources.unusable import Unusable


def read(folder: Path, raw: bytes | str, name: str, **data: Any) -> list[Outcome]:
    path = folder / name
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    config = parse(SourceConfig, {"path": name, **data})
    return [o for item in list_inputs(config, folder, folder) for o in read_input(item, config)]


def texts(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.document.locator: o.document.text for o in outcomes if o.document}


def said(outcomes: list[Outcome]) -> list[tuple[str, str, str]]:
    return [(v.rule, v.verdict, v.value) for o in outcomes for v in o.verdicts]


def row(text: Any) -> str:
    return json.dumps({"text": text}, ensure_ascii=False)


def test_jsonl_rows_are_documents(tmp_path: Path) -> None:
    raw = '\ufeff{"text": "Grüße\\nzwei", "n": 1}\r\n\n{"n": 2, "text": "drei"}'
    outcomes = read(tmp_path, raw, "a.jsonl")
    assert texts(outcomes) == {"a.jsonl:1": "Grüße\nzwei", "a.jsonl:3": "drei"}
    assert said(outcomes) == [("bom", "changed", "utf-8"), ("empty", "dropped", "0")]
    assert texts(read(tmp_path, '{"body": "x"}', "b.jsonl", field="body")) == {"b.jsonl:1": "x"}
    assert said(read(tmp_path, "", "c.jsonl")) == [("empty", "dropped", "0")]


def test_a_bad_row_is_dropped_with_rule_and_place_and_the_rest_goes_on(tmp_path: Path) -> None:
    bad = ["{not json", '{"txt": "x"}', row(7), row(None), "[1]", "[" * 100_000, '"text"']
    raw = "\n".join([row("first"), *bad, row("last"), row(" ")])
    outcomes = read(tmp_path, raw, "a.jsonl", max_bad_rows=0.8)
    assert texts(outcomes) == {"a.jsonl:1": "first", "a.jsonl:9": "last"}
    assert [rule for rule, verdict, _ in said(outcomes) if verdict == "dropped"] == [
        *["not_json", "no_field", "not_text", "empty", "no_field", "not_json", "no_field", "empty"]
    ]
    details = [v.detail for o in outcomes for v in o.verdicts]
    assert details[1] == "a.jsonl:3: no 'text'; the keys are 'txt'"
    assert details[2] == "a.jsonl:4: 'text' holds int, not a text"
    assert [detail.split(":")[1] for detail in details] == ["2", "3", "4", "5", "6", "7", "8", "10"]


def test_what_json_can_spell_and_parquet_cannot_hold(tmp_path: Path) -> None:
    raw = r'{"text": "a\ud800b \ud83d\ude00 \udc00"}' + "\n" + r'{"text": "nul\u0000s"}' + "\n"
    outcomes = read(tmp_path, raw.encode() + b'{"text": "bad \xff"}', "a.jsonl")
    assert list(texts(outcomes).values()) == ["a\ufffdb 😀 \ufffd", "nuls", "bad \ufffd"]
    assert said(outcomes) == [("surrogate", "changed", "2"), ("nul", "changed", "1"), ("invalid_utf8", "changed", "1")]
    assert documents_table(o.document for o in outcomes if o.document).num_rows == 3
    dropped = read(tmp_path, raw.encode() + b'{"text": "bad \xff"}', "b.jsonl", invalid_utf8="drop")
    assert said(dropped)[-1] == ("invalid_utf8", "dropped", "1")


@pytest.mark.parametrize(
    ("good", "bad", "limit", "stops"),
    [
        (99, 1, 0.01, False),
        (994, 6, 0.01, False),
        (500, 6, 0.01, True),
        (50, 5, 0.01, False),  # a share of few says little
        (95, 5, 0.01, False),
        (105, 5, 0.01, False),  # and no more from a hundred rows on
        (50, 6, 0.01, True),
        (1, 98, 0.01, True),
        (4, 6, 0.01, True),
        (5, 5, 0.01, False),
        (2, 5, 0.01, False),
        (2, 6, 0.01, True),
        (4, 6, 0.7, False),
        (2, 8, 0.7, True),
        (1, 98, 1, False),
        (50, 50, 0.5, False),
        (0, 1, 0.01, True),  # all rows
        (0, 1, 1, False),
        (300, 3, 0, True),
        (20, 1, 0, True),
        (2000, 21, 0.01, True),
        (20_000, 200, 0.01, False),
    ],
)
def test_too_many_bad_rows_stop_the_run(tmp_path: Path, good: int, bad: int, limit: float, stops: bool) -> None:
    step = max(good // bad, 1)
    rows = [row("text")] * good
    for i in range(bad):
        rows.insert(i * (step + 1), "{")
    raw = "\n".join(rows)
    if not stops:
        assert len(texts(read(tmp_path, raw, "a.jsonl", max_bad_rows=limit))) == good
        return
    with pytest.raises(DataError, match=rf"a\.jsonl: {bad} of {good + bad} rows cannot be used") as caught:
        read(tmp_path, raw, "a.jsonl", max_bad_rows=limit)
    assert "cannot be used: not JSON: Expecting" in caught.value.message
    assert f"(a.jsonl:1{f' and {bad - 1} more' if bad > 1 else ''})" in caught.value.message
    assert ("max_bad_rows" in caught.value.remedy) == (good > 0), "where all are bad no share lets them pass"


def test_rows_without_the_key_are_one_complaint_and_the_remedy_names_their_keys(tmp_path: Path) -> None:
    raw = "".join(json.dumps({"title": f"{n}", "n": n, "body": f"some words of {n}"}) + "\n" for n in range(200))
    with pytest.raises(DataError) as caught:
        read(tmp_path, raw, "a.jsonl")
    counted = "of the first 100 rows 100 cannot be used: no 'text' (a.jsonl:1 and 99 more)"
    assert caught.value.message == f"{tmp_path / 'a.jsonl'}: {counted}"
    assert caught.value.remedy == "the rows have title, n, body: write `field: body`", "no share lets them pass"
    with pytest.raises(DataError) as caught:
        read(tmp_path, '{"Title": "a", "Body": "b", "n": 1}\n[]\n{', "b.jsonl", field="body", max_bad_rows=0.5)
    assert "no 'body' (b.jsonl:1 and 1 more); not JSON: Expecting" in caught.value.message
    assert "3 of 3 rows cannot be used" in caught.value.message and "write `field: Body`" in caught.value.remedy
    with pytest.raises(DataError, match="no 'ask'") as caught:
        read(tmp_path, '{"q": "a", "a": "b"}', "c.jsonl", map={"prompt": "ask", "completion": "a"})
    assert caught.value.remedy.startswith("the rows have q, a: check `map: {prompt: ask, completion: a}`")
    row = json.dumps({**dict.fromkeys("abcdefgh", 1), "date": "2026"})
    with pytest.raises(DataError) as caught:
        read(tmp_path, row, "wide.jsonl")
    assert "the rows have a, b, c, d, e, f, g, h … date: write `field: date`" in caught.value.remedy
    for row, answers in (
        ('{"prompt": "a", "completion": "bc"}', "map: {prompt: prompt, completion: completion}"),
        ('{"instruction": "a", "output": "bc"}', "map: {prompt: instruction, completion: output}"),
        (
            '{"instruction": "a", "input": "", "output": "bc"}',
            'map: {prompt: "{instruction}\\n\\n{input}", completion: output}',
        ),
        (
            '{"system": "s", "context": "c", "question": "a", "answer": "bc"}',
            'map: {system: system, prompt: "{question}\\n\\n{context}", completion: answer}',
        ),
        ('{"conversations": []}', "map: {messages: conversations}"),
        ('{"messages": [], "system": "bc"}', "map: {system: system, messages: messages}"),
        (
            '{"prompt": [], "completion": [], "tools": []}',
            "map: {prompt: prompt, completion: completion, tools: tools}",
        ),
        ('{"messages": [], "tools": []}', "map: {messages: messages, tools: tools}"),
    ):
        with pytest.raises(DataError) as caught:
            read(tmp_path, row, "chat.jsonl")
        chat = ", data.chat: {template: chatml}" if "messages" in answers else ""
        chat = ", data.chat.template: one that writes tools" if "tools" in row else chat
        assert f"for questions and answers (train.objective: sft{chat}) write `{answers}`" in caught.value.remedy
        assert ("as text `field: " in caught.value.remedy) == ("bc" in row)
    with pytest.raises(DataError) as caught:
        read(tmp_path, '{"n": 1}', "d.jsonl")
    assert caught.value.remedy.startswith("the rows have n: none of it is a text")


@pytest.mark.slow
def test_a_large_wrong_file_stops_early(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of the first 100 rows 100 cannot be used"):
        read(tmp_path, "no json\n" * 50_000, "a.jsonl")
    with pytest.raises(DataError, match="of the first 10000 rows 5000 cannot be used"):
        read(tmp_path, f"{row('x')}\nno json\n" * 50_000, "b.jsonl")


def test_a_row_beyond_the_limit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE", 200)
    monkeypatch.setattr(streams, "PIECE", 50)
    outcomes = read(tmp_path, "\n".join([row("a"), row("b" * 1000), row("c")]), "a.jsonl")
    assert texts(outcomes) == {"a.jsonl:1": "a", "a.jsonl:3": "c"}
    assert [rule for rule, _, _ in said(outcomes)] == ["too_long"]


def test_csv_rows_are_documents(tmp_path: Path) -> None:
    raw = '\ufeffid,text\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n2,plain é\r\n3,\r\n'
    outcomes = read(tmp_path, raw, "a.csv")
    assert texts(outcomes) == {"a.csv:2": 'two\r\nlines, "quoted"', "a.csv:5": "plain é"}
    assert said(outcomes) == [("bom", "changed", "utf-8"), ("empty", "dropped", "0"), ("empty", "dropped", "0")]
    assert texts(read(tmp_path, "id\tbody\n1\ta, b", "a.tsv", field="body")) == {"a.tsv:2": "a, b"}
    assert said(read(tmp_path, "text\n", "b.csv")) == [("empty", "dropped", "0")]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_csv_lines_may_end_in_carriage_returns_alone(tmp_path: Path, name: str) -> None:
    end = "," if name == "a.csv" else "\t"
    table = [["text", "id"], *([f"row {n} " + 240 * "x", str(n)] for n in range(5000)), ['"two"\nlines', "x"]]
    file = io.StringIO()
    csv.writer(file, delimiter=end, lineterminator="\r").writerows(table)
    found = read(tmp_path, file.getvalue(), name)
    assert [o.document.text for o in found if o.document] == [text for text, _ in table[1:]]
    assert said(found) == [("line_ends", "changed", "cr")] and found[7].document.locator == f"{name}:9"  # type: ignore[union-attr]
    quoted = 'text,id\r"a\r\nb\rc",1\r'
    assert list(texts(read(tmp_path, quoted, "c.csv")).values()) == ["a\r\nb\rc"], "what stands in quotes stays"
    mixed = "text,id\n" + "a\rb,1\n" + '"c\rd",2\n'
    assert list(texts(read(tmp_path, mixed, "b.csv")).values()) == ["a\rb", "c\rd"], (
        "with line feeds a cell may hold one"
    )


def test_csv_rows_that_do_not_fit_are_dropped(tmp_path: Path) -> None:
    outcomes = read(tmp_path, b'id,text\n1,a\n2\n3,b,c\n4,bad \xff\n5,"open\n6,x', "a.csv")
    assert texts(outcomes) == {"a.csv:2": "a", "a.csv:5": "bad \ufffd"}
    assert said(outcomes) == [
        ("cells", "dropped", "1"),
        ("cells", "dropped", "3"),
        ("invalid_utf8", "changed", "1"),
        ("open_quote", "dropped", "12"),
    ]
    assert outcomes[2].verdicts[0].detail == "a.csv:4: 3 cells, the header has 2"


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_a_first_line_says_what_separates_the_cells_as_excel_reads_it(tmp_path: Path, separator: str) -> None:
    raw = "\ufeff" + f"sep={separator}\r\nid;text\r\n1;a, b | c\td\r\n".replace(";", separator)
    row = "a, b | c\td" if separator == ";" else None
    if row is None:
        raw = raw.replace("a, b | c\td", "plain")
    assert texts(read(tmp_path, raw, "a.csv")) == {"a.csv:3": row or "plain"}


@pytest.mark.parametrize("line", ['"sep=;"', "sep=;;;", '"sep=;";;', "\n\r\nsep=;"])
def test_the_line_may_be_quoted_filled_up_or_below_blank_ones(tmp_path: Path, line: str) -> None:
    assert list(texts(read(tmp_path, f"{line}\nid;text;n\n1;a, b;2\n", "a.csv")).values()) == ["a, b"]


def test_the_recipe_goes_before_the_line_and_a_column_of_such_a_name_is_none(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "SEP=;\nid|text\n1|a;b\n", "a.csv", separator="|")) == {"a.csv:3": "a;b"}
    assert texts(read(tmp_path, "sep=x,text\n1,a\n", "b.csv")) == {"b.csv:2": "a"}
    with pytest.raises(DataError, match="the columns are 'sep=x'"):
        read(tmp_path, "sep=x\n1\n", "c.csv")


@pytest.mark.parametrize("above", ["\n\n", "\r\n  \r\n", ",,\n,,\n", "sep=,\n\n"])
def test_what_is_blank_above_a_header_is_no_header(tmp_path: Path, above: str) -> None:
    assert list(texts(read(tmp_path, f"{above}id,text\n1,hello\n", "a.csv")).values()) == ["hello"]
    assert said(read(tmp_path, above, "b.csv")) == [("empty", "dropped", "0")]


def test_json_lines_that_were_put_together_each_with_its_mark(tmp_path: Path) -> None:
    files = [f"\ufeff{row(name)}\n" for name in "abc"]
    outcomes = read(tmp_path, "".join([*files, "\ufeff\n"]), "a.jsonl")
    assert texts(outcomes) == {"a.jsonl:1": "a", "a.jsonl:2": "b", "a.jsonl:3": "c"}
    assert said(outcomes) == [("bom", "changed", "utf-8")] * 4 + [("empty", "dropped", "0")]


def test_csv_cells_may_be_longer_than_the_standard_library_takes(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    long = "word, " * 100_000
    assert texts(read(tmp_path, f'text\n"{long}"\n', "a.csv")) == {"a.csv:2": long}
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("raw", "message", "remedy"),
    [
        ("id,body\n1,a", "a.csv:1: no column 'text'; the columns are 'id', 'body'", "name the column"),
        ("id,Text\n1,a", "a.csv:1: no column 'text'; the columns are 'id', 'Text'", "did you mean `Text`?"),
        ("prompt,completion\n1,a", "no column 'text'", "write `map: {prompt: prompt, completion: completion}`"),
        ("messages,tools\n[],[]", "no column 'text'", "that writes tools) write `map: {messages: messages, tools: to"),
        (
            "id;text\n1;a",
            "the columns are 'id;text'",
            "the cells look separated by ';': write `separator: \";\"`; `max_",
        ),
        ('"id","x"|"text"\n', "no column 'text'", "separated by '|': write `separator: \"|\"`"),
        ("id\ttext\n", "no column 'text'", "separated by '\\t': write `separator: \"\\t\"`"),
        ("id;Text\n1;a", "no column 'text'", '`separator: ";"`, and then: did you mean `Text`? name the column'),
        ("text,text\n1,a", "two columns are called 'text'", "rename"),
    ],
)
def test_a_csv_without_the_column_names_those_it_has(tmp_path: Path, raw: str, message: str, remedy: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, raw, "a.csv")
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    (lost,) = read(tmp_path, raw, "a.csv", max_bad_rows=1)
    assert [verdict.rule for verdict in lost.verdicts] == ["other_schema"] and lost.document is None
    assert message.removeprefix("a.csv:1: ") in lost.verdicts[0].detail


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_names_that_are_whole_texts_are_cut_in_messages(tmp_path: Path, kind: str) -> None:
    name = "one more line of text that was taken for a name " * 20_000
    if kind == "csv":
        raw = f"{name},{name}2\n1,2\n".encode()
    elif kind == "jsonl":
        raw = json.dumps({name: "a text"}).encode()
    else:
        file = io.BytesIO()
        pq.write_table(pa.table({name: [{name: 1}]}), file)
        raw = file.getvalue()
    with pytest.raises(DataError, match=rf"a\.{kind}") as raised:
        read(tmp_path, raw, f"a.{kind}")
    assert len(raised.value.message) + len(raised.value.remedy) < 1000


def test_a_csv_record_beyond_the_limit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE", 100)
    monkeypatch.setattr(streams, "PIECE", 20)
    short, long = '"one\nrecord"', '"' + "many\n" * 30 + '"'
    raw = f"text\n{short}\n{long}\nplain\n" + "x" * 300 + "\nlast\n"
    outcomes = read(tmp_path, raw, "a.csv", max_bad_rows=1)
    assert said(outcomes) == [("too_long", "dropped", "153"), ("too_long", "dropped", "301")]
    assert texts(outcomes) == {"a.csv:2": "one\nrecord", "a.csv:35": "plain", "a.csv:37": "last"}
    with pytest.raises(DataError, match=r"b\.csv:3: a quote is opened here and never closed.*\(151 bytes, 30 lines\)"):
        read(tmp_path, "text\nfirst\n" + long[:-1], "b.csv")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_an_open_quote_that_takes_in_too_much_of_a_file_is_no_bad_row(tmp_path: Path, name: str) -> None:
    by = "\t" if name.endswith("tsv") else ","
    rows = [f"{number}{by}a text" for number in range(1000)]
    rows[150] = f'150{by}"a text'
    with pytest.raises(DataError) as caught:
        read(tmp_path, f"id{by}text\n" + "\n".join(rows), name)
    assert f"{name}:152: a quote is opened here and never closed" in caught.value.message
    assert "(9351 bytes, 850 lines)" in caught.value.message and "double the quotes" in caught.value.remedy
    outcomes = read(tmp_path, f"id{by}text\n" + "\n".join(rows), name, max_bad_rows=1)
    assert len(texts(outcomes)) == 150 and said(outcomes) == [("open_quote", "dropped", "9351")]


def test_a_header_with_an_open_quote_is_no_missing_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:1: a quote is opened here and never closed"):
        read(tmp_path, 'id,"text\n1,a\n2,b', "a.csv")
    assert said(read(tmp_path, 'id,"text\n1,a\n2,b', "a.csv", max_bad_rows=1)) == [("other_schema", "dropped", "")]


def test_an_open_quote_that_takes_in_little_of_a_file_is_a_bad_row(tmp_path: Path) -> None:
    rows = ['"two\nlines"'] * 1000
    end = '"open\n' + "x\n" * 15  # as many lines as eight rows have
    outcomes = read(tmp_path, "\n".join(["text", *rows, end]), "a.csv")
    assert len(texts(outcomes)) == 1000 and said(outcomes) == [("open_quote", "dropped", "36")]
    assert "a.csv:2002: a quote is opened and never closed, 36 bytes and 16 lines to the end" in str(outcomes[-1])
    with pytest.raises(DataError, match=r"a\.csv:2002: a quote is opened here and never closed"):
        read(tmp_path, "\n".join(["text", *rows, end + "x\n" * 15]), "a.csv")


def test_a_stray_quote_that_is_closed_later_is_noted(tmp_path: Path) -> None:
    rows = [f"{number},a text" for number in range(900)]
    rows[20], rows[140] = '20,"a text', '140,and "more" text'
    rows[300], rows[310] = '300,"a text', '310,"few are no wonder"'
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *rows]))
    config = parse(SourceConfig, {"path": "a.csv"})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    unusable = Unusable()
    outcomes = [found for found in read_rows(item, config, unusable=unusable) if isinstance(found, Outcome)]
    assert said(outcomes)[0] == ("many_lines", "changed", "121") and texts(outcomes)["a.csv:22"].count("\n") == 120
    assert unusable.plain()["rows"] == 1 and "takes in 121 lines within quotes" in unusable.plain()["first"][0]
    assert "(a.csv:22)" in unusable.plain()["first"][0]


@pytest.mark.parametrize(("first", "last", "told"), [(5, 250, 246), (0, 120, 121), (9, 288, 280), (5, 298, 0)])
def test_a_stray_quote_in_the_first_rows_is_noted_where_enough_stand_behind(
    tmp_path: Path, first: int, last: int, told: int
) -> None:
    rows = [f"{number},a text" for number in range(300)]
    rows[first], rows[last] = f'{first},"a text', f'{last},and "more" text'
    outcomes = read(tmp_path, "\n".join(["id,text", *rows]), "a.csv")
    assert said(outcomes) == ([("many_lines", "changed", str(told))] if told else [])
    assert [outcome.document.locator for outcome in outcomes if outcome.document] == [
        f"a.csv:{number + 2}" for number in range(300) if not first < number <= last
    ]


@pytest.mark.parametrize(
    "heights", [[150] * 20, [1, 2] * 20 + [150], [1] * 5 + [150] * 20, [1] * 40 + [99], [150, 2] * 9]
)
def test_long_texts_are_no_wonder_where_others_are_long_too(tmp_path: Path, heights: list[int]) -> None:
    raw = "text\n" + "".join('"' + "\n".join(["line"] * height) + '"\n' for height in heights)
    assert said(read(tmp_path, raw, "a.csv")) == []


def test_a_csv_record_without_end_is_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE", 1 << 20)
    lines = ((number, b'"' * (number == 1) + bytes(1000)) for number in range(1, 16_000))
    tracemalloc.start()
    (record,) = records(lines, b",")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert record.open_quote > 15_000_000
    assert peak < 4 << 20


def test_a_cell_of_many_short_lines_takes_little_more_memory_than_it_has_bytes() -> None:
    raw = b'text\n"' + b"a\n" * (1 << 18) + b'"\n'
    tracemalloc.start()
    header, record = records(streams.lines(raw[at : at + (1 << 16)] for at in range(0, len(raw), 1 << 16)), b",")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.cells == [b"text"] and record.cells == [raw[6:-2]] and peak < 4 * len(raw)


TABLE = [["id", "ask", "text"], *([str(n), f"why; {n}", f'so, "{n}";\nand\t|{n}'] for n in range(40))]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.CSV.gz"])
@pytest.mark.parametrize("separator", [";", "|", "\t", ",", "^"])
def test_cells_stand_between_what_the_recipe_says(tmp_path: Path, name: str, separator: str) -> None:
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows(TABLE)
    rows = list(csv.DictReader(io.StringIO(file.getvalue(), newline=""), delimiter=separator))
    raw = gzip.compress(file.getvalue().encode()) if name.endswith("gz") else file.getvalue().encode()
    found = read(tmp_path, raw, name, separator=separator)
    assert list(texts(found).values()) == [row["text"] for row in rows] == [row[2] for row in TABLE[1:]]
    found = read(tmp_path, raw, name, separator=separator, map={"prompt": "ask", "completion": "text"})
    assert list(texts(found).values()) == [f"user: {row['ask']}\n\nassistant: {row['text']}" for row in rows]
    if separator == ";":
        with pytest.raises(DataError) as caught:
            read(tmp_path, raw, name, field="ask")
        assert caught.value.remedy.startswith("the cells look separated by ';': write `separator: \";\"`;")


def test_a_separator_is_for_csv_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`separator:` would do nothing: .*a\.jsonl is read as jsonl"):
        read(tmp_path, row("x"), "a.jsonl", separator=";")


CELLS = st.lists(st.text(st.sampled_from('",;\n\r aé'), max_size=12), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(CELLS, min_size=1, max_size=5), st.sampled_from([",", "\t", ";"]), st.sampled_from(["\n", "\r\n"]))
def test_csv_reads_what_the_standard_library_writes(rows: list[list[str]], separator: str, end: str) -> None:
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    lines = streams.lines([file.getvalue().encode()])
    assert [[cell.decode() for cell in r.cells] for r in records(lines, separator.encode())] == rows


@settings(max_examples=500)
@given(st.text(st.sampled_from('""",,;;\n a'), max_size=40), st.sampled_from(",;"))
def test_csv_agrees_with_the_standard_library_on_any_text(text: str, separator: str) -> None:
    expected = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    found = list(records(streams.lines([text.encode()]), separator.encode()))
    if found and found[-1].open_quote:
        found.pop()  # the standard library makes a row of what is left
        expected.pop()
    assert [[cell.decode() for cell in record.cells] for record in found] == expected


@given(st.lists(st.text(st.sampled_from('a"\n,'), max_size=12), max_size=6))
def test_csv_locators_name_the_line_on_which_the_record_begins(values: list[str]) -> None:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    begins = []
    for value in values:
        begins.append(file.getvalue().count("\n") + 1)
        writer.writerow([value])
    assert [r.line for r in records(streams.lines([file.getvalue().encode()]), b",")] == begins
