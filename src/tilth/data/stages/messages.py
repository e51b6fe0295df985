"""A stage over conversations: what rewrites a text rewrites their messages, and the text is rendered anew.

    over_messages(stage, documents) -> [Result]     by the stage's `Kind.over`
        messages    each string is a text of its own: contents, thoughts, names, and those in calls and tools
        lines       the whole text is looked at; its lines go back to the messages that they are of

A result with messages has them in its `meta`, and None there where they cannot follow: a message that had something to
say says nothing any more, two keys became one, or the whole shows what no string showed alone. Whoever takes such a
result withdraws the messages (spoken.py).

Of calls of tools, and descriptions of tools, strings and keys are looked at one by one, as are those in arguments that
are JSON text themselves: the text shows them escaped, where `\\nada@example.org` begins with an n. White space in them
stays: they are no prose, and the text shows none of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from tilth.data.document import Document
from tilth.data.sources.messages import is_plain, rendered, said
from tilth.data.spoken import OF_MESSAGES, same_letters
from tilth.data.stages.base import Number, Result
from tilth.data.stages.table import Stage

_NO_MESSAGES: dict[str, Any] = {"messages": None}
_TEXTS = ("content", "reasoning_content", "thinking", "reasoning", "tool_plan")
Message = dict[str, Any]
Edit = Callable[[str], str]


def over_messages(stage: Stage, documents: Sequence[Document]) -> list[Result]:
    """What a stage makes of documents whose text is that of their messages."""
    if stage.kind.over == "lines":
        results = stage.kind.run([_with(d, rendered(d.meta["messages"])) for d in documents], stage.options)
        return [_by_lines(document, result) for document, result in zip(documents, results, strict=True)]
    strings = [_strings(document) for document in documents]
    parts = [_with(document, text) for document, own in zip(documents, strings, strict=True) for text in own]
    results_of = iter(stage.kind.run(parts, stage.options))
    edited = [dict(zip(own, islice(results_of, len(own)), strict=True)) for own in strings]
    return [_together(stage, document, own) for document, own in zip(documents, edited, strict=True)]


def _with(document: Document, text: str) -> Document:
    return Document(document.doc_id, text, document.source, document.locator, document.license)


def _strings(document: Document) -> list[str]:
    """All strings of a conversation, each once."""
    seen: dict[str, None] = {}

    def see(text: str) -> str:
        if text:
            seen[text] = None
        return text

    _edited(document.meta, see, see)
    return list(seen)


def _edited(meta: Mapping[str, Any], text: Edit, inner: Edit) -> dict[str, Any]:
    """Messages and tools with every string edited: `text` those that are texts, `inner` those within structures."""
    messages = [
        {key: _value(value, text if key in _TEXTS else inner, key) for key, value in message.items()}
        for message in meta["messages"]
    ]
    return {"messages": messages, **({"tools": _structure(meta["tools"], inner)} if "tools" in meta else {})}


def _value(value: Any, edit: Edit, key: str) -> Any:
    if key == "role" or (isinstance(value, str) and not value):
        return value
    return edit(value) if key in _TEXTS and isinstance(value, str) else _structure(value, edit)


def _structure(value: Any, edit: Edit) -> Any:
    if isinstance(value, list):
        return [_structure(one, edit) for one in value]
    if isinstance(value, dict):
        return {edit(key) if isinstance(key, str) else key: _structure(one, edit) for key, one in value.items()}
    if not isinstance(value, str):
        return value
    if (inner := _json(value)) is None:
        return edit(value)
    left = _structure(inner, edit)
    return value if left == inner else json.dumps(left, ensure_ascii=False)


def _json(text: str) -> Any:
    """The list or mapping that a text is as JSON, else None."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if is_plain(value) else None


class _Edits:
    """What a stage made of the strings of one conversation, put in their places.

    Attributes:
        changes: by rule the figures of all strings; one that stands in two places counts twice.
        meta: what the stage says of any of them.
    """

    def __init__(self, name: str, results: Mapping[str, Result]) -> None:
        self._name, self._results = name, results
        self.changes: dict[str, Number] = {}
        self.meta: dict[str, Any] = {}

    def text(self, old: str) -> str:
        """A text as the stage left it."""
        result = self._results[old]
        self.take(result, changed=result.text != old)
        return result.text or ""

    def inner(self, old: str) -> str:
        """A string of a structure as the stage left it, but for white space."""
        left = self._results[old].text or "" if old else ""
        return old if left != old and same_letters(left, old) else self.text(old) if old else old

    def take(self, result: Result, *, changed: bool) -> None:
        """Counts one result."""
        own = [(result.rule or self._name, result.value)] if changed else []
        for rule, value in [*own, *result.also]:
            self.changes[rule] = self.changes.get(rule, 0) + value
        self.meta |= result.meta

    def result(self, text: str, meta: Mapping[str, Any], *, changed: bool) -> Result:
        """All of it as that of one text."""
        made: list[tuple[str, Number]] = list(self.changes.items())
        (rule, value), also = (made[0], made[1:]) if changed and made else (("", 0), made)
        return Result(text, value, rule, tuple(also), {**self.meta, **meta})


def _together(stage: Stage, document: Document, results: Mapping[str, Result]) -> Result:
    """One result of those of all strings."""
    if any(result.text is None for result in results.values()):
        return _dropped(stage, document, results)
    edits = _Edits(stage.name, results)
    before: dict[str, Any] = {key: document.meta[key] for key in OF_MESSAGES if key in document.meta}
    after, text, meta = before, document.text, dict[str, Any]()
    if any(result.text != old or result.also for old, result in results.items()):
        after = _edited(before, edits.text, edits.inner)
    if after != before:
        text, meta = rendered(after["messages"]), after if _says_as_much(before, after) else _NO_MESSAGES
    if stage.kind.settles and text:
        (again,) = stage.kind.run([_with(document, text)], stage.options)
        if again.text is None:
            return again
        if again.text != text:
            edits.take(again, changed=True)
            text, meta = again.text, _NO_MESSAGES
    return edits.result(text, meta, changed=text != document.text)


def _dropped(stage: Stage, document: Document, results: Mapping[str, Result]) -> Result:
    """The verdict on the whole where that is dropped too, else that on the first string that was."""
    (whole,) = stage.kind.run([_with(document, document.text)], stage.options)
    return whole if whole.text is None else next(result for result in results.values() if result.text is None)


def _says_as_much(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether no text lost all that it said, and no two keys became one."""
    pairs = zip(before["messages"], after["messages"], strict=True)
    return all(_speaking(old) == _speaking(new) for old, new in pairs) and _keys(before) == _keys(after)


def _speaking(message: Message) -> list[str]:
    return [key for key, text in said(message) if text.strip()]


def _keys(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_keys, value))
    if isinstance(value, str) and (inner := _json(value)) is not None:
        return _keys(inner)
    return len(value) + sum(map(_keys, value.values())) if isinstance(value, dict) else 0


def _by_lines(document: Document, result: Result) -> Result:
    """The result for a stage that leaves each line where it is. What is not text, as calls of tools, stays."""
    before = document.meta["messages"]
    if result.text is None or result.text == rendered(before):
        return result if result.text is None else result._replace(text=document.text)
    after = _lines_back(before, result.text.split("\n"))
    if after is None:
        return result
    if after == before:
        return Result(document.text)
    return result._replace(text=rendered(after), meta={**result.meta, "messages": after})


def _lines_back(messages: Sequence[Message], lines: Sequence[str]) -> list[Message] | None:
    """The messages with the lines of a text that has as many as theirs; None where it has not, or other roles."""
    left, place = list[Message](), 0
    for message in messages:
        shown = said(message)
        changed = dict[str, Any]()
        for number, (key, old) in enumerate(shown):
            stop = place + old.count("\n") + 1
            new, place = "\n".join(lines[place:stop]), stop
            role = f"{message['role']}: " if number == 0 else ""
            if not new.startswith(role) or bool(new[len(role) :].strip()) != bool(old.strip()):
                return None
            if isinstance(message[key], str):
                changed[key] = new[len(role) :]
        left.append({**message, **changed})
        place += 1  # the empty line
    return left if place == len(lines) + 1 else None
