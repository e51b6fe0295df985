"""Chat templates: the built-in ones, a checkpoint's own, one from the recipe.

    ChatTemplate                      name, source, and the special tokens that it writes
    choose_template(choice, own)      what `data.chat.template` means
    find_template(files, config, …)   a checkpoint's own
    saved_template(folder)            the same, of a folder

Built in are ChatML, Llama 3, Mistral, Gemma and Zephyr, written for tilth from the published formats: answers stand in
`{% generation %}` with the token that ends them; what a format has no place for (a tool's message in Gemma's) is
refused by the template, never left out.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tilth.core.config import fingerprint
from tilth.core.errors import IntegrityError, RecipeError
from tilth.core.files import read_json

CHECKPOINT = "checkpoint"
# Special tokens that a template writes by itself; <bos>, <eos> and the like are the tokenizer's.
BUILT_IN: dict[str, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": ("[INST]", "[/INST]"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "zephyr": ("<|system|>", "<|user|>", "<|assistant|>"),
}

_NAMED = {"default": "chat_template.jinja", "tool_use": "additional_chat_templates/tool_use.jinja"}
TEMPLATE_FILES = (*_NAMED.values(), "chat_template.json")
"""Files of a folder that templates may lie in, beside tokenizer_config.json."""


@dataclass(frozen=True)
class ChatTemplate:
    """How messages become a text.

    Attributes:
        name: what messages call it: a built-in name, `checkpoint`, or `of the recipe`.
        source: Jinja2, as Hugging Face's chat templates are.
        special_tokens: what a built-in template writes; a tokenizer that lacks one spells it as text.
    """

    name: str
    source: str
    special_tokens: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the source."""
        return fingerprint(self.source)


@cache
def built_in(name: str) -> ChatTemplate:
    """One of `BUILT_IN`."""
    source = resources.files(__name__).joinpath(f"{name}.jinja").read_text(encoding="utf-8")
    return ChatTemplate(name, source, BUILT_IN[name])


def choose_template(choice: str, own: str | None) -> ChatTemplate:
    """The template that a recipe asks for; `own` is the checkpoint's.

    Raises:
        RecipeError: no such name, or a checkpoint without a template.
    """
    if choice in BUILT_IN:
        return built_in(choice)
    if choice == CHECKPOINT:
        if own is None:
            raise RecipeError(
                "data.chat.template is checkpoint, but the checkpoint has no chat template",
                f"name one: {', '.join(BUILT_IN)}; or write it into the recipe",
            )
        return ChatTemplate(CHECKPOINT, own)
    if "{%" in choice or "{{" in choice:
        return ChatTemplate("of the recipe", choice)
    near = difflib.get_close_matches(choice, [CHECKPOINT, *BUILT_IN], n=1)
    raise RecipeError(
        f"data.chat.template {choice!r:.80} is no template" + (f"; did you mean {near[0]}?" if near else ""),
        f"name one of {CHECKPOINT}, {', '.join(BUILT_IN)}, or write the Jinja2 text itself",
    )


def find_template(files: Mapping[str, bytes], config: Mapping[str, Any], place: Path) -> str | None:
    """A checkpoint's template: of chat_template.jinja, tokenizer_config.json and chat_template.json the first that is
    there. Where several are named, `default`; and `tool_use`, where there is one, for conversations with tools. None
    where there is none; IntegrityError where it is no text.
    """
    try:
        found: Any
        if "chat_template.jinja" in files:
            found = {name: files[file].decode() for name, file in _NAMED.items() if file in files}
        else:
            found = config.get("chat_template")
            if found is None and "chat_template.json" in files:
                found = json.loads(files["chat_template.json"])["chat_template"]
        if isinstance(found, list):
            found = {entry["name"]: entry["template"] for entry in found}
        if isinstance(found, dict):
            found = _chosen(found.get("default"), found.get("tool_use"))
        if found is None or isinstance(found, str):
            return found
        raise TypeError(f"a {type(found).__name__} where a template should be")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise IntegrityError(
            f"the chat template in {place} is damaged: {error}", "copy the tokenizer's files again, or name a template"
        ) from None


def _chosen(default: Any, tool_use: Any) -> Any:
    """One template that is the one or the other, as transformers picks: by whether there are tools."""
    if not isinstance(default, str) or not isinstance(tool_use, str):
        return default
    with_tools, without = (_inside(source) for source in (tool_use, default))
    return f"{{% if tools is defined and tools is not none %}}\n{with_tools}{{% else %}}\n{without}{{% endif %}}"


def _inside(source: str) -> str:
    """A template between two blocks, as it would be alone: a line of its own begins it, its last line end is left out,
    and white space before the block behind it stays.
    """
    return source.removesuffix("\n") + "{{ '' }}"


def saved_template(folder: Path) -> str | None:
    """The template that lies in a folder beside its tokenizer; None where there is none."""
    names = [name for name in TEMPLATE_FILES if (folder / name).exists()]
    said = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    return find_template({name: (folder / name).read_bytes() for name in names}, said, folder)
