"""JSON Lines read by Arrow: what comes out is what Python's parser and the rules row by row give, or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.data.document import Outcome, Rows
from tilth.data.sources import SourceConfig, list_inputs, read_input, read_rows, rows, streams
from tilth.data.sources.plain_json import plain_texts
from tilth.data.tasks import parts
from tilth.data.tasks.collect import collect

PLAIN = [
    b'{"text":"one"}',
    b'{"id": 7, "text": "two\\nlines \\"quoted\\" \\u00e9 \\ud83d\\ude00", "meta": {"a": [1, {"b": null}]}}',
    '{"text": "drei é 漢字 \U0001f600", "n": NaN, "m": -Infinity, "b": true}'.encode(),
    b' {"text":"blank before"}',
    b'{"text":"x","text2":"y","id":"2020-01-01","x":{"text":"inner"}}',
]
ODD = [
    b'{"text":"a","text":"b"}',
    b'{"text":"a"}{"text":"b"}',
    b'{"text":"a"},{"text":"b"}',
    b'{"text":"a","x":[{}',
    b"{}]}",
    b'{"text":"a\tb"}',
    b'{"text":"a","x":Inf}',
    b'{"text":"a","x":[-NaN]}',
    b'{"text":"a","x":  -Inf }',
    b'{"text":"a","x":' + b" " * 100 + b"Inf}",
    b'{"text":"a","x":[1,\tInf]}',
    b'{"text":"a","x":' + b"1" * 5000 + b"}",
    b'{"text":"a","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"text":"a","x":1e999}',
    b'{"text":"\\ud83d"}',
    b'{"text":"\\ude00x"}',
    b'{"text":"a\\u0000b"}',
    b'{"text":"\xff"}',
    b'{"text":"a","\xff":1}',
    b'{"text":"a","x":"\xed\xa0\x80"}',
    b'{"text":null}',
    b'{"text":5}',
    b'{"text":["a"]}',
    b'{"other":"a"}',
    b"{}",
    b"[]",
    b'"text"',
    b"",
    b"  ",
    b'{"text":""}',
    b'{"text":" \\u2028\\u3000 "}',
    b'{"text":"\\u2028x"}',
    b'{"text":"a",}',
    b'{"text":"a"} // said',
    b'{"text":"a","x":01}',
    b'{"text":"carriage"}\r',
]


def item_of(folder: Path, raw: bytes, **data: object) -> tuple[list[Outcome | Rows], list[Outcome]]:
    """What the fast way gives, and the same as outcomes."""
    (folder / "a.jsonl").write_bytes(raw)
    config = parse(SourceConfig, {"path": "a.jsonl", "max_bad_rows": 1, **data})
    (item,) = list_inputs(config, folder, folder)
    return list(read_rows(item, config)), list(read_input(item, config))


def one_by_one(folder: Path, raw: bytes, patch: pytest.MonkeyPatch) -> list[Outcome]:
    with patch.context() as context:
        context.setattr(rows, "plain_texts", lambda block, field: None)
        return item_of(folder, raw)[1]


@pytest.mark.parametrize("odd", ODD, ids=lambda line: line[:24].decode("ascii", "replace"))
def test_an_odd_line_is_judged_as_by_itself_and_its_neighbours_too(
    tmp_path: Path, odd: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = b"\n".join([*PLAIN * 4, odd, *PLAIN * 4])
    assert item_of(tmp_path, raw)[1] == one_by_one(tmp_path, raw, monkeypatch)


def test_lines_that_make_up_for_each_other_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"\n".join([*PLAIN[:2], b'{"text":"a"}{"text":"b"}', b'{"text":"a","x":[{}', b"{}]}", b""])
    assert item_of(tmp_path, raw)[1] == one_by_one(tmp_path, raw, monkeypatch)


def test_plain_lines_come_at_once_but_for_the_piece_with_an_odd_one(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {n}", "n": n}).encode() for n in range(320)]
    (whole,) = item_of(tmp_path, b"\n".join([*lines, b""]))[0]
    assert isinstance(whole, Rows) and [d.text for d in whole] == [f"text {n}" for n in range(320)]
    assert whole[319].locator == "a.jsonl:320" and whole[319].license is None
    lines[100] = b"odd"
    found = item_of(tmp_path, b"\n".join([*lines, b""]), license="MIT")[0]
    assert [len(one) if isinstance(one, Rows) else 1 for one in found] == [20] * 5 + [1] * 20 + [20] * 10
    assert {d.license for one in found if isinstance(one, Rows) for d in one} == {"MIT"}


@pytest.mark.parametrize("line", [*PLAIN, *ODD], ids=lambda line: line[:24].decode("ascii", "replace"))
def test_what_is_taken_is_what_pythons_parser_gives(line: bytes) -> None:
    found = plain_texts(line + b"\n", "text")
    if found is not None:
        assert found.to_pylist() == [json.loads(line)["text"]]


def test_words_that_a_number_could_be_are_none_within_a_text() -> None:
    texts = ["all-NaN slice, or Inf (infinity)", "float('Inf', x)", "x-Inf}", "Inf"]
    found = plain_texts("\n".join(json.dumps({"text": text}) for text in texts).encode(), "text")
    assert found is not None and found.to_pylist() == texts
    assert plain_texts(b'{"text":"as in: Inf, or"}\n', "text") is None, "as a value would stand: looked at by itself"


words = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda v: st.lists(v) | st.dictionaries(words, v),
    max_leaves=5,
)


@given(
    st.lists(st.dictionaries(words | st.just("text"), values | words, max_size=3), min_size=1, max_size=5),
    st.booleans(),
)
def test_any_objects_are_taken_as_they_are_or_not_at_all(objects: list[dict[str, object]], ascii_only: bool) -> None:
    raw = "\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in objects).encode()
    found = plain_texts(raw, "text")
    if found is not None:
        assert found.to_pylist() == [one["text"] for one in objects]
    elif all(isinstance(text := one.get("text"), str) and text.strip() and "\0" not in text for one in objects):
        assert "Inf" in raw.decode(), "plain rows are taken"


def files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_files_are_the_same_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BATCH_BYTES", 1000)
    monkeypatch.setattr(streams, "PIECE", 3000)
    lines = [json.dumps({"text": f"{n} é " * (n % 40 + 1)}) for n in range(400)]
    lines[77] = lines[301] = "odd"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    config = parse(SourceConfig, {"path": "a.jsonl"})
    inputs = list(list_inputs(config, tmp_path, tmp_path))
    made, facts = [], []
    for name, slow in (("fast", False), ("slow", True)):
        with monkeypatch.context() as context:
            if slow:
                context.setattr(rows, "plain_texts", lambda block, field: None)
            (tmp_path / name).mkdir()
            facts.append(collect(tmp_path / name, config, inputs, (), 20_000))
            made.append(dict(files(tmp_path / name)))
    assert made[0] == made[1] and len(made[0]) > 3
    assert facts[0] == facts[1]
