"""What pydantic found wrong with a configuration, in words for people: where, what, and how to mend it."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_NEEDED = {  # pydantic's type of fault -> what is needed instead; {…} are the limits it names
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "finite_number": "a finite number",
    "greater_than_equal": "a value of at least {ge}",
    "greater_than": "a value above {gt}",
    "less_than_equal": "a value of at most {le}",
    "less_than": "a value below {lt}",
    "too_short": "a list with at least {min_length} item(s)",
    "literal_error": "{expected}",
}
_YAML_TYPES = {
    bool: "true/false",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
    type(None): "empty",
}


def fault(config_class: type[BaseModel], detail: ErrorDetails, overridden: Sequence[str] = ()) -> tuple[str, str]:
    """(message, remedy) of one fault; `overridden` are the paths that were given on the command line."""
    path = ".".join(str(part) for part in detail["loc"] if not _is_union_tag(part))
    option = next((o for o in overridden if path == o or path.startswith(f"{o}.") or o.startswith(f"{path}.")), None)
    source = f" (from --set {option})" if option and path else ""
    value, kind = detail["input"], detail["type"]
    if kind == "extra_forbidden":
        known = sorted(_known_keys(config_class, detail["loc"][:-1]))
        remedy = _nearest(str(detail["loc"][-1]), known) or f"known keys here: {', '.join(known)}"
        return f"{path}: unknown key (its value is {short(value)}){source}", f"{path}: {remedy}"
    if kind == "missing":
        return f"{path}: missing", f"add `{path}:`"
    at = f"{path}: " if path else ""
    if kind == "value_error":  # our validators write "what is wrong | what to do", and may begin with the key
        message, _, remedy = detail["msg"].removeprefix("Value error, ").partition(" | ")
        if key := re.match(r"([a-z_]+): ", message):
            at, message = f"{path}.{key[1]}: " if path else f"{key[1]}: ", message[key.end() :]
        return f"{at}{message}{source}", f"{at}{remedy or 'change the value'}"
    given = f"{at}{short(value)} ({_YAML_TYPES.get(type(value), type(value).__name__)}) is not valid"
    if kind not in _NEEDED:
        return f"{given}: {detail['msg']}{source}", f"{at}change the value"
    needed = _NEEDED[kind].format(**detail.get("ctx", {}))
    close = _nearest(value, re.findall(r"'([^']*)'", needed)) if kind == "literal_error" else ""
    return f"{given}: it must be {needed}{source}", f"{at}{f'{close} ' if close else ''}give {needed}"


def _nearest(value: Any, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else ""


def short(value: Any) -> str:
    """A value as a message shows it: at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_union_tag(part: Any) -> bool:
    # pydantic puts the branch of a union into the path ("function-wrap[...]", "constrained-str", a class name).
    return isinstance(part, str) and (
        not re.fullmatch(r"[a-z_][a-z0-9_\-]*", part) or part in {"str", "int", "float", "bool", "constrained-str"}
    )


def _known_keys(config_class: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """The keys that may stand at `loc`, found by walking the annotations."""
    candidates: list[type[BaseModel]] = [config_class]
    for part in loc:
        if isinstance(part, int) or not any(part in c.model_fields for c in candidates):
            continue
        annotations = [c.model_fields[part].annotation for c in candidates if part in c.model_fields]
        candidates = [inner for annotation in annotations for inner in _config_classes(annotation)]
    return {name for candidate in candidates for name in candidate.model_fields}


def _config_classes(annotation: Any) -> list[type[BaseModel]]:
    arguments = typing.get_args(annotation)
    if arguments:
        return [found for argument in arguments for found in _config_classes(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
