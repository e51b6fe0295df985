"""OpenAI's own keys of a message beside role and content: weights, and calls by their older name; and what is said of
messages that are none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.sources import SourceConfig, list_inputs, read_input
from tilth.data.sources.messages import _ROLES, read_message, remedy_of
from tilth.data.sources.notes import Note


@pytest.mark.parametrize("weight", [0, 0.0, False])
def test_a_weight_of_0_goes_on(weight: float) -> None:
    said = {"content": "b", "weight": weight}
    assert read_message({"role": "assistant", **said}, "") == {"role": "assistant", "content": "b", "weight": 0}
    assert read_message({"role": "user", **said}, "") == {"role": "user", "content": "b"}


@pytest.mark.parametrize("weight", [1, 1.0, True, None])
@pytest.mark.parametrize("key", ["weight", "train", "loss"])
def test_a_weight_of_1_says_nothing(key: str, weight: Any) -> None:
    item = {"role": "assistant", "content": "b", key: weight}
    assert read_message(item, "") == {"role": "assistant", "content": "b"}


@pytest.mark.parametrize("key", ["train", "loss"])
@pytest.mark.parametrize("value", [False, 0])
def test_others_say_it_by_another_key(key: str, value: Any) -> None:
    item = {"role": "assistant", "content": "b", key: value, "train_detail": []}
    assert read_message(item, "") == {"role": "assistant", "content": "b", "weight": 0}


@pytest.mark.parametrize(
    ("key", "value"),
    [("weight", "0"), ("weight", 0.5), ("weight", [0]), ("train", "false"), ("train_detail", [{"begin_offset": 0}])],
)
def test_a_part_of_a_weight_is_refused(key: str, value: Any) -> None:
    note = read_message({"role": "assistant", "content": "b", key: value}, "x:1: message 2")
    assert isinstance(note, Note) and note.rule == "weight" and note.detail.startswith(f"x:1: message 2: {key} is ")
    assert "write `weight: 0`" in remedy_of(note)
    assert read_message({"role": "user", "content": "b", key: value}, "") == {"role": "user", "content": "b"}


def test_an_older_call_is_one_of_a_tool() -> None:
    call = {"name": "w", "arguments": "{}"}
    told = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    assert read_message({"role": "assistant", "content": None, "function_call": call}, "") == told
    assert read_message({"role": "assistant", "function_call": call}, "") == told
    beside = read_message({"role": "assistant", "content": "I look.", "function_call": call}, "")
    assert beside == {**told, "content": "I look."}
    newer = [{"function": {"name": "other", "arguments": {}}}]
    both = read_message({"role": "assistant", "content": "", "tool_calls": newer, "function_call": call}, "")
    assert both == {**told, "tool_calls": newer}


@pytest.mark.parametrize("nothing", [{}, {"arguments": None}, {"arguments": ""}, {"arguments": []}, {"arguments": {}}])
def test_a_call_without_arguments_has_an_empty_object(nothing: dict[str, Any]) -> None:
    call, silent = {"name": "now", **nothing}, {"role": "assistant", "content": ""}
    told = {"name": "now", "arguments": {}}
    outer = {"type": "function", "id": "a"}
    for given in ({"function_call": call}, {"tool_calls": [{**outer, "function": call}]}, {"tool_calls": [call]}):
        message = read_message({**silent, **given}, "")
        assert not isinstance(message, Note)
        assert message["tool_calls"][0].get("function", message["tool_calls"][0]) == told


@pytest.mark.parametrize(
    "call",
    [
        {"name": "now", "parameters": {"zone": 1}},
        {"name": "now", "parameters": '{"zone": 1}'},
        {"name": "now", "args": "{}", "arguments": None},
        {"name": "now", "parameters": ["zone"]},
        {"type": "code", "code": {"name": "x"}},
        {"name": 1},
        "now",
        None,
    ],
)
def test_calls_of_other_forms_stay_as_they_are(call: Any) -> None:
    message = read_message({"role": "assistant", "content": "", "tool_calls": [call]}, "")
    assert message == {"role": "assistant", "content": "", "tool_calls": [call]}


@pytest.mark.parametrize("call", [None, {}, {"name": None, "arguments": None}, "w"])
def test_no_call(call: Any) -> None:
    item = {"role": "assistant", "content": "b", "function_call": call}
    assert read_message(item, "") == {"role": "assistant", "content": "b"}
    assert isinstance(read_message({**item, "content": None}, ""), Note)


@pytest.mark.parametrize(
    ("message", "said", "remedy"),
    [
        (
            {"role": "bot", "content": "b"},
            "is by 'bot'",
            "user (or human), assistant (or gpt, chatgpt, model), tool (or",
        ),
        ({"role": "assistant", "content": None}, "holds NoneType, not a text", "and its content a text"),
    ],
)
def test_what_a_message_must_be_is_said_where_it_is_none(
    tmp_path: Path, message: dict[str, Any], said: str, remedy: str
) -> None:
    row = {"m": [{"role": "user", "content": "a"}, message]}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(row)}\n" * 9)
    config = parse(SourceConfig, {"path": "a.jsonl", "map": {"messages": "m"}})
    with pytest.raises(DataError, match=said) as caught:
        [list(read_input(item, config)) for item in list_inputs(config, tmp_path, tmp_path)]
    assert remedy in caught.value.remedy and "`format:`" not in caught.value.remedy


def test_the_guide_has_the_names_of_roles() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "finetuning.md").read_text()
    for ours in dict.fromkeys(_ROLES.values()):
        names = ", ".join(f"`{name}`" for name, role in _ROLES.items() if role == ours)
        assert f"| {names} | {ours} |" in guide
