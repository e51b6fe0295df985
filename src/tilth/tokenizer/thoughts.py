"""Thoughts of answers, and what is lost of a conversation by a template that writes nothing of them.

    with_marks(message, own, used)      the same with a text that nothing else holds in place of each thought
    Lost(rule, answers)                 what became of a conversation whose template left something out

A thought is a message's `reasoning_content` (or another name of it), or what its content has within `<think>…</think>`.
Templates leave them out in two ways: of every answer (they know no such field, or cut the text away, as DeepSeek R1's),
or of those that another question follows (Qwen 3). What is searched for is not the thought itself: its words may stand
elsewhere too (left_out.py).

Rules: `thoughts_left_out`, of an answer that would lose them at a row's end as well; `earlier_thoughts_left_out`, of
none such: a row that ends with the answer has them. `content_left_out`: of what an answer says beside a call, or of all
that it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tilth.tokenizer.conversation import THOUGHTS

ALWAYS, EARLIER, UNSAID = "thoughts_left_out", "earlier_thoughts_left_out", "content_left_out"
_WITHIN = re.compile(r"(<think>|\A)((?:(?!<think>).)*?)(?=</think>)", re.DOTALL)


class Lost(NamedTuple):
    """The rule, and of how many answers something was left out."""

    rule: str
    answers: int


def with_marks(message: dict[str, Any], own: Iterator[str], used: list[str]) -> dict[str, Any]:
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


def spoken(content: str) -> str:
    """What a content says behind its thoughts, without white space around it."""
    return content.rpartition("</think>")[2].strip()
