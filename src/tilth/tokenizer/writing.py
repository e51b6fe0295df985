"""A compiled chat template, which writes text of messages: raw, as marks.py has it, or why there is none.

Writer(template, marker, variables, today)
    .written(row, count, prompt)    a rendering of a row's first messages; the row as the template is to see it
RunawayError                        the template must not be used at all
switches(template, variables, …)    the variables by which a template writes thoughts or none

A content that is a text goes to the template as one. A template that writes nothing of a text, for it looks for
OpenAI's list of parts (Idefics 3, LLaVA-NeXT), is given such a list: seen once for each role, by a content that is to
be found.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any, final

import jinja2
import jinja2.meta
from jinja2.exceptions import SecurityError

from tilth.tokenizer.conversation import Dropped, Row
from tilth.tokenizer.marks import HERE, Marker
from tilth.tokenizer.sandbox import RefusedError, environment

OUTPUT = 1 << 24  # characters that a template may write, and so many times what it was given
OUTPUT_RATIO = 32
_PRINTED = re.compile(f"[\"']text[\"']: *[\"']{HERE}")  # a list of parts, written as one
_GENERATION = re.compile(r"\{%[-+]?\s*generation\b")


class RunawayError(Exception):
    """The template itself is at fault, whatever the conversation: (kind, detail)."""


@final
class Writer:
    """One template, compiled.

    Attributes:
        has_marks: whether the template says where answers are (`{% generation %}`).
        bos: the token that it may begin a text with, "" where there is none.

    Raises RunawayError when the template does not compile.
    """

    def __init__(self, template: str, marker: Marker, variables: Mapping[str, Any], today: datetime.date) -> None:
        self._marker, self._variables = marker, dict(variables)
        self.has_marks = bool(_GENERATION.search(template))
        self.bos = str(self._variables.get("bos_token") or "")
        self._parts = dict[str, bool]()  # see _in_parts
        try:
            self._template = environment(today).from_string(template)
        except (jinja2.TemplateError, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            # What a template multiplies is computed here already, where all of it is constant.
            said = str(error) or ("more memory than it may have" if isinstance(error, MemoryError) else "")
            raise RunawayError("syntax", f"{said}{f' (line {line})' if line else ''}") from None

    def written(self, row: Row, count: int, prompt: bool) -> str | Dropped:
        """A rendering of the first `count` messages, with marks, or why there is none."""
        try:
            return self._rendered(row, count, prompt)
        except RefusedError as error:
            return Dropped("refused", f"the template says: {error}")
        except (SecurityError, RecursionError, MemoryError) as error:
            raise RunawayError(type(error).__name__, str(error)) from None
        except RunawayError:
            raise
        except Exception as error:  # the template meets what it was not written for: this conversation has no rendering
            return Dropped("template", f"{type(error).__name__}: {error}"[:300])

    def _rendered(self, row: Row, count: int, prompt: bool) -> str:
        messages = [self._in_form(message) for message in row.messages[:count]]
        data = {"messages": messages, "tools": row.tools, "documents": row.documents}
        raw = self._generated(data, prompt, row.size)
        return self._marker.unescape(raw, json.dumps(data, ensure_ascii=False)) if "\\ufdd" in raw else raw

    def _generated(self, data: Mapping[str, Any], prompt: bool, size: int) -> str:
        most, length, pieces = OUTPUT + OUTPUT_RATIO * size, 0, []
        for piece in self._template.generate({**self._variables, **data, "add_generation_prompt": prompt}):
            length += len(piece)
            if length > most:
                raise RunawayError("output", f"more than {most} characters for a conversation of {size}")
            pieces.append(piece)
        return "".join(pieces)

    def _in_form(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message with its text in parts, where the template writes those of its role alone."""
        content, role = message.get("content"), message["role"]
        if not isinstance(content, str):
            return message
        if role not in self._parts:
            self._parts[role] = not self._writes(role, HERE) and self._writes(role, _as_parts(HERE))
        return {**message, "content": _as_parts(content)} if self._parts[role] else message

    def _writes(self, role: str, content: Any) -> bool:
        """Whether the template writes the text of a content, and not the list that it is in."""
        sought, user, answer = ({"role": one, "content": ""} for one in (role, "user", "assistant"))
        sought["content"] = content
        around = {"user": ([], []), "assistant": ([user], []), "system": ([], [user]), "developer": ([], [user])}
        before, behind = around.get(role, ([user, answer], []))
        messages = [*map(self._in_form, before), sought, *map(self._in_form, behind)]
        try:
            raw = self._generated({"messages": messages, "tools": None, "documents": None}, False, 0)
        except Exception:  # it has no rendering of that; whether of a row is asked there
            return False
        return HERE in raw and not _PRINTED.search(raw)


def _as_parts(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}]


def switches(template: str, variables: Mapping[str, Any], today: datetime.date) -> list[tuple[str, bool]]:
    """Those that a template reads, by their names, with each value that they do not have."""
    names = jinja2.meta.find_undeclared_variables(environment(today).parse(template))
    asked = sorted(name for name in names if "think" in name)
    return [(name, value) for name in asked for value in (True, False) if variables.get(name) is not value]
