"""Strict configuration: YAML in, checked objects out, one error that says where, what and how to mend it.

    load_yaml(path) -> dict            YAML 1.2 numbers, no duplicate keys
    apply_overrides(data, ["a.b=1"])   what `--set` does
    parse(SomeConfig, data)            a `Config`, or a RecipeError with the dotted path, the value and the nearest key
    fingerprint(value)                 the identity of a configuration, the same on every machine

Each config class stands beside the code it configures and derives from `Config`.
"""

from __future__ import annotations

import ast
import copy
import difflib
import hashlib
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tilth.core.errors import BETWEEN_FAULTS, RecipeError
from tilth.core.faults import cut, distinct, dotted_path, fault, short
from tilth.core.yaml_faults import yaml_remedy


class Config(BaseModel):
    """Base of all configuration: unknown keys and wrong types are refused, and nothing changes after it was checked."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
    )
    peer_names: ClassVar[Mapping[str, str]] = {}
    """What other programs call keys of this class and below it, by dotted path: for who brings a name along."""
    own_names: ClassVar[Mapping[str, str]] = {}
    """The same of the keys of this class alone, also where the schema has that name elsewhere; `..key` is one beside
    this section.
    """
    peer_notes: ClassVar[Mapping[str, str]] = {}
    """What to say beside such a path, or one of these names: what its value counts, where theirs counts otherwise."""
    example: ClassVar[str] = ""
    """As it may be written in a recipe: for a remedy where something else stands in its place, or nothing."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema, with what the source says below each key. pydantic's `use_attribute_docstrings` does the same for
        every class when it is made: a fifth of the time that a command takes to start.
        """
        schema = handler.resolve_ref_schema(handler(core_schema))
        keys = {name: field.alias for name, field in cls.model_fields.items() if field.alias}
        said = {keys.get(name, name): text for name, text in _said_of_keys(cls).items()}
        for way in (schema, *schema.get("anyOf", [])):  # a class may allow short ways to write it
            for key in said.keys() & way.get("properties", {}).keys():
                way["properties"][key].setdefault("description", said[key])
        return schema


def _said_of_keys(config: type[BaseModel]) -> dict[str, str]:
    """The text below each key of a config class, those of its bases first."""
    said: dict[str, str] = {}
    for base in reversed([one for one in config.__mro__ if issubclass(one, Config) and one is not Config]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for key, below in itertools.pairwise(body.body):
            match key, below:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(str(text))):
                    said[name] = inspect.cleandoc(text)
    return said


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


# PyYAML follows YAML 1.1, in which `1e-3` is a string (no dot), `on` is true, `1:30` is ninety and `0100` is octal:
# each a silent fault. Its keys `<<` and `=` are no part of YAML 1.2 either: they are texts like any other.
_REPLACED = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp", "merge", "value"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
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


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    try:
        return int(text.replace("_", ""), 10)
    except ValueError:  # more digits than Python converts, or `!!int` on a text
        raise yaml.constructor.ConstructorError(None, None, f"{short(text)} is no integer", node.start_mark) from None


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def parse_yaml(text: str, place: str) -> Any:
    """The value of a YAML text; `place` is named in the error."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}, line {mark.line + 1}, column {mark.column + 1}" if mark else place
        problem = getattr(error, "problem", None) or str(error)
        known = yaml_remedy(error, text) if isinstance(error, yaml.MarkedYAMLError) else ""
        good = "quote it whole: --set 'key.path=VALUE'" if place.startswith("--set") else known or "mend that line"
        raise RecipeError(
            f"{where}: this is not YAML: {problem}", f"{good}; `tilth init` writes a good example"
        ) from error
    except RecursionError:
        raise RecipeError(f"{place} is nested too deeply", "`tilth init` writes a good example") from None


_TEXTS = (".txt", ".text", ".md", ".markdown", ".rst", ".csv", ".tsv", ".jsonl", ".html", ".py")


def _recipes_beside(path: Path) -> str:
    """Of a recipe that is not there: the one that was meant, or those that lie in that folder."""
    names = sorted(one.name for one in path.parent.glob("*.y*ml") if one.suffix in (".yaml", ".yml") and one.is_file())
    stems = {Path(name).stem: name for name in names}
    if close := difflib.get_close_matches(path.stem, stems, n=1, cutoff=0.7):
        return f"did you mean {path.with_name(stems[close[0]])}? else "
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"the recipes there: {', '.join(names[:5])}{more}; or " if names else "check the path, or "


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}", f"{_recipes_beside(path)}write one with `tilth init`") from None
    except IsADirectoryError:
        kept = path / "recipe.json"  # of a run
        named = f"name {kept}, or the recipe that this run was made by" if kept.is_file() else "name the file in it"
        raise RecipeError(f"{path} is a folder, not a recipe", named) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError(
            f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8", "save the recipe as UTF-8"
        ) from error
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}", "give a readable UTF-8 YAML file") from error
    of_text = "that looks like a text, not a recipe: write one with `tilth init`, and name the text under data.sources"
    try:
        data = parse_yaml(text, str(path))
    except RecipeError as error:
        if path.suffix.lower() not in _TEXTS:
            raise
        raise RecipeError(error.message, of_text) from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        remedy = of_text if path.suffix.lower() in _TEXTS else "start from `tilth init`"
        raise RecipeError(f"{path} holds a {type(data).__name__}, not keys and values", remedy)
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
        if not (head.isascii() and head.isdigit()) or int(head) >= len(node):
            remedy = f"use an index from 0 to {len(node) - 1}" if node else "give the whole list: --set KEY=[…]"
            raise RecipeError(f"--set {override!r}: the list has no item {head!r}", remedy)
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


def parse(
    config_class: type[ConfigT], data: Mapping[str, Any], place: str = "recipe", overridden: Iterable[str] = ()
) -> ConfigT:
    """`data` as a checked `config_class`; RecipeError names every fault with its dotted path, value and remedy.

    Args:
        overridden: the `--set` options that were put into `data`: a fault says so where it comes from one of them.
    """
    try:
        return config_class.model_validate(data)
    except ValidationError as error:
        options = [override.partition("=")[0].strip() for override in overridden]
        faults = list(dict.fromkeys(fault(config_class, detail, options) for detail in distinct(error.errors())))
        lines = BETWEEN_FAULTS.join(message for message, _ in faults)
        remedies = "; ".join(dict.fromkeys(remedy for _, remedy in faults))
        raise RecipeError(f"{place}: {lines}", remedies) from None


def unknown_keys(config_class: type[Config], data: Mapping[str, Any]) -> list[str]:
    """The dotted paths of the keys of `data` that the schema does not have."""
    try:
        config_class.model_validate(data)
    except ValidationError as error:
        extra = [detail for detail in error.errors() if detail["type"] == "extra_forbidden"]
        return list(dict.fromkeys(dotted_path(config_class, detail) for detail in extra))
    return []


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a config or of plain data; the same for equal values on every machine."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two plain configurations differ, as `a.b: old -> new` lines; items of lists by their number."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(key, (old.get(key), new.get(key))) for key in sorted(old.keys() | new.keys())]
    elif _of_sections(old, new):
        pairs = [(str(n), both) for n, both in enumerate(itertools.zip_longest(old, new))]
    else:
        return [] if old == new else [f"{path}: {' -> '.join(_brief(old, new))}"]
    return [line for key, (a, b) in pairs for line in differences(a, b, f"{path}.{key}" if path else key)]


def _of_sections(*lists: Any) -> bool:
    """Whether these are lists in which keys and values stand: what differs lies deeper."""
    return all(isinstance(one, list) for one in lists) and any(isinstance(item, dict) for one in lists for item in one)


def _brief(*values: Any) -> list[str]:
    """Values as people write them: numbers short, where that does not make them equal, and nothing for None."""
    shown = [f"{value:.4g}" if isinstance(value, float) else _plainly(value) for value in values]
    return shown if len(set(shown)) == len(shown) else [_plainly(value) for value in values]


def _plainly(value: Any) -> str:
    if isinstance(value, dict) and value:  # as a recipe has it, and without what it leaves out
        said = [f"{key}: {_plainly(one)}" for key, one in value.items() if one is not None]
        return cut(f"{{{', '.join(said)}}}")
    return "left out" if value is None else short(value)
