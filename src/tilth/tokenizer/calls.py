"""Arguments of calls, which come as objects or, as OpenAI has them, as JSON texts: in the form that a template is for.

    in_form(messages, render)     the messages as the template is to see them

A template that writes both in the same way gets what came (Qwen 3). Else it gets objects: texts may come out within
quotes or further braces (Qwen 2.5, Gemma 4). It gets texts where objects fail (DeepSeek V3), or would be printed as
Python has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tilth.tokenizer.conversation import Dropped, arguments, with_calls

Messages = list[dict[str, Any]]
_OBJECT = {"\ue000": 0}  # arguments of a call that no row has
_TEXT, _PRINTED = json.dumps(_OBJECT, ensure_ascii=False), str(_OBJECT)


def in_form(messages: Messages, render: Callable[[Messages], str | Dropped]) -> Messages:
    """The messages with all arguments that are objects, or say one, in one form; `render` is the template."""
    if not any(message.get("tool_calls") for message in messages):
        return messages
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
