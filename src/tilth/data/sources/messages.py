"""Messages of a row: those of OpenAI and ShareGPT by one set of names, with all that a chat template may ask for.

    read_message(item, place)     {role, content, …}, or the Note that says why it is none
    remedy_of(note)               what to do about such a Note; "" where that depends on how the file is read
    beyond_text(kind, said)       the Note on a conversation that is more than text
    rendered(messages)            a conversation as people read it, and as the stages of cleaning see it
    said(message)                 what of a message that shows: (key, text), in order
    as_list(value)                a list, or the JSON text of one
    plain(value)                  without what no Parquet file holds
    without_nulls(value)          without the fields that objects have for being Arrow's

Beside role and content go on what a message calls (`tool_calls`), answers (`tool_call_id`, `name`) and thinks
(`reasoning_content`, `thinking`, `reasoning`, Cohere's `tool_plan`), and Gemma's `tool_responses`: left out, an answer
would be another. So do OpenAI's older `function_call`, as one of `tool_calls`, and its `weight` where it is 0, of an
answer that is not to be learned; others say the same by `train` (axolotl) or `loss` (ms-swift), and go on as `weight`.
A weight between, or what of an answer is to be learned by its characters (`train_detail`), is refused: trained whole,
it would be learned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tilth.core.faults import short
from tilth.data.sources.notes import Note, without_surrogates

# OpenAI's names, those of ShareGPT and of Claude's export. Others are refused: a chat template would not know them.
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_ROLES_SAID = ", ".join(
    f"{ours} (or {', '.join(others)})"
    for ours in dict.fromkeys(_ROLES.values())
    if (others := [name for name, role in _ROLES.items() if role == ours != name])
)
_FORM = (
    "a message is {role, content}, and its content a text (it may be missing beside calls of tools or thoughts): mend "
    "such rows, or take them out"
)
_NAMES = (("role", "content"), ("from", "value"), ("sender", "text"), ("role", "text"))
_SAID = ("reasoning_content", "thinking", "reasoning", "tool_plan", "tool_calls")
_BESIDE = (*_SAID, "name", "tool_call_id", "tool_responses")
_LEARNED = ("weight", "train", "loss")
OF_TRAINING = frozenset({*_LEARNED, "train_detail"})
"""Keys of a message that say whether it is to be learned, and nothing to a template."""
_DEEPEST = 64
BEYOND_TEXT = "beyond_text"
"""The rule of rows that are left out, and are no bad ones."""


_OF_A_CALL = {"name", "arguments", "id", "type", "index"}
_NOTHING: tuple[Any, ...] = (None, "", [], {})


def is_message(item: Any) -> bool:
    """Whether an object of JSON cannot be meant as anything else: it has a known role, and something said."""
    role = item.get("role") if isinstance(item, dict) else None
    return isinstance(role, str) and role.strip().lower() in _ROLES and any(key in item for key in ("content", *_SAID))


def read_message(item: Any, place: str) -> dict[str, Any] | Note:
    """A message by OpenAI's names. Its content may be missing where it calls a tool or thinks."""
    if not isinstance(item, dict):
        return Note("not_messages", type(item).__name__, f"{place} is {type(item).__name__}, not role and content")
    beside = {key: item[key] for key in _BESIDE if item.get(key) not in (None, [], "")}
    if "tool_calls" not in beside and (call := _function_call(item)):
        beside["tool_calls"] = [{"type": "function", "function": call}]
    if isinstance(calls := beside.get("tool_calls"), list):
        beside["tool_calls"] = [_with_arguments(call) for call in calls]
    silent = any(key in beside for key in _SAID)
    names = next(((a, b) for a, b in _NAMES if a in item and (b in item or silent)), None)
    if names is None:
        keys = ", ".join(map(short, list(item)[:8])) or "none"
        return Note("not_messages", "", f"{place} has neither role and content nor from and value; its keys are {keys}")
    called = item[names[0]] if isinstance(item[names[0]], str) else short(item[names[0]])
    role = _ROLES.get(called.strip().lower())
    if role is None:
        return Note("unknown_role", called[:40], f"{place} is by {called[:40]!r}")
    value = item.get(names[1])
    content = "" if value is None and silent else _content(value)
    if content is None and (other := _other_part(value)):
        return beyond_text(other, f"{place} holds {other}")
    if content is None:
        kind = type(value).__name__
        return Note("not_messages", kind, f"{place} holds {kind}, not a text")
    if wrong := next((key for key, value in beside.items() if not is_plain(value)), None):
        return Note("not_messages", wrong, f"{place}: {wrong} holds what is no JSON, or nested too deep")
    weight = _weight(item, place) if role == "assistant" else {}
    return weight if isinstance(weight, Note) else {"role": role, "content": content, **beside, **weight}


def _weight(item: dict[str, Any], place: str) -> dict[str, Any] | Note:
    """`weight: 0` of an answer that is not to be learned, by whatever key; nothing of one that is."""
    said = {key: item[key] for key in _LEARNED if item.get(key) is not None}
    odd = next((key for key, value in said.items() if not isinstance(value, int | float) or value not in (0, 1)), "")
    if odd or item.get("train_detail"):
        key = odd or "train_detail"
        return Note("weight", key, f"{place}: {key} is {short(item[key])}: neither 0 nor 1")
    return {"weight": 0} if 0 in said.values() else {}


def remedy_of(note: Note) -> str:
    """What to do about a message that is none for what it holds; "" where it may be how the file is read."""
    if note.rule == "unknown_role":
        return f"the roles are {_ROLES_SAID}: write one of these"
    if note.rule == "weight":
        return "an answer is trained whole or not at all: write `weight: 0` or 1 (`train` or `loss`: false or true)"
    return _FORM if (note.rule, note.value) == ("not_messages", "NoneType") else ""


def _function_call(item: dict[str, Any]) -> dict[str, Any]:
    """The call that a message holds by the name that OpenAI gave it first; nothing where it has none."""
    call = item.get("function_call")
    if not isinstance(call, dict) or not call.get("name"):
        return {}
    return {key: call[key] for key in ("name", "arguments") if call.get(key) is not None}


def _with_arguments(call: Any) -> Any:
    """A call, in OpenAI's form or without its outer object, with `{}` where it has no arguments: so models write it,
    who parses that wants the key, and most templates read it.
    """
    if not isinstance(call, dict):
        return call
    inner = call.get("function")
    made = inner if isinstance(inner, dict) else call
    named = isinstance(made.get("name"), str) and made.get("arguments") in _NOTHING
    if not named or any(made[key] not in _NOTHING for key in made.keys() - _OF_A_CALL):  # it has them by another name
        return call
    made = {**made, "arguments": {}}
    return {**call, "function": made} if isinstance(inner, dict) else made


def _content(value: Any) -> str | None:
    """A message's text; OpenAI's list of parts when all of them are text."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if texts and len(texts) == len(parts) else None
    return value if isinstance(value, str) else None


def _other_part(value: Any) -> str:
    """The type of the first part that is no text in OpenAI's list of parts (`image_url`); "" where it is none."""
    types = [part.get("type") if isinstance(part, dict) else None for part in value] if isinstance(value, list) else []
    texts = all(isinstance(each, str) for each in types)
    return next((short(each) for each in types if each != "text"), "") if texts else ""


def beyond_text(kind: str, said: str) -> Note:
    """The note on a conversation with an image or a call of a tool in it: no fault of the row, nor of the recipe."""
    return Note(BEYOND_TEXT, kind[:40], f"{said}, which is no text; the conversation is left out")


def rendered(messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as people read it: `role: content`, an empty line between; calls of tools as JSON."""
    turns = [(message["role"], "\n".join(text for _, text in said(message))) for message in messages]
    return "\n\n".join(f"{role}: {text}" for role, text in turns) if any(text.strip() for _, text in turns) else ""


def said(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `rendered` shows of a message: at least one (key, text). An empty content is not shown before more."""
    more = [(key, message[key]) for key in _SAID if key in message]
    texts = [(key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) for key, value in more]
    return [*([("content", message["content"])] if message["content"] or not texts else []), *texts]


def as_list(value: Any) -> list[Any] | None:
    """A list, or what JSON text says where that is one; else None."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is JSON's, and not nested without end."""
    if isinstance(value, list | dict):
        inner = value if isinstance(value, list) else value.values()
        return depth < _DEEPEST and all(is_plain(one, depth + 1) for one in inner)
    return value is None or isinstance(value, str | int | float)


def without_nulls(value: Any) -> Any:
    """A value without the null fields of objects in it: among Arrow's, one has the fields of all (`town` of the call of
    a clock), and a template would write them.
    """
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return value


def plain(value: Any) -> Any:
    """A value of JSON's without lone surrogates and NUL in its texts, and of types that are JSON's own."""
    if isinstance(value, str):
        return without_surrogates(value, "")[0].replace("\0", "")
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items()}
    return float(value) if isinstance(value, float) else value
