"""What to do about a text that is no YAML, where its fault is one of those that people make most."""

from __future__ import annotations

import yaml

_ENDS = {"{": "}", "[": "]", '"': '"', "'": "'"}


def yaml_remedy(error: yaml.MarkedYAMLError, text: str) -> str:
    """Of a fault that the parser found in `text`; "" where nothing is known but its place."""
    problem, opened = error.problem or "", error.context_mark
    if "'\\t'" in problem:
        return "indent with spaces: YAML takes no tab there"
    if "escape" in problem:
        return "in double quotes a backslash begins an escape: put such a text, as a Windows path, into single quotes"
    if opened is None or (end := _ENDS.get(text[opened.index : opened.index + 1])) is None:
        return ""
    begin = text[opened.index]
    return (
        f"a {end} may be missing here or in an earlier line: what begins with {begin} in line {opened.line + 1}, "
        f"column {opened.column + 1} is still open"
    )
