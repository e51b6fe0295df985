"""OpenAI's own keys of a message beside role and content: weights, and calls by their older name."""

from __future__ import annotations

from typing import Any

import pytest

from tilth.data.sources.messages import read_message
from tilth.data.sources.notes import Note


@pytest.mark.parametrize("weight", [0, 0.0, False])
def test_a_weight_of_0_goes_on(weight: float) -> None:
    said = {"content": "b", "weight": weight}
    assert read_message({"role": "assistant", **said}, "") == {"role": "assistant", "content": "b", "weight": 0}
    assert read_message({"role": "user", **said}, "") == {"role": "user", "content": "b"}


@pytest.mark.parametrize("weight", [1, 1.0, None, "0", [0]])
def test_other_weights_say_nothing(weight: Any) -> None:
    item = {"role": "assistant", "content": "b", "weight": weight}
    assert read_message(item, "") == {"role": "assistant", "content": "b"}


def test_an_older_call_is_one_of_a_tool() -> None:
    call = {"name": "w", "arguments": "{}"}
    told = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    assert read_message({"role": "assistant", "content": None, "function_call": call}, "") == told
    assert read_message({"role": "assistant", "function_call": call}, "") == told
    beside = read_message({"role": "assistant", "content": "I look.", "function_call": call}, "")
    assert beside == {**told, "content": "I look."}
    newer = [{"function": {"name": "other"}}]
    both = read_message({"role": "assistant", "content": "", "tool_calls": newer, "function_call": call}, "")
    assert both == {**told, "tool_calls": newer}


@pytest.mark.parametrize("call", [None, {}, {"name": None, "arguments": None}, "w"])
def test_no_call(call: Any) -> None:
    item = {"role": "assistant", "content": "b", "function_call": call}
    assert read_message(item, "") == {"role": "assistant", "content": "b"}
    assert isinstance(read_message({**item, "content": None}, ""), Note)
