"""Documents that are conversations: their text is what their messages say, or they have no messages any more.

    says_its_messages(document)        the text is that of `meta.messages`, but for white space
    other_text(document, text, by)     the document with another text, and without messages that say something else
    same_letters(text, other)          equal but for white space
    not_shown(table)                   what a chat template may write of each, and its text does not show

Whoever gives a document another text does it by `other_text`: messages that stayed as they were would keep what was
masked or cut, and would be trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tilth.data.document import Document
from tilth.data.sources.messages import rendered

WITHDRAWN = "messages_withdrawn"
"""In `meta`, in place of messages: the stage that changed the text in a way that they cannot follow."""
_NAMES = ("name", "tool_call_id", "weight")
_KEYS = f'"(?:tools|{"|".join(_NAMES)})": '
OF_MESSAGES = ("messages", "tools")
"""In `meta`: what a conversation is trained by."""


def says_its_messages(document: Document) -> bool:
    """Whether a document has messages, and its text is theirs."""
    messages = document.meta.get("messages")
    return messages is not None and same_letters(rendered(messages), document.text)


def other_text(document: Document, text: str, by: str) -> Document:
    """The document with this text. Where its messages say another, they and their tools go, and `meta` names `by`."""
    left = replace(document, text=text)
    if "messages" not in document.meta or says_its_messages(left):
        return left
    kept = {key: value for key, value in document.meta.items() if key not in OF_MESSAGES}
    return replace(left, meta={**kept, WITHDRAWN: by})


def not_shown(table: pa.Table) -> dict[int, bytes]:
    """Of documents in a table, by row: the descriptions of tools, whom messages name or answer, and which are not to be
    learned. Conversations that differ in these are others, though the same is said in them.
    """
    rows = np.flatnonzero(np.asarray(pc.match_substring_regex(table["meta"], _KEYS))).tolist()
    metas = (json.loads(meta) for meta in table["meta"].take(pa.array(rows, pa.int64())).to_pylist())
    return {row: more.encode() for row, meta in zip(rows, metas, strict=True) if (more := _not_shown(meta))}


def _not_shown(meta: Mapping[str, Any]) -> str:
    messages, tools = meta.get("messages"), meta.get("tools")
    if messages is None:
        return ""
    names = [{key: message[key] for key in _NAMES if key in message} for message in messages]
    return json.dumps([tools, names], ensure_ascii=False) if tools or any(names) else ""


def same_letters(text: str, other: str) -> bool:
    """Whether two texts differ in nothing but white space."""
    return text == other or "".join(text.split()) == "".join(other.split())
