"""What a recipe may say of the text of a row: which columns make a conversation, and templates over columns.

RowMap                       `map:` of a source
template_columns(template)   the columns that a template names
as_template(value)           a column's name as a template
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import ClassVar

from pydantic import model_validator

from tilth.core.config import Config


class RowMap(Config):
    """Which columns make a conversation: `prompt` and `completion`, or `messages`."""

    example: ClassVar[str] = "{messages: messages} or {prompt: question, completion: answer}"

    own_names: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("text", "content", "field"), "..field"),
        **dict.fromkeys(("question", "instruction", "input"), "prompt"),
        **dict.fromkeys(("answer", "response", "output"), "completion"),
        **dict.fromkeys(("conversations", "conversation", "chat"), "messages"),
    }
    prompt: str | None = None
    """The column, or a template over columns, with what the user says; or, where `completion` has such a list as well,
    the column with a list of messages, or such a list as JSON text.
    """
    completion: str | None = None
    """The column, or a template over columns, with the answer; or the column with a list of the messages that answer
    those of `prompt`: of both, these alone are trained.
    """
    messages: str | None = None
    """The column with a list of messages, as `{role, content}` (OpenAI), `{from, value}` (ShareGPT) or `{sender, text}`
    (Claude's export), or such a list as JSON text; or with ChatGPT's export of conversations (`mapping`).
    """
    system: str | None = None
    """The column, or a template over columns, with what stands before the conversation; it may be missing or empty."""
    tools: str | None = None
    """The column with a list of descriptions of tools, or such a list as JSON text, for the chat template; it may be
    missing or empty.
    """

    @model_validator(mode="after")
    def _one_kind(self) -> RowMap:
        pair = self.prompt is not None and self.completion is not None
        if pair == (self.messages is not None) or (not pair and (self.prompt or self.completion)):
            raise ValueError("a map has prompt and completion, or messages | name those columns")
        for value in (self.prompt, self.completion, self.system):
            if value is not None:
                template_columns(as_template(value))
        return self


def template_columns(template: str) -> tuple[str, ...]:
    """The columns that a template names, in their order; ValueError (`what | remedy`) when it is none."""
    columns = []
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{template!r}: {error} | write {{column}}, and {{{{ or }}}} for a brace") from None
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if spec or conversion or not name.strip() or name.isdigit() or set(name) & set("{}"):
            raise ValueError(
                f"{template!r}: a template holds {{column}} and nothing else | take formats and numbers out"
            )
        columns.append(name)
    if not columns:
        raise ValueError(f"{template!r} names no column | write {{column}} where its value shall stand")
    return tuple(dict.fromkeys(columns))


def as_template(value: str) -> str:
    """A column's name as the template that gives its value; a template as it is."""
    return value if "{" in value else f"{{{value}}}"
