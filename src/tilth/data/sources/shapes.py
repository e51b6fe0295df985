"""From a row (columns and values) to text: one column, a template over several, or a conversation.

    shape_of(config, of_structs) -> Shape
        field       the text in one column
        template    "{title}\\n\\n{body}" over the columns
        map         {prompt, completion} or {messages}: a conversation (a pair of lists of messages too), kept in
                    `meta.messages` (messages.py), with "role: content" blocks as the text
    shape.columns                     what it needs of a row
    shape.make(row, locator)          Made, or the Note that says why the row cannot be used
    conversation_in(names)            what to write where rows with these keys seem to be conversations

The same for CSV, JSON Lines, JSON and Parquet. A column may be one within another (`author.name`), and its text be in
parts (keys.py). A template names columns and nothing else: no attributes, no indices, no formats, so that neither a
recipe nor a row can reach anything behind a value.
"""

from __future__ import annotations

import string
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any, NamedTuple

from tilth.core.faults import short
from tilth.data.sources.chatgpt import is_tree, read_tree
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.keys import MESSAGES, MISSING, TEXTS, text_of, unfit, value_at
from tilth.data.sources.messages import as_list, is_message, is_plain, plain, read_message, rendered, without_nulls
from tilth.data.sources.notes import Note, without_surrogates
from tilth.data.sources.row_map import RowMap, as_template, template_columns


class Made(NamedTuple):
    """The text of a row, what belongs into the document's `meta`, and what had to be changed."""

    text: str
    meta: dict[str, Any]
    notes: list[Note]


class Shape(ABC):
    """How rows become texts."""

    columns: tuple[str, ...]
    """The columns that a row must have."""
    optional: tuple[str, ...] = ()
    """Columns that are used where they are."""
    text: str | None = None
    """The one column that is the text, and all that is used."""
    writes_numbers: bool = False
    """Whether numbers can stand in the text."""

    @abstractmethod
    def make(self, row: Mapping[str, Any], locator: str) -> Made | Note:
        """The text of a row, or why it has none."""


def shape_of(config: SourceConfig, *, of_structs: bool = False) -> Shape:
    """The shape that a source's entry in the recipe asks for.

    Args:
        of_structs: whether objects in the rows come from Arrow, where all in a column have the same fields: null is
            what one of them lacks.
    """
    if config.template is not None:
        return _Template(config.template)
    if config.map is None:
        return _Field(config.field)
    return (_Messages if config.map.messages is not None else _Pair)(config.map, of_structs)


_CONVERSATIONS = (
    *(f"messages: {name}" for name in ("messages", "conversations", "conversation", "chat_messages")),
    "prompt: prompt, completion: completion",
    "prompt: instruction, completion: output",
    "prompt: instruction, completion: response",
    "prompt: question, completion: answer",
    "prompt: prompt, completion: response",
)


_BESIDE = ("input", "context")
"""What a question is about, in a column of its own: Alpaca's name for it, and Dolly's."""


def conversation_in(names: Collection[str]) -> str | None:
    """The `map:` that makes conversations of rows with these keys, where they are called as such rows often are, and
    what else the recipe needs for them. What is said beside the question is asked with it, a system prompt stands
    before it, and the tools are shown: answers hang on all three.
    """
    for pairs in _CONVERSATIONS:
        columns = dict(pair.split(": ") for pair in pairs.split(", "))
        if not set(columns.values()) <= set(names):
            continue
        if "prompt" in columns and (beside := next((name for name in _BESIDE if name in names), None)):
            columns["prompt"] = f'"{{{columns["prompt"]}}}\\n\\n{{{beside}}}"'
        if "system" in names:
            columns = {"system": "system", **columns}
        chat = ", data.chat: {template: chatml}" if "messages" in columns else ""
        if "tools" in names:
            columns["tools"], chat = "tools", ", data.chat.template: one that writes tools"  # no built-in one does
        written = ", ".join(f"{key}: {column}" for key, column in columns.items())
        return f"for questions and answers (train.objective: sft{chat}) write `map: {{{written}}}`"
    return None


class _Field(Shape):
    def __init__(self, field: str) -> None:
        self.columns, self.text = (field,), field

    def make(self, row: Mapping[str, Any], locator: str) -> Made | Note:
        (field,) = self.columns
        value = value_at(row, field)
        if value is MISSING:
            return _missing(field, row, locator)
        if (held := text_of(value)) is None:
            return _not_text(field, value, locator)
        text, notes = without_surrogates(held, locator)
        return Made(text, {}, notes)


class _Template(Shape):
    writes_numbers = True

    def __init__(self, template: str) -> None:
        self.template, self.columns = template, template_columns(template)

    def make(self, row: Mapping[str, Any], locator: str) -> Made | Note:
        filled = _filled(self.template, row, locator)
        if isinstance(filled, Note):
            return filled
        text, notes = without_surrogates(filled, locator)
        return Made(text, {}, notes)


class _Conversation(Shape):
    def __init__(self, mapping: RowMap, of_structs: bool) -> None:
        self.map, self._of_structs = mapping, of_structs
        self.optional = template_columns(as_template(mapping.system)) if mapping.system else ()
        self.optional += (mapping.tools,) if mapping.tools else ()

    def make(self, row: Mapping[str, Any], locator: str) -> Made | Note:
        found = self._messages(row, locator)
        if isinstance(found, Note):
            return found
        tools = self._tools(row, locator)
        if isinstance(tools, Note):
            return tools
        messages = [*self._system(row, locator), *found]
        text, notes = without_surrogates(rendered(messages), locator)
        return Made(text, {"messages": plain(messages), **tools}, notes)

    def _tools(self, row: Mapping[str, Any], locator: str) -> dict[str, Any] | Note:
        held = value_at(row, self.map.tools) if self.map.tools is not None else MISSING
        if held is MISSING or not held:
            return {}
        value = as_list(held)
        if self._of_structs and value is held:  # what a text says is JSON's own
            value = without_nulls(value)
        if value is None or not is_plain(value):
            return Note("not_tools", "", f"{locator}: {self.map.tools!r} holds no list of descriptions of tools")
        return {"tools": plain(value)} if value else {}

    def _system(self, row: Mapping[str, Any], locator: str) -> list[dict[str, Any]]:
        if self.map.system is None:
            return []
        filled = _filled(as_template(self.map.system), row, locator)
        return [] if isinstance(filled, Note) or not filled.strip() else [{"role": "system", "content": filled}]

    @abstractmethod
    def _messages(self, row: Mapping[str, Any], locator: str) -> list[dict[str, Any]] | Note:
        """The messages of a row."""

    def _read(self, items: list[Any], place: str, *, of_structs: bool) -> list[dict[str, Any]] | Note:
        """Messages, each as it is read, or why the first that is none is none."""
        messages = []
        for number, item in enumerate(items, 1):
            message = read_message(item, f"{place} {number}")
            if isinstance(message, Note):
                return message
            messages.append(without_nulls(message) if of_structs else message)
        return messages


class _Pair(_Conversation):
    writes_numbers = True

    def __init__(self, mapping: RowMap, of_structs: bool) -> None:
        super().__init__(mapping, of_structs)
        self._parts = [(role, as_template(getattr(mapping, key) or "")) for role, key in _PAIR]
        named = (column for _, template in self._parts for column in template_columns(template))
        self.columns = tuple(dict.fromkeys(named))

    def _messages(self, row: Mapping[str, Any], locator: str) -> list[dict[str, Any]] | Note:
        held = [value_at(row, template[1:-1]) for _, template in self._parts]
        if all(talks := [_talk_in(value) for value in held]):
            of_structs = [self._of_structs and talk is value for talk, value in zip(talks, held, strict=True)]
            return self._talk(talks, of_structs, locator)
        messages = []
        for role, template in self._parts:
            filled = _filled(template, row, locator)
            if isinstance(filled, Note):
                return filled
            columns = template_columns(template)
            if len(columns) > 1 and value_at(row, columns[-1]) in (
                "",
                None,
            ):  # Alpaca's input, mostly: nobody asks with line ends behind
                filled = filled.rstrip()
            if not filled.strip():
                return Note("empty_turn", role, f"{locator}: nothing is said by the {role}")
            messages.append({"role": role, "content": filled})
        return messages

    def _talk(self, talks: list[list[Any]], of_structs: list[bool], locator: str) -> list[dict[str, Any]] | Note:
        """Messages, and those that answer them (TRL's form): what is answered before, in the prompt, is not learned."""
        before = self._read(talks[0], f"{locator}: prompt, message", of_structs=of_structs[0])
        if isinstance(before, Note):
            return before
        after = self._read(talks[1], f"{locator}: completion, message", of_structs=of_structs[1])
        if isinstance(after, Note):
            return after
        return [*({**one, "weight": 0} if one["role"] == "assistant" else one for one in before), *after]


_PAIR = (("user", "prompt"), ("assistant", "completion"))


def _talk_in(value: Any) -> list[Any]:
    """Messages in a list, or in a text that is the JSON of one, all of it (others only begin so); none where there are
    none.
    """
    if not isinstance(value, str):
        return value if unfit(value) == MESSAGES else []
    items = (as_list(value) or []) if value.lstrip().startswith("[") else []
    return items if all(map(is_message, items)) else []


class _Messages(_Conversation):
    def __init__(self, mapping: RowMap, of_structs: bool) -> None:
        super().__init__(mapping, of_structs)
        self.columns = (mapping.messages or "",)
        self.writes_numbers = mapping.system is not None

    def _messages(self, row: Mapping[str, Any], locator: str) -> list[dict[str, Any]] | Note:
        (column,) = self.columns
        held = value_at(row, column)
        if held is MISSING:
            return _missing(column, row, locator)
        if is_tree(held):
            beside = f"{column.rpartition('.')[0]}.current_node".removeprefix(".")
            last = value_at(row, beside)
            return read_tree(held, None if last is MISSING else last, locator)
        value = as_list(held)
        if value is None:
            kind = type(held).__name__
            holds = "a text that is no JSON list" if kind == "str" else f"{kind}, not a list of messages"
            return Note("not_messages", kind, f"{locator}: {column!r} holds {holds}")
        return self._read(value, f"{locator}: message", of_structs=self._of_structs and value is held)


def _filled(template: str, row: Mapping[str, Any], locator: str) -> str | Note:
    """A template with the values of a row; "" where none of them says anything."""
    out, said = [], False
    for literal, name, _, _ in string.Formatter().parse(template):
        out.append(literal)
        if name is None:
            continue
        value = value_at(row, name)
        if value is MISSING:
            return _missing(name, row, locator)
        text = _written(value)
        if text is None:
            return _not_text(name, value, locator)
        out.append(text)
        said = said or bool(text.strip())
    return "".join(out) if said else ""


def _written(value: Any) -> str | None:
    """A value as text: a number too, and of Parquet's kinds dates, times (by ISO 8601) and decimals."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else text_of(value)


def _missing(name: str, row: Mapping[str, Any], locator: str) -> Note:
    head, _, rest = name.partition(".")
    held, where = (row[head], f" of {head!r}") if rest and isinstance(row.get(head), Mapping) else (row, "")
    keys = ", ".join(map(short, list(held)[:8])) or "none"
    return Note("no_field", "", f"{locator}: no {name!r}; the keys{where} are {keys}")


def _not_text(name: str, value: Any, locator: str) -> Note:
    kind = unfit(value)
    return Note("not_text", kind, f"{locator}: {name!r} holds {kind}, not {'one' if kind == TEXTS else 'a text'}")
