"""Rows to texts: one column, a template, a conversation; the same for CSV, JSON Lines, JSON and Parquet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome, documents_table
from tilth.data.sources import SourceConfig, list_inputs, read_input

Row = dict[str, Any]


def write(path: Path, rows: list[Row]) -> None:
    """Rows in the format of the suffix, by its own library."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        file = io.StringIO()
        cells = [{k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in row.items()} for row in rows]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(cells)
        path.write_text(file.getvalue())


def read(path: Path, **data: Any) -> list[Outcome]:
    config = parse(SourceConfig, {"path": path.name, "max_bad_rows": 1, **data})
    return [o for item in list_inputs(config, path.parent, path.parent) for o in read_input(item, config)]


def rules(outcomes: list[Outcome]) -> list[str]:
    return [v.rule for o in outcomes for v in o.verdicts if v.verdict == "dropped"]


FORMATS = ["jsonl", "json", "parquet", "csv"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_template_puts_columns_together(tmp_path: Path, suffix: str) -> None:
    rows: list[Row] = [{"title": "One", "n": 1, "body": "first {text}"}, {"title": "Zwö", "n": 2, "body": 'a, "b"\nc'}]
    write(tmp_path / f"a.{suffix}", rows)
    outcomes = read(tmp_path / f"a.{suffix}", template="{title} ({n}) {{x}}\n\n{body}")
    expected = [f"{row['title']} ({row['n']}) {{x}}\n\n{row['body']}" for row in rows]
    assert [o.document.text for o in outcomes if o.document] == expected
    assert rules(outcomes) == []


def test_a_template_reaches_nothing_but_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"a": "x", "a.__class__": "the column", "a[0]": "too"}])
    (outcome,) = read(tmp_path / "a.jsonl", template="{a.__class__} {a[0]}")
    assert outcome.document is not None and outcome.document.text == "the column too"


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_rows_that_a_template_cannot_use_are_counted(tmp_path: Path, suffix: str) -> None:
    rows: list[Row] = [{"a": "x", "b": "y"}, {"a": "x"}, {"a": True, "b": "y"}, {"a": [1], "b": "y"}]
    write(tmp_path / f"a.{suffix}", [*rows, {"a": None, "b": "y"}, {"a": None, "b": None}])
    outcomes = read(tmp_path / f"a.{suffix}", template="{a}{b}")
    assert rules(outcomes) == ["no_field", "not_text", "not_text", "empty"]
    assert [o.document.text for o in outcomes if o.document] == ["xy", "y"]
    assert outcomes[1].verdicts[0].detail.endswith("no 'b'; the keys are 'a'")


@pytest.mark.parametrize("suffix", FORMATS)
def test_pairs_become_conversations(tmp_path: Path, suffix: str) -> None:
    rows: list[Row] = [
        {"q": "Why?", "more": "Tell.", "a": "So.", "s": "Be brief."},
        {"q": "Who?", "more": "", "a": "I.", "s": ""},
    ]
    write(tmp_path / f"a.{suffix}", rows)
    mapping = {"prompt": "{q} {more}", "completion": "a", "system": "s"}
    first, second = (o.document for o in read(tmp_path / f"a.{suffix}", map=mapping))
    assert first is not None and second is not None
    assert first.text == "system: Be brief.\n\nuser: Why? Tell.\n\nassistant: So."
    assert first.meta["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why? Tell."},
        {"role": "assistant", "content": "So."},
    ]
    assert second.text == "user: Who?\n\nassistant: I.", "what an empty last column leaves behind goes"


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("names", [("role", "content", "user", "assistant"), ("from", "value", "human", "gpt")])
def test_messages_of_openai_and_sharegpt_are_recognised(tmp_path: Path, suffix: str, names: tuple[str, ...]) -> None:
    who, what, one, other = names
    talk = [{who: "system", what: "S"}, {who: one, what: "Hello\nthere"}, {who: other, what: "Hi"}]
    write(tmp_path / f"a.{suffix}", [{"id": 1, "talk": talk}, {"id": 2, "talk": talk[1:]}])
    outcomes = read(tmp_path / f"a.{suffix}", map={"messages": "talk"})
    assert rules(outcomes) == []
    first, second = (o.document for o in outcomes)
    assert first is not None and second is not None
    assert first.text == "system: S\n\nuser: Hello\nthere\n\nassistant: Hi"
    assert [m["role"] for m in second.meta["messages"]] == ["user", "assistant"]
    stored = documents_table([first]).to_pylist()[0]
    assert json.loads(stored["meta"])["messages"][1] == {"role": "user", "content": "Hello\nthere"}


def test_messages_that_are_none_are_counted(tmp_path: Path) -> None:
    good = {"role": "user", "content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]}
    bad: list[Any] = [
        "no json",
        7,
        ["text"],
        [{"role": "user"}],
        [{"role": "wizard", "content": "x"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        [{"role": "user", "content": " "}],
        [],
    ]
    write(tmp_path / "a.jsonl", [{"m": [good]}, *({"m": value} for value in bad), {"other": 1}])
    outcomes = read(tmp_path / "a.jsonl", map={"messages": "m"})
    assert [o.document.text for o in outcomes if o.document] == ["user: in parts"]
    expected = ["not_messages"] * 4 + ["unknown_role", "not_messages", "beyond_text"] + ["empty"] * 2 + ["no_field"]
    assert rules(outcomes) == expected
    assert "message 1 is by 'wizard'" in outcomes[5].verdicts[0].detail


CALL = {"type": "function", "function": {"name": "sky", "arguments": '{"at": "K\\u00f6ln"}'}}
TOOL = {"type": "function", "function": {"name": "sky", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_messages_call_answer_and_think_goes_along(tmp_path: Path, suffix: str) -> None:
    talk: list[Any] = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Look."},
        {"role": "tool", "content": "dry", "tool_call_id": "1", "name": "sky"},
        {"role": "assistant", "content": "No."},
    ]
    other = [talk[0], {**talk[1], "tool_calls": [{**CALL, "function": {**CALL["function"], "name": "sea"}}]}]  # type: ignore[dict-item]
    write(tmp_path / f"a.{suffix}", [{"m": talk, "t": [TOOL]}, {"m": other, "t": []}])
    outcomes = read(tmp_path / f"a.{suffix}", map={"messages": "m", "tools": "t"})
    assert rules(outcomes) == []
    first, second = (o.document for o in outcomes)
    assert first is not None and second is not None
    call = {"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning_content": "Look."}
    assert first.meta["messages"] == [talk[0], call, talk[2], talk[3]] and first.meta["tools"] == [TOOL]
    assert "tools" not in second.meta
    assert first.text.startswith("user: Rain?\n\nassistant: Look.\n[{") and "tool: dry" in first.text
    assert "sea" in second.text, "calls tell conversations apart where equal ones are looked for"


def test_calls_and_tools_that_are_none_are_counted(tmp_path: Path) -> None:
    deep: Any = "end"
    for _ in range(200):
        deep = [deep]
    said = {"role": "assistant", "content": "x"}
    rows = [{"m": [{**said, "tool_calls": deep}]}, {"m": [said], "t": "no list"}, {"m": [{**said, "tool_calls": None}]}]
    write(tmp_path / "a.jsonl", rows)
    outcomes = read(tmp_path / "a.jsonl", map={"messages": "m", "tools": "t"})
    assert rules(outcomes) == ["not_messages", "not_tools"]
    assert outcomes[2].document is not None and outcomes[2].document.meta["messages"] == [said]


def test_what_parquet_cannot_hold_is_taken_out_of_messages_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(r'{"q": "a\ud800", "a": "b\u0000c"}')
    (outcome,) = read(tmp_path / "a.jsonl", map={"prompt": "q", "completion": "a"})
    assert outcome.document is not None
    assert outcome.document.text == "user: a\ufffd\n\nassistant: bc"
    assert [m["content"] for m in outcome.document.meta["messages"]] == ["a\ufffd", "bc"]
    assert [v.rule for v in outcome.verdicts] == ["surrogate", "nul"]
    documents_table([outcome.document])


ASKED, ANSWERED = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv"])
def test_messages_and_those_that_answer_them(tmp_path: Path, name: str, as_text: bool) -> None:
    """TRL's form: of both, what answers is trained."""
    rows = [{"p": [ASKED], "c": [ANSWERED], "s": "S"}, {"p": [ASKED, ANSWERED, ASKED], "c": [ANSWERED], "s": ""}]
    if as_text:
        rows = [{**row, "p": json.dumps(row["p"], indent=1), "c": f" {json.dumps(row['c'])}"} for row in rows]
    write(tmp_path / name, rows)
    first, second = read(tmp_path / name, map={"prompt": "p", "completion": "c", "system": "s"})
    assert first.document is not None and second.document is not None
    assert first.document.meta["messages"] == [{"role": "system", "content": "S"}, ASKED, ANSWERED]
    assert second.document.meta["messages"] == [ASKED, {**ANSWERED, "weight": 0}, ASKED, ANSWERED]


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("[sic] What is this?", "[1, 2]"),
        ('[{"name": "Ann", "role": "engineer", "content": 1}]', '[{"id": 1, "role": "user"}]'),
        (json.dumps([ASKED]), "A"),
        (json.dumps([ASKED]), json.dumps([{"text": "A"}])),
        (json.dumps([ASKED, 1]), json.dumps([ANSWERED])),
        (json.dumps([ASKED]), "[]x"),
        (json.dumps(ASKED), json.dumps(ANSWERED)),
    ],
)
def test_texts_that_only_look_like_messages_stay_texts(tmp_path: Path, prompt: str, completion: str) -> None:
    write(tmp_path / "a.jsonl", [{"p": prompt, "c": completion}])
    (found,) = read(tmp_path / "a.jsonl", map={"prompt": "p", "completion": "c"})
    assert found.document is not None
    assert [one["content"] for one in found.document.meta["messages"]] == [prompt, completion]
    write(tmp_path / "b.jsonl", [{"p": json.dumps([ASKED]), "c": json.dumps([ANSWERED])}])
    (found,) = read(tmp_path / "b.jsonl", map={"prompt": "Of {p}", "completion": "c"})
    assert found.document is not None and found.document.text.startswith('user: Of [{"role"')


def test_messages_that_a_text_answers(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"p": [ASKED], "c": "A"}] * 2)
    with pytest.raises(DataError, match="messages, not a text") as raised:
        read(tmp_path / "a.jsonl", map={"prompt": "p", "completion": "c"}, max_bad_rows=0)
    assert "lists of messages into both" in raised.value.remedy
    write(tmp_path / "b.jsonl", [{"p": [ASKED], "c": [{"role": "bot", "content": "A"}]}])
    (found,) = read(tmp_path / "b.jsonl", map={"prompt": "p", "completion": "c"})
    assert "b.jsonl:1: completion, message 1 is by 'bot'" in str(found)


def test_who_says_nothing_is_told_of_all(tmp_path: Path) -> None:
    rows = [{"q": "Q", "a": ""}, {"q": "Q", "a": None}, {"q": "", "a": "A"}]
    for count, who in ((2, "the assistant"), (3, "the assistant or the user")):
        write(tmp_path / "a.jsonl", rows[:count])
        with pytest.raises(DataError) as raised:
            read(tmp_path / "a.jsonl", map={"prompt": "q", "completion": "a"}, max_bad_rows=0)
        assert f"nothing is said by {who} (a.jsonl:1 and {count - 1} more)" in raised.value.message
