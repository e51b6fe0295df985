"""Strict configuration: YAML in, checked objects out, one error that says where, what and how to mend it.

    load_yaml(path) -> dict            YAML 1.2 numbers, no duplicate keys
    apply_overrides(data, ["a.b=1"])   what `--set` does
    parse(SomeConfig, data)            a `Config`, or a RecipeError with the dotted path, the value and the nearest key
    fingerprint(value)                 the identity of a configuration, the same on every machine

Each config class stands beside the code it configures and derives from `Config`.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import re
import typing
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from tilth.core.errors import RecipeError


class Config(BaseModel):
    """Base of all configuration: unknown keys and wrong types are refused, and nothing changes after it was checked."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


ConfigT = TypeVar("ConfigT", bound=Config)


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: `1e-3` is a number, `on` is a word, and a key stands once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is no key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# PyYAML follows YAML 1.1, in which `1e-3` is a string (no dot), `on` is true and `1:30` is ninety: each a silent fault.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    for _REPLACED in [tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))]
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def parse_yaml(text: str, place: str) -> Any:
    """The value of a YAML text; `place` is named in the error."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}, line {mark.line + 1}, column {mark.column + 1}" if mark else place
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError(
            f"{where}: this is not YAML: {problem}", "mend that line; `tilth init` writes a good example"
        ) from error
    except RecursionError:
        raise RecipeError(f"{place} is nested too deeply", "`tilth init` writes a good example") from None


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}", "check the path, or write one with `tilth init`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}", "give a readable UTF-8 YAML file") from error
    data = parse_yaml(text, str(path))
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise RecipeError(f"{path} holds a {type(data).__name__}, not keys and values", "start from `tilth init`")
    return data


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`data` with each `dotted.path=YAML value` put in; list items are named by their index."""
    result: dict[str, Any] = copy.deepcopy(dict(data))
    for override in overrides:
        path, separator, value = override.partition("=")
        if not separator or not path.strip():
            raise RecipeError(
                f"--set {override!r} has no key or no '='",
                "write --set key.path=VALUE, for example --set train.steps=100",
            )
        _assign(result, path.strip().split("."), parse_yaml(value, f"--set {path}"), override)
    return result


def _assign(node: Any, keys: list[str], value: Any, override: str) -> None:
    head, *rest = keys
    if isinstance(node, list):
        if not head.isdigit() or int(head) >= len(node):
            raise RecipeError(
                f"--set {override!r}: the list has no item {head!r}", f"use an index from 0 to {len(node) - 1}"
            )
        key: Any = int(head)
    elif isinstance(node, dict):
        key = head
    else:
        raise RecipeError(f"--set {override!r}: {node!r} has no keys", "name a key that holds a mapping")
    if not rest:
        node[key] = value
        return
    child = node[key] if isinstance(node, list) else node.get(key)
    if not isinstance(child, (dict, list)):
        child = node[key] = {}
    _assign(child, rest, value, override)


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` put in, mapping by mapping; lists are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = deep_merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def parse(config_class: type[ConfigT], data: Mapping[str, Any], place: str = "recipe") -> ConfigT:
    """`data` as a checked `config_class`; RecipeError names every fault with its dotted path, value and remedy."""
    try:
        return config_class.model_validate(data)
    except ValidationError as error:
        faults = [_fault(config_class, detail) for detail in error.errors()]
        faults = list(dict.fromkeys(faults))
        lines = "\n  ".join(f"{message}" for message, _ in faults)
        remedies = "; ".join(dict.fromkeys(remedy for _, remedy in faults))
        raise RecipeError(f"{place}: {lines}", remedies) from None


def _fault(config_class: type[Config], detail: ErrorDetails) -> tuple[str, str]:
    path = ".".join(str(part) for part in detail["loc"] if not _is_union_tag(part))
    value, kind = detail["input"], detail["type"]
    if kind == "extra_forbidden":
        known = sorted(_known_keys(config_class, detail["loc"][:-1]))
        close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.5)
        remedy = f"did you mean `{close[0]}`?" if close else f"known keys here: {', '.join(known)}"
        return f"{path}: unknown key (its value is {_short(value)})", f"{path}: {remedy}"
    if kind == "missing":
        return f"{path}: missing", f"add `{path}:`"
    message = detail["msg"].removeprefix("Value error, ")
    message, _, remedy = message.partition(" | ")  # our validators write "what is wrong | what to do"
    at = f"{path}: " if path else ""
    if kind == "value_error":
        return f"{at}{message}", f"{at}{remedy or 'change the value'}"
    return f"{at}{_short(value)} ({_yaml_type(value)}) is not valid: {message}", f"{at}{message}"


def _is_union_tag(part: Any) -> bool:
    # pydantic puts the branch of a union into the path ("function-wrap[...]", "constrained-str", a class name).
    return isinstance(part, str) and (
        not re.fullmatch(r"[a-z_][a-z0-9_\-]*", part) or part in {"str", "int", "float", "bool", "constrained-str"}
    )


def _known_keys(config_class: type[Config], loc: tuple[int | str, ...]) -> set[str]:
    """The keys that may stand at `loc`, found by walking the annotations."""
    candidates: list[type[Config]] = [config_class]
    for part in loc:
        if isinstance(part, int) or not any(part in c.model_fields for c in candidates):
            continue
        annotations = [c.model_fields[part].annotation for c in candidates if part in c.model_fields]
        candidates = [inner for annotation in annotations for inner in _config_classes(annotation)]
    return {name for candidate in candidates for name in candidate.model_fields}


def _config_classes(annotation: Any) -> list[type[Config]]:
    arguments = typing.get_args(annotation)
    if arguments:
        return [found for argument in arguments for found in _config_classes(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, Config) else []


def _yaml_type(value: Any) -> str:
    names = {
        bool: "true/false",
        int: "an integer",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a mapping",
        type(None): "empty",
    }
    return names.get(type(value), type(value).__name__)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a config or of plain data; the same for equal values on every machine."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two plain configurations differ, as `a.b: old -> new` lines."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            line for key in keys for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]
