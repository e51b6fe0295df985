"""What a template writes nothing of: found by marks that nothing else holds, in place of thoughts and beside the rest.

    LeftOut(marker, written)                    for one template
        .refused(row, marked, raw, prompt)      why the conversation cannot be used without it, or None
        .lost(row, marked, raw, unlearned)      thoughts, and contents, that it is trained without
        .answers(row, marked)                   which answers stand in each stretch that the template marks

What is no answer (what the system, a user and a tool say), the tools that there are and the calls of them cannot be
left out: the model would learn to make it up. A name that is called may stand in the tools' descriptions too, and
words of a tool's result in the answer to it: so names, arguments and contents get a mark.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, final

from tilth.tokenizer.conversation import Dropped, Row, arguments, with_calls
from tilth.tokenizer.marks import Marker
from tilth.tokenizer.thoughts import ALWAYS, EARLIER, UNSAID, Lost, spoken, with_marks

SYSTEM = ("system", "developer")
_KINDS = ("thoughts", "contents", "calls")


class Probe(NamedTuple):
    """A conversation to be rendered for what a template leaves out.

    Attributes:
        messages: with marks.
        marks: of each message that has any, by its place; what a template writes of it holds them.
    """

    messages: list[dict[str, Any]]
    marks: dict[int, list[str]]


def probed(messages: list[dict[str, Any]], kind: str) -> Probe:
    """The conversation with marks of one kind in its answers, or (`given`) in all that is no answer."""
    told, marks = list[dict[str, Any]](), dict[int, list[str]]()
    for place, message in enumerate(messages):
        own = (f"\ue000{kind[:2]}{place}.{number}\ue000" for number in range(1 << 30))
        used = list[str]()
        meant = (message["role"] == "assistant") == (kind != "given")
        told.append(_PROBED[kind](message, own, used) if meant else message)
        if used:
            marks[place] = used
    return Probe(told, marks)


def _with_content(message: dict[str, Any], own: Iterator[str], used: list[str]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, str) or not spoken(content):
        return message
    used.append(next(own))
    end = len(content.rstrip())
    return {**message, "content": content[:end] + used[-1] + content[end:]}


def _with_given(message: dict[str, Any], own: Iterator[str], used: list[str]) -> dict[str, Any]:
    def marked(text: Any) -> Any:
        if not isinstance(text, str) or not text.strip():
            return text
        used.append(next(own))
        end = len(text.rstrip())
        return text[:end] + used[-1] + text[end:]

    content = message.get("content")
    if isinstance(content, list):
        parts = [{**part, "text": marked(part.get("text"))} if _is_text(part) else part for part in content]
        return {**message, "content": parts}
    return {**message, "content": marked(content)} if content else message


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"


def _with_calls(message: dict[str, Any], own: Iterator[str], used: list[str]) -> dict[str, Any]:
    def marked(call: dict[str, Any]) -> dict[str, Any]:
        changed, given = dict(call), call.get("arguments")
        if isinstance(call.get("name"), str):
            used.append(next(own))
            changed["name"] += used[-1]
        known = arguments(given) if isinstance(given, str) else given
        if isinstance(known, dict):
            used.append(next(own))
            more = {**known, used[-1]: 0}
            changed["arguments"] = json.dumps(more, ensure_ascii=False) if isinstance(given, str) else more
        return changed

    told = with_calls(message, marked)
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return told
    return {**told, "tool_calls": [_with_id(*pair) for pair in zip(calls, told["tool_calls"], strict=True)]}


def _with_id(call: Any, marked: Any) -> Any:
    """An id that the name stands in (`functions.weather:0`) has the name's mark too: Kimi K2 writes it in its place."""
    names = [*_names([call]), *_names([marked])]
    known = len(names) == 2 and names[0] and isinstance(call.get("id"), str)
    return {**marked, "id": call["id"].replace(*names)} if known else marked


_PROBED = {"thoughts": with_marks, "contents": _with_content, "calls": _with_calls, "given": _with_given}


@final
class LeftOut:
    """Looks for what one template leaves out.

    Args:
        marker: of the tokenizer.
        written: renders the first so many messages of a conversation, on request with the generation prompt.
    """

    def __init__(self, marker: Marker, written: Callable[[Row, int, bool], str | Dropped]) -> None:
        self._marker, self._written = marker, written

    def refused(self, row: Row, marked: Row, raw: str, prompt: bool) -> Dropped | None:
        """Whether the template passes over what the conversation cannot do without."""
        wanted = [("the tools", _names(marked.tools))]
        wanted += [
            (_calls_in(place), _names(message.get("tool_calls"))) for place, message in enumerate(marked.messages)
        ]
        for what, texts in wanted:
            if not all(self._stands(text, raw) for text in texts):
                return _nothing_of(what)
        missing = self._missing(row, marked, "calls", prompt)[1]
        if missing:
            return _nothing_of(_calls_in(missing[0]))
        for place in self._missing(row, marked, "given", prompt)[1]:
            role, content = marked.messages[place]["role"], marked.messages[place]["content"]
            if role not in SYSTEM or not isinstance(content, str) or not self._stands(content.strip(), raw):
                return _nothing_of(f"message {place}, of the {role}")
        return None

    def _stands(self, text: str, raw: str) -> bool:
        return text in raw or self._marker.text(text) in self._marker.text(raw)

    def lost(self, row: Row, marked: Row, raw: str, unlearned: set[int]) -> list[Lost]:
        """What the template writes nothing of and the conversation is trained without; nothing is, of answers at the
        places `unlearned`.
        """
        return [*self._thoughts(row, marked, unlearned), *self._contents(row, marked, raw, unlearned)]

    def answers(self, row: Row, marked: Row) -> list[set[int]] | Dropped:
        """Of each stretch between the marks of `{% generation %}` the places of the answers in it; one that holds
        nothing of an answer (its end, marked apart) belongs to the stretch before it.
        """
        messages, marks = row.messages, list[tuple[int, str]]()
        for kind in _KINDS:
            messages, found = probed(messages, kind)
            marks += [(place, mark) for place, some in found.items() for mark in some]
        raw = self._written(marked._replace(messages=self._marker.mark(messages)), len(messages), False)
        if isinstance(raw, Dropped):
            return raw
        text, spans = self._marker.read(raw)
        held = list[set[int]]()
        for start, end in spans:
            own = {place for place, mark in marks if holds(text[start:end], [mark])}
            held.append(own or set(held[-1] if held else []))
        return held

    def _thoughts(self, row: Row, marked: Row, unlearned: set[int]) -> list[Lost]:
        probe, missing = self._missing(row, marked, "thoughts", False)
        lost = [place for place in missing if place not in unlearned]
        for place in lost:
            alone = self._written(self._marked(marked, probe), place + 1, False)
            if isinstance(alone, Dropped) or not holds(alone, probe.marks[place]):
                return [Lost(ALWAYS, len(lost))]
        return [Lost(EARLIER, len(lost))] if lost else []

    def _contents(self, row: Row, marked: Row, raw: str, unlearned: set[int]) -> list[Lost]:
        learned = [message for place, message in enumerate(marked.messages) if place not in unlearned]
        answers = [message for message in learned if message["role"] == "assistant"]
        said = [spoken(text) for message in answers if isinstance(text := message.get("content"), str)]
        # Templates that choose what of an answer they write do so beside calls: one more rendering is for those only.
        if not any(message.get("tool_calls") for message in answers) and all(text in raw for text in said):
            return []
        lost = [place for place in self._missing(row, marked, "contents", False)[1] if place not in unlearned]
        return [Lost(UNSAID, len(lost))] if lost else []

    def _missing(self, row: Row, marked: Row, kind: str, prompt: bool) -> tuple[Probe, list[int]]:
        """The conversation with marks of this kind, and of which messages the template writes not all of them; of none
        where it has no rendering of that.
        """
        probe = probed(row.messages, kind)
        if not probe.marks:
            return probe, []
        raw = self._written(self._marked(marked, probe), len(row.messages), prompt)
        if isinstance(raw, Dropped):
            return probe, []
        return probe, [place for place, marks in probe.marks.items() if not holds(raw, marks)]

    def _marked(self, marked: Row, probe: Probe) -> Row:
        return marked._replace(messages=self._marker.mark(probe.messages))


def holds(raw: str, marks: list[str]) -> bool:
    return all(mark in raw or json.dumps(mark)[1:-1] in raw for mark in marks)


def _calls_in(place: int) -> str:
    return f"the calls in message {place}"


def _nothing_of(what: str) -> Dropped:
    return Dropped("left_out", f"the template writes nothing of {what}")


def _names(tools: Any) -> list[str]:
    """The names of functions, described or called, in OpenAI's form or without its outer object."""
    entries = [tool.get("function", tool) for tool in tools or [] if isinstance(tool, dict)]
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    return [name for name in names if isinstance(name, str)]
