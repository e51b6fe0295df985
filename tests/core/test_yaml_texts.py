"""Texts in brackets, as remedies show them: what YAML makes of them is the text."""

from __future__ import annotations

import pytest

from tilth.core.config import parse_yaml
from tilth.core.yaml_texts import in_brackets

PLAIN = ["a.csv", "my text.txt", "~/x", "-x", "it's", "a\\b", "caf\u00e9"]
QUOTED = ["*.log", "~", "2024", "1e5", "1_000", "on", "null", "a, b", "a: b", "[x]", "#x", "a #x", " a", "a ", "", "'"]
QUOTED += ["&a", "!x", "%x", "@x", "`x`", "|", "? x", ".5", "2024-01-31", "a:", "=", "a\nb", "\x85", "\ufeff", '"\t\\']


@pytest.mark.parametrize("text", [*PLAIN, *QUOTED])
def test_yaml_gives_back_what_stands_in_brackets(text: str) -> None:
    said = in_brackets(text)
    assert (said == text) == (text in PLAIN)
    assert said.isprintable()
    assert parse_yaml(f"[{said}]", "here") == [text]
    assert parse_yaml(f"[{{path: {said}}}]", "here") == [{"path": text}]
