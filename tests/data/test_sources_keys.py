"""Keys with dots, texts in parts, and rows that stand inside of one object."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs
from tilth.data.sources.chatgpt import read_tree
from tilth.data.sources.files import read_rows
from tilth.data.sources.keys import rows_in, text_within
from tilth.data.sources.messages import read_message
from tilth.data.sources.notes import Note
from tilth.data.sources.unusable import Unusable

DISCORD = {
    "guild": {"id": "1", "name": "G"},
    "messages": [
        {"id": "5", "content": "hi all", "author": {"id": "9", "name": "bob"}, "attachments": []},
        {"id": "6", "content": "", "author": {"name": "al"}, "attachments": [{"url": "x"}]},
    ],
    "messageCount": 2,
}
TELEGRAM = [
    {"id": 1, "from": "A", "text": "plain hello"},
    {"id": 2, "from": "B", "text": ["see ", {"type": "link", "text": "https://a.b"}, " ok"]},
    {"id": 3, "action": "x", "text": ""},
]


def read(path: Path, unusable: Unusable | None = None, **data: Any) -> list[Outcome]:
    config = parse(SourceConfig, {"path": path.name, **data})
    found = [
        o for item in list_inputs(config, path.parent, path.parent) for o in read_rows(item, config, unusable=unusable)
    ]
    return [one for rows in found for one in ([rows] if isinstance(rows, Outcome) else map(Outcome, rows))]


def texts(outcomes: list[Outcome]) -> list[str]:
    return [o.document.text for o in outcomes if o.document]


def rules(outcomes: list[Outcome]) -> list[str]:
    return [v.rule for o in outcomes for v in o.verdicts]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_export_of_discord(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(DISCORD))
    outcomes = read(tmp_path / "c.json", records="messages", template="{author.name}: {content}")
    assert texts(outcomes) == ["bob: hi all", "al: "]
    mapping = {"prompt": "author.name", "completion": "content", "system": "author.role"}
    outcomes = read(tmp_path / "c.json", records="messages", map=mapping)
    assert texts(outcomes) == ["user: bob\n\nassistant: hi all"] and rules(outcomes) == ["empty_turn"]


def test_texts_of_telegram_and_notebooks_are_joined(tmp_path: Path) -> None:
    found = read(lines(tmp_path / "t.jsonl", TELEGRAM))
    assert texts(found) == ["plain hello", "see https://a.b ok"] and rules(found) == ["empty"]
    source = "import a\n\nprint(a)"
    book = {"nbformat": 4, "cells": [{"cell_type": "code", "source": source.splitlines(keepends=True)}]}
    (tmp_path / "n.json").write_text(json.dumps(book))
    assert texts(read(tmp_path / "n.json", records="cells", field="source")) == [source]
    parts = [["a", 1], [None], {"text": "b"}, [{"type": "image"}], 7]
    found = read(lines(tmp_path / "p.jsonl", [{"text": one} for one in parts]), max_bad_rows=1)
    assert rules(found) == ["not_text"] * 5


def test_the_messages_of_all_chats_of_telegram(tmp_path: Path) -> None:
    chats = [{"id": 1, "messages": TELEGRAM}, 7, {"id": 2}, [], {"id": 3, "messages": TELEGRAM[:1]}]
    (tmp_path / "t.json").write_text(json.dumps({"about": "x", "chats": {"list": chats}}))
    found = read(tmp_path / "t.json", records="chats.list.messages")
    assert texts(found) == ["plain hello", "see https://a.b ok", "plain hello"] and rules(found) == ["empty"]
    assert [o.document.locator for o in found if o.document] == [f"t.json#row={n}" for n in (1, 2, 4)]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_key_with_its_dot_goes_before_one_within_another(tmp_path: Path, suffix: str) -> None:
    rows = [{"a.b": "with its dot", "a": {"b": "within", "c": {"d": "deep"}, "e.f": "both"}, "n": 1}]
    path = tmp_path / f"a.{suffix}"
    pq.write_table(pa.Table.from_pylist(rows), path) if suffix == "parquet" else lines(path, rows)
    assert texts(read(path, field="a.b")) == ["with its dot"]
    assert texts(read(path, template="{a.c.d} {a.e.f} {n}")) == ["deep both 1"]
    with pytest.raises(DataError, match=r"no '?.*'a\.x'"):
        read(path, field="a.x")
    with pytest.raises(DataError, match=r"no '?.*'n\.x'"):
        read(path, field="n.x")


def test_columns_of_parquet_within_others_and_of_lists(tmp_path: Path) -> None:
    people = [{"name": "bob"}, None, {"name": None}, {"name": "al"}]
    says = [["p\n", "q"], ["r"], [], None]
    parts = [[{"type": "text", "text": "x"}, {"type": "link", "text": "y"}], [], None, [{"type": "i", "text": None}]]
    pq.write_table(pa.table({"who": people, "says": says, "parts": parts}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", field="who.name")
    assert texts(found) == ["bob", "al"] and rules(found) == ["empty"] * 2
    found = read(tmp_path / "a.parquet", field="says")
    assert texts(found) == ["p\nq", "r"] and rules(found) == ["empty"] * 2
    found = read(tmp_path / "a.parquet", field="parts")
    assert texts(found) == ["xy"] and rules(found) == ["empty", "empty", "not_text"]
    assert texts(read(tmp_path / "a.parquet", template="{who.name}: {says}")) == ["bob: p\nq", ": r", "al: "]


def test_text_within_a_column_that_is_not_utf8_is_no_empty_one(tmp_path: Path) -> None:
    bad = pa.StructArray.from_arrays([pa.array([b"ok", b"\xff"]).view(pa.string())], ["name"])
    pq.write_table(pa.table({"who": bad}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", field="who.name", max_bad_rows=1)
    assert texts(found) == ["ok"] and len(found) == 2 and found[1].verdicts[-1].rule == "not_text"
    assert found[1].verdicts[-1].detail == "a.parquet#row=2: 'who' holds bytes that are not UTF-8"
    whole = pa.StructArray.from_arrays([pa.array(["ok", "fine"]), *bad.flatten()], ["name", "z"])
    pq.write_table(pa.table({"who": whole}), tmp_path / "b.parquet")
    assert texts(read(tmp_path / "b.parquet", field="who.name")) == ["ok", "fine"]
    assert texts(read(tmp_path / "b.parquet", template="{who.name}: {who.z}", max_bad_rows=1)) == ["ok: ok"]


def test_a_missing_inner_key_is_told_with_those_there_are(tmp_path: Path) -> None:
    (outcome,) = read(lines(tmp_path / "a.jsonl", [{"author": {"id": 1}}]), field="author.name", max_bad_rows=1)
    assert outcome.verdicts[0].detail == "a.jsonl:1: no 'author.name'; the keys of 'author' are 'id'"
    with pytest.raises(DataError) as caught:
        read(lines(tmp_path / "b.jsonl", [{"author": {"name": "a"}, "n": 1}]))
    assert "write `field: author.name`" in caught.value.remedy


@pytest.mark.parametrize(
    ("whole", "place"),
    [
        ({"articles": [{"body": "a"}], "count": 1}, "articles"),
        ({"data": {"n": 1, "items": [{"a": 1}]}, "tags": ["x"]}, "data.items"),
        ({"features": [{"name": n} for n in "abc"], "rows": [{"row": {"body": "a long text"}}]}, "rows"),
        ({"people": [{"id": 1}], "messages": [{"t": 1}, {"t": 2}]}, "messages"),
        ({"name": "package", "version": 1, "tags": ["x"], "none": []}, ""),
    ],
)
def test_where_the_rows_of_one_object_stand_is_said(tmp_path: Path, whole: dict[str, Any], place: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(whole))
    unusable = Unusable()
    assert rules(read(tmp_path / "a.json", unusable)) == ["no_field"]
    told = unusable.plain()
    assert (f"write `records: {place}`" in told["remedy"]) == bool(place) == ("`records:" in told["first"][0])
    assert "max_bad_rows" not in told["remedy"]


@pytest.mark.parametrize(
    ("value", "said", "remedy"),
    [
        (["Broncos", "Broncos"], "'a' holds several texts, not one", "of alternatives the first"),
        (["First paragraph.", "Second.\n"], "'a' holds several texts, not one", "of alternatives the first"),
        (
            [{"role": "user", "text": "Q?"}, {"role": "assistant", "text": "A."}],
            "'a' holds messages",
            "map: {messages: a}",
        ),
        ([{"role": "user", "content": "Q?"}], "'a' holds messages", "map: {messages: a}"),
    ],
)
def test_lists_that_are_no_one_text_are_not_glued(tmp_path: Path, value: list[Any], said: str, remedy: str) -> None:
    path = lines(tmp_path / "a.jsonl", [{"q": "?", "a": value}] * 3)
    with pytest.raises(DataError, match=said) as caught:
        read(path, field="a")
    assert remedy in caught.value.remedy
    if "messages" in remedy:
        assert len(texts(read(path, map={"messages": "a"}))) == 3
    for shape in ({"template": "{q} {a}"}, {"map": {"prompt": "q", "completion": "a"}}):
        with pytest.raises(DataError, match=said):
            read(path, **shape)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"log.body": {"text": "of a log"}}, "log.body.text"),
        ({"a.b": {"c.d": {"e": "deep within"}}, "n": 1}, "a.b.c.d.e"),
        ({"id": "a1", "data": {"body": "much longer"}}, "data.body"),
    ],
)
def test_the_field_that_a_remedy_names_can_be_read(
    tmp_path: Path, suffix: str, row: dict[str, Any], place: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    pq.write_table(pa.Table.from_pylist([row]), path) if suffix == "parquet" else lines(path, [row])
    assert len(texts(read(path, field=place))) == 1
    if suffix == "jsonl" and not place.startswith("a.b"):
        with pytest.raises(DataError) as caught:
            read(path)
        assert f"write `field: {place}`" in caught.value.remedy


@pytest.mark.parametrize(
    ("whole", "remedy"),
    [
        (
            {f"id{n}": {"body": f"text {n}", "tags": [{"a": "b"}]} for n in range(10)},
            "`jq -c '.[]' a.json > NEW.jsonl`",
        ),
        ({"en": {"name": "x", "rows": [{"body": "a long text"}] * 9}, "de": {"name": "y"}}, "write `records: en.rows`"),
        ({"book": {"title": "a"}, "author": {"name": "b"}}, "write `field: book.title`"),
    ],
)
def test_rows_that_are_the_values_of_one_object_are_told(tmp_path: Path, whole: dict[str, Any], remedy: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(whole))
    assert rules(read(tmp_path / "a.json", unusable := Unusable())) == ["no_field"]
    assert remedy in unusable.plain()["remedy"] and unusable.plain()["remedy"].count("write") < 2


def test_the_command_that_makes_lines_of_an_object_can_be_typed(tmp_path: Path) -> None:
    raw = json.dumps({f"id{n}": {"body": f"text {n}"} for n in range(10)}).encode()
    folder = tmp_path / "my words"
    folder.mkdir()
    for name, command in (
        ("b's.json", """`jq -c '.[]' 'my words/b'"'"'s.json' > NEW.jsonl`"""),
        ("b.json.gz", "`gzip -dc 'my words/b.json.gz' | jq -c '.[]' > NEW.jsonl`"),
        ("b.zip", "take the file out of its archive, and `jq -c '.[]' FILE > NEW.jsonl`"),
    ):
        path = folder / name
        path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
        if name == "b.zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("in/c.json", raw)
        for given, known in ((f"my words/{name}", command), (str(path), command.replace("my words/", f"{folder}/"))):
            config = parse(SourceConfig, {"path": given})
            (item,) = list_inputs(config, tmp_path, tmp_path)
            list(read_rows(item, config, among_many=True, unusable=(unusable := Unusable())))
            assert unusable.plain()["remedy"].endswith(known)


def test_rows_beside_the_text_of_one_object_are_told(tmp_path: Path) -> None:
    whole = {"text": "a title", "rows": [{"text": "the first row"}, {"text": "the second row"}]}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    unusable = Unusable()
    assert texts(read(tmp_path / "a.json", unusable)) == ["a title"]
    (told,) = unusable.plain()["first"]
    assert "its rows at 'rows' are not read; `records: rows` reads them" in told
    assert len(texts(read(tmp_path / "a.json", records="rows"))) == 2
    for other in ([whole, whole], {**whole, "text": "a text longer than its rows " * 9}):
        (tmp_path / "a.json").write_text(json.dumps(other))
        read(tmp_path / "a.json", unusable := Unusable())
        assert not unusable.plain()["first"]


def test_text_however_deep_is_counted() -> None:
    deep: Any = "abc"  # Python 3.12 parses such JSON, where 3.11 gives up
    for n in range(100_000):
        deep = {"a": deep, "n": n} if n % 2 else ["de", deep]
    assert text_within(deep) == 3 + 2 * 50_000
    assert rows_in({"rows": [{"x": deep}], "more": [{"x": "a" * 100_004}]}) == "more"


def test_what_is_nested_without_end_is_no_role_and_no_recipient() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    found = read_message({"role": deep, "content": "a"}, "message 1")
    assert isinstance(found, Note) and found[:2] == ("unknown_role", "list, nested too deep")
    said = {"author": {"role": "user"}, "content": {"parts": ["a"]}, "recipient": deep}
    tree = {"n": {"message": said, "parent": None}}
    assert [one.rule for one in (read_tree(tree, "n", ""), read_tree(tree, deep, "")) if isinstance(one, Note)] == [
        "beyond_text",
        "not_messages",
    ]
