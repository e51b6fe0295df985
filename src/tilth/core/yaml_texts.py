"""A text as YAML takes it within brackets, so that a remedy can be typed as it stands.

in_brackets("a.csv") -> "a.csv"      in_brackets("*.log") -> "'*.log'"      in_brackets("2024") -> "'2024'"
"""

from __future__ import annotations

import re

import yaml

_NUMBER = re.compile(r"[-+]?[0-9._]+([eE][-+]?[0-9]+)?")  # YAML 1.2 knows more of them than this parser does


def in_brackets(text: str) -> str:
    """The text by itself where YAML gives it back unchanged, else in quotes."""
    if text and text.isprintable() and _is_plain(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    escaped = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'


def _is_plain(text: str) -> bool:
    try:
        return yaml.safe_load(f"[{text}]") == [text] and not _NUMBER.fullmatch(text)
    except yaml.YAMLError:
        return False
