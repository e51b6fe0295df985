"""A conversation before it is rendered: what it must be, and what a template is given of it.

    Row                          messages, and the tools and documents that belong to them
    Dropped(rule, detail)        why one cannot be used, for the ledger
    checked(messages, …)         None, or why not
    is_learned(message)          whether an answer is to be trained
    seen(messages)               what a template sees of them
    with_calls(message, change)  one with other calls; arguments(text) what a text says of their arguments

Rules: `malformed`, `empty`, `role`, `empty_answer`, `no_answer` (here); `refused`, `template`, `no_prompt`,
`rewritten` (rendering.py), `left_out` (left_out.py); `too_large` (chat.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

ROLES = {"system", "developer", "user", "assistant", "tool", "tool_response", "function", "ipython", "environment"}
THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # names of the same thing; the first is the common one


class Dropped(NamedTuple):
    """A conversation that cannot be used: the rule, and what about it."""

    rule: str
    detail: str


class Row(NamedTuple):
    """What is rendered at a time.

    Attributes:
        messages: [{role, content, …}], as they came.
        tools: descriptions of tools (JSON Schema), None where there are none.
        documents: [{title, text}] for templates that quote them.
        size: characters of all this, as JSON.
    """

    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    documents: list[Any] | None = None
    size: int = 0


def checked(messages: Any, need_answer: bool) -> Dropped | None:
    """Why these messages are no conversation to train on, or None."""
    if not isinstance(messages, list):
        return Dropped("malformed", f"messages are a {type(messages).__name__}, not a list")
    if not messages:
        return Dropped("empty", "there is no message")
    for place, message in enumerate(messages):
        fault = _fault(message)
        if fault is not None:
            return Dropped(fault.rule, f"message {place}: {fault.detail}")
    if need_answer and not any(message["role"] == "assistant" for message in messages):
        return Dropped("no_answer", "no message is of the assistant")
    if need_answer and not any(message["role"] == "assistant" and is_learned(message) for message in messages):
        return Dropped("no_answer", "the weight of all answers is 0")
    return None


def is_learned(message: dict[str, Any]) -> bool:
    """Whether an answer is to be trained: OpenAI's `weight` is not 0."""
    return bool(message.get("weight", 1) != 0)


def _fault(message: Any) -> Dropped | None:
    if not isinstance(message, dict):
        return Dropped("malformed", f"a {type(message).__name__}, not an object with role and content")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        return Dropped("role", f"the role is {role!r:.80}; known are {', '.join(sorted(ROLES))}")
    if content is not None and not isinstance(content, str | list):
        return Dropped("malformed", f"the content is a {type(content).__name__}, not a text")
    says = content.strip() if isinstance(content, str) else content
    if role == "assistant" and not says and not any(message.get(key) for key in ("tool_calls", *THOUGHTS)):
        return Dropped("empty_answer", "the answer is empty")
    return None


def seen(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as a template sees them, and as transformers gives them: keys without a value are left out, and what is
    said of training; thoughts stand under all their names. An answer that only calls has the content "".
    """
    return [_message(message) for message in messages]


def _message(message: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if value is not None and key != "weight"}
    if message["role"] == "assistant" and message.get("tool_calls"):
        kept.setdefault("content", "")
    thoughts = next((kept[key] for key in THOUGHTS if key in kept), None)
    return kept if thoughts is None else {"thinking": thoughts, **kept, "reasoning_content": thoughts}


def with_calls(message: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The message in which each call, in OpenAI's form or without its outer object, is what `change` makes of it."""

    def changed(call: Any) -> Any:
        if not isinstance(call, dict):
            return call
        inner = call.get("function")
        return {**call, "function": change(inner)} if isinstance(inner, dict) else change(call)

    calls = message.get("tool_calls")
    return {**message, "tool_calls": [changed(call) for call in calls]} if isinstance(calls, list) else message


def arguments(text: str) -> Any:
    """The object that a text is as JSON; the text itself where it is none."""
    try:
        value = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
