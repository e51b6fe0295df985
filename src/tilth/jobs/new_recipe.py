"""The recipes of `tilth init`: one that comes with tilth, with the name of the file that it is written to.

new_recipe(template, path) -> str     its text; comments stay
to_do(text, template) -> str          what is to be put in before it can be trained
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Literal

from tilth.core.config import fingerprint, parse_yaml
from tilth.jobs.recipe import shipped_recipe

Template = Literal["pretrain", "char", "mlm", "finetune", "lora", "instruct"]
SHIPPED: dict[Template, str] = {
    "pretrain": "my-text",
    "char": "shakespeare-char-cpu",
    "mlm": "mlm",
    "finetune": "finetune",
    "lora": "lora",
    "instruct": "lora-instruct",
}
_OF_A_DATA_SET: dict[Template, tuple[str, str]] = {  # what suits the text that tilth tried it on
    "char": ("path: data/tinyshakespeare.txt", "path: my-text.txt"),
    "instruct": (
        '"Is this sentence about a person or a place? Paris lies on the Seine.\\n"',
        '"What is bread made of?\\n"',
    ),
}


def new_recipe(template: Template, path: Path) -> str:
    """The text of a recipe to begin with; it is called as its file is (`_name_of`), so that recipes side by side have
    run folders of their own.
    """
    shipped = SHIPPED[template]
    text = shipped_recipe(shipped).replace(f"recipes/{shipped}.yaml", "THIS_FILE")
    text = text.replace(*_OF_A_DATA_SET.get(template, ("", "")), 1)
    name = _name_of(path.stem, shipped)
    text = re.sub(rf"^name: {re.escape(shipped)}( *)", lambda found: _named(found, shipped, name), text, flags=re.M)
    return re.sub(rf"runs/{re.escape(shipped)}\b(?!-)", f"runs/{name}", text)


def _name_of(stem: str, shipped: str) -> str:
    """A file's name as a folder's: letters without their accents, hyphens for what cannot stand in it. Where letters go
    so, a few digits of the whole name's hash tell it from others; of nothing it is the shipped recipe's.
    """
    whole = unicodedata.normalize("NFC", stem)  # as one is typed, however the file system writes it
    letters = [c for c in unicodedata.normalize("NFKD", whole) if not unicodedata.combining(c)]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "".join(letters)).lstrip("._-").rstrip("-")[:100]
    if any(c.isalnum() and not c.isascii() for c in letters):
        return f"{(name or shipped)[:93]}-{fingerprint(whole)[:6]}"
    return name or shipped


def _named(found: re.Match[str], old: str, new: str) -> str:
    """The line's beginning, with the comment after it where it stood."""
    name = new if parse_yaml(new, new) == new else f'"{new}"'  # `1e3` is a number, and `null` nothing
    room = max(1, len(found[1]) + len(old) - len(name)) if found[1] else 0
    return f"name: {name}{' ' * room}"


def to_do(text: str, template: Template) -> str:
    """What is still to be put in."""
    if template == "mlm":
        return "it trains on the text that came with Python, or on yours under data.sources; type"
    what = "rows of questions and answers" if template == "instruct" else "text"
    base = " and a checkpoint under model.from" if "  from: " in text else ""
    return f"name your {what} under data.sources{base}, then type"
