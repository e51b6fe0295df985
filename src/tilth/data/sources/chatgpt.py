"""Conversations as ChatGPT exports them: a tree, with a branch for each answer that was asked for again.

    is_tree(value)                 whether a value has that form
    read_tree(tree, last, place)   the messages from the first to `last`, or the Note that says why they are none

What was shown last is the conversation; the other branches are not read. Messages without a text (the root, an empty
system prompt), hidden ones (what the user's settings say) and the thoughts of a reasoning model are no part of it. A
conversation with something else than text (an image, a call of a tool), or that ends in thoughts, is left out: without
these the answer would be one to nothing, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilth.core.faults import short
from tilth.data.sources.messages import beyond_text, read_message
from tilth.data.sources.notes import Note

_THOUGHTS = ("thoughts", "reasoning_recap")
"""Kinds of content that stand beside the answer, folded away: "Thought for 12 seconds"."""


def is_tree(value: Any) -> bool:
    """Whether all nodes say what their message and their parent is."""
    nodes = list(value.values()) if isinstance(value, dict) else []
    return bool(nodes) and all(isinstance(node, dict) and {"message", "parent"} <= node.keys() for node in nodes)


def read_tree(tree: Mapping[str, Any], last: Any, place: str) -> list[dict[str, Any]] | Note:
    """The messages from the root to the node `last`, by OpenAI's names."""
    path = _path(tree, last)
    if path is None:
        return Note("not_messages", "", f"{place}: no way leads from its first message to current_node {short(last)}")
    messages, thinks = [], False
    for number, raw in enumerate(path, 1):
        where = f"{place}: message {number}"
        text = _text(raw, where)
        thinks = _is_thought(raw) or (thinks and not text)
        if not text:
            continue
        author = raw.get("author")
        role = author.get("role") if isinstance(author, dict) else None
        message = text if isinstance(text, Note) else read_message({"role": role, "content": text}, where)
        if isinstance(message, Note):
            return message
        messages.append(message)
    return beyond_text("thoughts", f"{place}: it ends in thoughts") if thinks else messages


def _path(tree: Mapping[str, Any], last: Any) -> list[dict[str, Any]] | None:
    """What the nodes from the root to `last` say; None where one is missing, or a circle."""
    found: list[dict[str, Any]] = []
    for _ in range(len(tree)):
        node = tree.get(last) if isinstance(last, str) else None
        if node is None:
            return None
        if isinstance(node["message"], dict):
            found.append(node["message"])
        if (last := node["parent"]) is None:
            return found[::-1]
    return None


def _text(message: Mapping[str, Any], where: str) -> str | Note:
    """What is said and shown to all; "" for nothing."""
    beside = message.get("metadata")
    if isinstance(beside, dict) and beside.get("is_visually_hidden_from_conversation"):
        return ""
    if _is_thought(message):
        return ""
    parts = _parts(message.get("content"))
    if odd := [part for part in parts if not isinstance(part, str)]:
        kind = type(odd[0]).__name__
        if isinstance(odd[0], dict) and "content_type" in odd[0]:
            held = odd[0]["content_type"]
            kind = (held if isinstance(held, str) else short(held))[:40]
            return beyond_text(kind, f"{where} holds {kind}")
        return Note("not_text", kind, f"{where} holds {kind}, not a text")
    text, to = "\n".join(parts), message.get("recipient") or "all"
    if text.strip() and to != "all":
        return beyond_text(to if isinstance(to, str) else short(to), f"{where} is a call of {short(to)}")
    return text if text.strip() else ""


def _is_thought(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, dict) and content.get("content_type") in _THOUGHTS


def _parts(content: Any) -> list[Any]:
    """What a message holds, texts and what is none, without what is empty."""
    if not isinstance(content, dict):
        return [content]
    if isinstance(content.get("parts"), list):
        return [part for part in content["parts"] if part]
    return [content] if any(value for key, value in content.items() if key != "content_type") else []
