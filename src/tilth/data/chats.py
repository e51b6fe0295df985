"""Conversations to tokens as a recipe says: by a chat template, or a prompt and its completion without one.

    ChatDocuments(config, template)     an `Encoder` (conversations.py): documents with `meta.messages`

What a template runs in is a process of its own; each worker keeps one as long as the same template is asked for.
Plain text among conversations is trained whole, with end-of-text behind it.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tilth.core.words import plural
from tilth.data.conversations import Encoded, Refusal
from tilth.data.document import Document
from tilth.data.spoken import WITHDRAWN, says_its_messages
from tilth.tokenizer import Tokenizer
from tilth.tokenizer.chat import ChatEncoder, Dropped, EncodedChat, encode_completions
from tilth.tokenizer.chat_config import ChatConfig
from tilth.tokenizer.conversation import checked
from tilth.tokenizer.templates import ChatTemplate

VERSION = 14


@final
@dataclass(frozen=True, slots=True)
class ChatDocuments:
    """Encodes documents that are conversations; without a template a prompt, its completion and end-of-text."""

    config: ChatConfig | None
    template: ChatTemplate | None

    @property
    def identity(self) -> Any:
        """Version, template and options."""
        options = self.config.model_dump(mode="json", exclude={"template"}) if self.config else None
        return [VERSION, self.template.fingerprint if self.template else None, options]

    def refusal(self, document: Document) -> Refusal | None:
        """Why a conversation cannot be trained on, as far as its messages alone tell."""
        if "messages" not in document.meta:
            return None
        answers_only = self.config is None or self.config.train_on != "all"
        fault = checked(document.meta["messages"], need_answer=answers_only)
        if fault is None and self.template is None and isinstance(pair := _pair(document.meta["messages"]), Dropped):
            fault = pair
        return Refusal(fault.rule, "", f"{document.locator}: {fault.detail}") if fault else _unsaid(document)

    def __call__(self, tokenizer: Tokenizer, documents: Sequence[Document]) -> list[Encoded | Refusal]:
        """What each document becomes, or why it is dropped."""
        made: list[Encoded | Refusal | None] = [_changed(document) for document in documents]
        chats = [n for n, one in enumerate(made) if one is None and "messages" in documents[n].meta]
        for n, one in zip(chats, self._encoded(tokenizer, [documents[n] for n in chats]), strict=True):
            made[n] = _taken(one, documents[n])
        return [
            _plain(tokenizer, document) if one is None else one for one, document in zip(made, documents, strict=True)
        ]

    def _encoded(self, tokenizer: Tokenizer, documents: list[Document]) -> list[EncodedChat | Dropped]:
        if not documents:
            return []
        rows, called = [one.meta for one in documents], [one.locator for one in documents]
        if self.template is None or self.config is None:
            return _completions(tokenizer, rows)
        with _lock:
            return _encoder(tokenizer, self.config, self.template).encode(rows, self.config.train_on, called)


def _changed(document: Document) -> Refusal | None:
    by = document.meta.get(WITHDRAWN)
    if by is None and ("messages" not in document.meta or says_its_messages(document)):
        return _unsaid(document)
    if by is None:
        return Refusal("text_changed", "", f"{document.locator}: its text is not that of its messages")
    done = f"{document.locator}: its text was cut or cleaned by {by} in a way that its messages cannot follow"
    return Refusal("text_changed", by, f"{done}; {_REMEDIES.get(by, f'leave {by} out of data.clean')}")


def _unsaid(document: Document) -> Refusal | None:
    """A question in which nothing is said: its answer would be learned as one to nothing, as in pairs, which are
    refused when they are read (sources/shapes.py).
    """
    for place, message in enumerate(document.meta.get("messages", ())):
        content = message.get("content")
        if message.get("role") == "user" and not (content.strip() if isinstance(content, str) else content):
            return Refusal("empty_turn", "", f"{document.locator}: message {place}: nothing is said by the user")
    return None


_REMEDIES = {
    "split": "set data.split.by: document",
    "decontaminate": "set data.decontaminate.action: drop",
    "shared_lines": "leave out data.shared_lines",
}


def _taken(one: EncodedChat | Dropped, document: Document) -> Encoded | Refusal:
    if isinstance(one, Dropped):
        return Refusal(one.rule, "", f"{document.locator}: {one.detail}")
    if not one.trained.any():
        return Refusal("nothing_trained", str(len(one.ids)), f"{document.locator}: none of its tokens is trained")
    told = [(what, lost) for what, lost in (("thoughts", one.lost), ("content", one.unsaid)) if lost is not None]
    said = f"{document.locator}: the template writes nothing of the"
    lost = (Refusal(rule, str(n), f"{said} {what} of {plural(n, 'answer')}") for what, (rule, n) in told)
    return Encoded(one.ids, one.trained, tuple(lost))


def _plain(tokenizer: Tokenizer, document: Document) -> Encoded:
    ids = tokenizer.encode_documents([document.text])
    return Encoded(ids, np.ones(len(ids), np.bool_))


def _completions(tokenizer: Tokenizer, rows: Sequence[Mapping[str, Any]]) -> list[EncodedChat | Dropped]:
    pairs = [_pair(row["messages"]) for row in rows]
    encoded = iter(encode_completions(tokenizer, [pair for pair in pairs if not isinstance(pair, Dropped)]))
    return [pair if isinstance(pair, Dropped) else next(encoded) for pair in pairs]


def _pair(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str] | Dropped:
    if [message["role"] for message in messages] != ["user", "assistant"]:
        turns = ", ".join(str(message["role"]) for message in messages[:6])
        return Dropped("needs_template", f"only a prompt and its completion go without data.chat; here are {turns}")
    if more := sorted({*messages[0], *messages[1]} - {"role", "content"}):
        return Dropped("needs_template", f"only texts go without data.chat; here are {', '.join(more)}")
    return messages[0]["content"], messages[1]["content"]


_lock = threading.Lock()
_kept: dict[str, tuple[Any, ChatEncoder]] = {}


def _encoder(tokenizer: Tokenizer, config: ChatConfig, template: ChatTemplate) -> ChatEncoder:
    """The encoder of the last call, when it is the same."""
    key = (tokenizer.fingerprint, tokenizer.named_tokens, template.fingerprint, config)
    held = _kept.get("encoder")
    if held is None or held[0] != key:
        if held is None:
            atexit.register(_end)
        else:
            held[1].close()
        held = key, ChatEncoder(tokenizer, template, variables=config.variables, today=config.today)
        _kept["encoder"] = held
    return held[1]


def _end() -> None:
    for _, encoder in _kept.values():
        encoder.close()
