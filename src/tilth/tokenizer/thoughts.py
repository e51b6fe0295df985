"""Thoughts of answers, and which of them a template writes nothing of.

    probed(messages)                    the same with a text that nothing else holds in place of each thought
    Lost(rule, answers)                 what became of a conversation whose template left some out

A thought is a message's `reasoning_content` (or another name of it), or what its content has within `<think>…</think>`.
Templates leave them out in two ways: of every answer (they know no such field, or cut the text away, as DeepSeek R1's),
or of those that another question follows (Qwen 3). What is searched for is not the thought itself: its words may stand
elsewhere too.

Rules: `thoughts_left_out`, of an answer that would lose them at a row's end as well; `earlier_thoughts_left_out`, of
none such: a row that ends with the answer has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tilth.tokenizer.conversation import THOUGHTS

ALWAYS, EARLIER = "thoughts_left_out", "earlier_thoughts_left_out"
_WITHIN = re.compile(r"(<think>|\A)((?:(?!<think>).)*?)(?=</think>)", re.DOTALL)


class Lost(NamedTuple):
    """The rule, and of how many answers thoughts were left out."""

    rule: str
    answers: int


class Probe(NamedTuple):
    """A conversation to be rendered for its thoughts.

    Attributes:
        messages: with marks for thoughts.
        marks: of each message, by its place; what a template wrote of the thoughts holds them.
    """

    messages: list[dict[str, Any]]
    marks: dict[int, list[str]]


def probed(messages: list[dict[str, Any]]) -> Probe | None:
    """The conversation with a mark in place of each thought; None where no answer has any."""
    told, marks = list[dict[str, Any]](), dict[int, list[str]]()
    for place, message in enumerate(messages):
        own = (f"\ue000{place}.{number}\ue000" for number in range(1 << 30))
        used = list[str]()
        told.append(_probed(message, own, used) if message["role"] == "assistant" else message)
        if used:
            marks[place] = used
    return Probe(told, marks) if marks else None


def _probed(message: dict[str, Any], own: Iterator[str], used: list[str]) -> dict[str, Any]:
    """The message with marks, which are noted in `used`; one for all names of its thoughts."""
    changed = dict(message)
    if names := [key for key in THOUGHTS if isinstance(text := message.get(key), str) and text.strip()]:
        used.append(next(own))
        changed |= dict.fromkeys(names, used[-1])

    def marked(found: re.Match[str]) -> str:
        if not found[2].strip():
            return found[0]
        used.append(next(own))
        return found[1] + used[-1]

    content = message.get("content")
    if isinstance(content, str):
        changed["content"] = _WITHIN.sub(marked, content)
    elif isinstance(content, list):
        changed["content"] = [
            {**part, "text": _WITHIN.sub(marked, part["text"])}
            if isinstance(part, dict) and isinstance(part.get("text"), str)
            else part
            for part in content
        ]
    return changed
