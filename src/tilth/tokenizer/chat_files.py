"""The chat template that belongs to a model, in the files beside its tokenizer.

    ChatFormat(template, …)          a template and what it sees besides the messages
    chat_files(format)               chat_template.jinja, and for tilth tilth_chat.json (name, variables, date)
    write_chat(folder, format, …)    both, and generation_config.json (the ids that end an answer, the base's settings)
    copy_chat(folder, to)            the same files, elsewhere
    read_chat(folder)                what stands there, in a folder of any program; None where there is no template
    read_stop_ids(folder)            the ids that generation_config.json ends at
    read_settings(folder)            what else it says, which other programs sample by

transformers reads template and generation_config.json.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilth.core.errors import IntegrityError
from tilth.core.files import disk, json_bytes, read_json, write_file, write_json
from tilth.tokenizer.base import Tokenizer
from tilth.tokenizer.chat import ChatEncoder
from tilth.tokenizer.chat_config import TODAY, ChatConfig
from tilth.tokenizer.foreign_files import TEMPLATE_FILE
from tilth.tokenizer.hf_format import CONFIG_FILE
from tilth.tokenizer.templates import CHECKPOINT, TEMPLATE_FILES, ChatTemplate, find_template

CHAT_FILE = "tilth_chat.json"
GENERATION_FILE = "generation_config.json"
_ENDS = "eos_token_id"
_WRITER = ("_from_model_config", "transformers_version")  # how transformers made the file, no setting


@dataclass(frozen=True)
class ChatFormat:
    """How messages become the ids that a model is given to answer."""

    template: ChatTemplate
    variables: Mapping[str, Any] = field(default_factory=dict)
    today: datetime.date = TODAY

    @classmethod
    def of(cls, config: ChatConfig, template: ChatTemplate) -> ChatFormat:
        """That of a recipe."""
        return cls(template, config.variables, config.today)

    def encoder(self, tokenizer: Tokenizer) -> ChatEncoder:
        """To be closed, or used as a context manager."""
        return ChatEncoder(tokenizer, self.template, variables=self.variables, today=self.today)


def chat_files(chat: ChatFormat) -> dict[str, bytes]:
    """The files of a template, by their names."""
    said = {"name": chat.template.name, "variables": dict(chat.variables), "today": chat.today.isoformat()}
    return {TEMPLATE_FILE: chat.template.source.encode(), CHAT_FILE: json_bytes(said)}


def write_chat(
    folder: Path, chat: ChatFormat | None, stop_ids: Collection[int], settings: Mapping[str, Any] | None = None
) -> None:
    """Writes what there is of all beside a tokenizer; `settings`: as of `read_settings`."""
    disk.make_folder(folder)
    if chat is not None:
        _read_special_tokens(folder)
        for name, content in chat_files(chat).items():
            write_file(folder / name, content)
    ends = {_ENDS: sorted(stop_ids)} if stop_ids else {}
    if said := {**(settings or {}), **ends}:
        write_json(folder / GENERATION_FILE, said)


def copy_chat(folder: Path, to: Path) -> None:
    """Copies what `write_chat` wrote, as far as it is there."""
    for name in (TEMPLATE_FILE, CHAT_FILE, GENERATION_FILE):
        if (folder / name).is_file():
            write_file(to / name, (folder / name).read_bytes())
    if (to / TEMPLATE_FILE).exists():
        _read_special_tokens(to)


def _read_special_tokens(folder: Path) -> None:
    """Lets transformers read the special tokens that a template writes: it renders a text and encodes that, and cannot
    tell them from those that a user spells. (tilth can, and does not look at this.)
    """
    config = _object(folder / CONFIG_FILE)
    if config.pop("split_special_tokens", False):
        write_json(folder / CONFIG_FILE, config)


def read_chat(folder: Path) -> ChatFormat | None:
    """The template of a folder; None where it has none. IntegrityError where it is damaged."""
    names = [name for name in TEMPLATE_FILES if (folder / name).exists()]
    config = _object(folder / CONFIG_FILE)
    source = find_template({name: (folder / name).read_bytes() for name in names}, config, folder)
    if source is None:
        return None
    said = _object(folder / CHAT_FILE)
    try:
        today = datetime.date.fromisoformat(said.get("today", TODAY.isoformat()))
        return ChatFormat(
            ChatTemplate(str(said.get("name", CHECKPOINT)), source), dict(said.get("variables", {})), today
        )
    except (TypeError, ValueError) as error:
        raise _damaged(folder / CHAT_FILE, error) from None


def read_stop_ids(folder: Path) -> frozenset[int]:
    """The ids that end a text as generation_config.json has it: none, one or several. IntegrityError for others."""
    said = _object(folder / GENERATION_FILE).get(_ENDS)
    ids = [] if said is None else said if isinstance(said, list) else [said]
    if not all(type(one) is int and one >= 0 for one in ids):
        raise _damaged(folder / GENERATION_FILE, f"eos_token_id is {said!r:.80}")
    return frozenset(ids)


def read_settings(folder: Path) -> dict[str, Any]:
    """What generation_config.json says besides `eos_token_id`: how other programs sample. IntegrityError where it is
    damaged.
    """
    said = _object(folder / GENERATION_FILE)
    return {key: value for key, value in said.items() if key not in (_ENDS, *_WRITER) and value is not None}


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise _damaged(path, "no JSON object")
    return value


def _damaged(path: Path, reason: object) -> IntegrityError:
    return IntegrityError(f"{path} is damaged: {reason}", "copy the model's files again")
