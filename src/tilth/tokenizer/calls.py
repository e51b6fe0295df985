"""Calls, and the answers that only call, in the form that a template is for.

    in_form(messages, render, bare)     the messages as the template is to see them

Arguments come as objects or, as OpenAI has them, as JSON texts.

A template that writes both in the same way gets what came (Qwen 3). Else it gets objects: texts may come out within
quotes or further braces (Qwen 2.5, Gemma 4). It gets texts where objects fail (DeepSeek V3), or would be printed as
Python has them.

The content of an answer that only calls is "", or None as OpenAI has it where the template takes "" for an answer
(DeepSeek R1): it writes nothing of the calls then, or an empty answer behind them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tilth.tokenizer.conversation import Dropped, arguments, with_calls
from tilth.tokenizer.left_out import holds, probed

Messages = list[dict[str, Any]]
Render = Callable[[Messages], str | Dropped]
_OBJECT = {"\ue000": 0}  # arguments of a call that no row has
_TEXT, _PRINTED = json.dumps(_OBJECT, ensure_ascii=False), str(_OBJECT)


def in_form(messages: Messages, render: Render, bare: Callable[[str], str]) -> Messages:
    """The messages with all arguments that are objects, or say one, in one form, and so the contents of answers that
    only call.

    Args:
        render: the template.
        bare: a rendering without the special tokens and the white space in it.
    """
    if not any(message.get("tool_calls") for message in messages):
        return messages
    said, silent = (_with_content(messages, content) for content in ("", None))
    told = _arguments_in_form(said, render)
    if said == silent or render(told) == render(_with_content(told, None)):
        return told
    other = _arguments_in_form(silent, render)
    if not (raw := _with_calls(other, render)):
        return told
    instead = _with_calls(told, render)
    fewer = len(raw) < len(instead) and bare(raw) == bare(instead)
    return other if fewer or not instead else told


def _with_content(messages: Messages, content: str | None) -> Messages:
    """The messages with this content of all answers that only call."""
    return [
        {**message, "content": content} if message.get("tool_calls") and not message.get("content") else message
        for message in messages
    ]


def _with_calls(messages: Messages, render: Render) -> str:
    """The rendering with marks in the calls; "" where it does not hold them all."""
    probe = probed(messages, "calls")
    raw = render(probe.messages)
    marks = [mark for some in probe.marks.values() for mark in some]
    return raw if not isinstance(raw, Dropped) and holds(raw, marks) else ""


def _arguments_in_form(messages: Messages, render: Render) -> Messages:
    whole, text = (render(_with_arguments(messages, given)) for given in (lambda _: dict(_OBJECT), lambda _: _TEXT))
    if whole == text and not isinstance(whole, Dropped):
        return messages
    forms = [_with_arguments(messages, _as_object), _with_arguments(messages, _as_text)]
    if isinstance(whole, Dropped) or _PRINTED in whole:
        forms.reverse()
    return next((form for form in forms if not isinstance(render(form), Dropped)), messages)


def _with_arguments(messages: Messages, change: Callable[[Any], Any]) -> Messages:
    def changed(call: dict[str, Any]) -> dict[str, Any]:
        given = call.get("arguments")
        return {**call, "arguments": change(given)} if isinstance(_as_object(given), dict) else call

    return [with_calls(message, changed) for message in messages]


def _as_object(given: Any) -> Any:
    return arguments(given) if isinstance(given, str) else given


def _as_text(given: Any) -> Any:
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
