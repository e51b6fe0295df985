"""What pydantic found wrong with a configuration, in words for people: where, what, and how to mend it."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tilth.core.yaml_texts import in_brackets

_NEEDED = {  # pydantic's type of fault -> what is needed instead; {…} are the limits it names
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "finite_number": "a finite number",
    "greater_than_equal": "a value of at least {ge}",
    "greater_than": "a value above {gt}",
    "less_than_equal": "a value of at most {le}",
    "less_than": "a value below {lt}",
    "too_short": "a list with at least {min_length} item(s)",
    "string_too_short": "a text of at least {min_length} character(s)",
    "date_type": "a date such as 2026-01-31",
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
    path, value, kind = dotted_path(config_class, detail), detail["input"], detail["type"]
    source = _source(path, overridden)
    if kind == "extra_forbidden":
        remedy = _nearest_key(config_class, path, _classes_at(config_class, detail["loc"][:-1]))
        return f"{path}: unknown key (its value is {short(value)}){source}", f"{path}: {remedy}"
    if kind == "missing":
        classes, of_list = _wanted(config_class, detail["loc"])
        example = next((f" {_as_list(one.example, of_list)}" for one in classes if one.example), "")
        return f"{path}: missing", f"add `{path}:{example}`"
    at = f"{path}: " if path else ""
    if kind == "value_error":  # our validators write "what is wrong | what to do", and may begin with the key
        message, _, remedy = detail["msg"].removeprefix("Value error, ").partition(" | ")
        if key := re.match(r"([a-z_]+): ", message):
            whole = f"{path}.{key[1]}" if path else key[1]
            at, message, source = f"{whole}: ", message[key.end() :], _source(whole, overridden)
        return f"{at}{message}{source}", f"{at}{remedy or 'change the value'}"
    if kind == "invalid_key":
        above = path.rpartition(".")[0]
        place = f"{above}: " if above else ""
        said = "write a decimal point if this was one number (0.01, not 0,01): a comma begins another key"
        return f"{place}{short(value)} is no key: keys are texts{source}", f"{place}{said}"
    given = f"{at}{short(value)} ({_YAML_TYPES.get(type(value), type(value).__name__)}) is not valid"
    if kind not in _NEEDED:
        return f"{given}: {detail['msg']}{source}", f"{at}change the value"
    needed = _NEEDED[kind].format(**detail.get("ctx", {}))
    if kind == "float_type" and isinstance(value, str) and re.fullmatch(r"[-+]?\d+,\d+", value):
        needed += f" with a decimal point, {value.replace(',', '.')}"
    close = _nearest(value, re.findall(r"'([^']*)'", needed)) if kind == "literal_error" else ""
    has_example = kind in ("list_type", "tuple_type", "model_type")
    shown = _example(*_wanted(config_class, detail["loc"]), value) if has_example else ""
    return f"{given}: it must be {needed}{source}", f"{at}{f'{close} ' if close else ''}give {needed}{shown}"


def distinct(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without those that ask for keys and values where words may stand as well: who wrote a word meant one of them."""
    words = [loc[:-1] for loc in (one["loc"] for one in details) if loc and str(loc[-1]).startswith("literal[")]
    return [one for one in details if one["type"] != "model_type" or one["loc"][:-1] not in words]


def _wanted(config_class: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[Any], bool]:
    """The config classes that may stand at `loc`, and whether in a list."""
    *above, last = loc
    candidates: list[type[BaseModel]] = [config_class]
    for part in above:
        if isinstance(part, str) and (below := _below(candidates, part)):
            candidates = below[0]
    if not isinstance(last, str):  # an item
        return candidates, False
    annotations = [_fields(one)[last].annotation for one in candidates if last in _fields(one)]
    of_list = any(_is_list(annotation) for annotation in annotations)
    return [inner for annotation in annotations for inner in _config_classes(annotation)], of_list


def _is_list(annotation: Any) -> bool:
    """Whether it is a list, or may be one."""
    if (origin := typing.get_origin(annotation)) in (list, tuple):
        return True
    return origin in (typing.Union, types.UnionType) and any(map(_is_list, typing.get_args(annotation)))


def _example(classes: Sequence[Any], of_list: bool, value: Any) -> str:
    """`, as [{path: my-text.txt}]`: what was given where it belongs, if its class begins with a key for a text."""
    if not classes:
        return f", as [{_bare(value)}]" if of_list and isinstance(value, (str, int, float)) else ""
    for one in classes:
        key, first = next(iter(_fields(one).items()))
        takes_text = str in (first.annotation, *typing.get_args(first.annotation))
        if isinstance(value, str) and takes_text and "," not in one.example:  # it has other keys as well
            return f", as {_as_list(f'{{{key}: {_bare(value)}}}', of_list)}"
        if one.example:
            return f", as {_as_list(one.example, of_list)}"
    return ""


def _as_list(text: str, of_list: bool) -> str:
    return f"[{text}]" if of_list else text


def _bare(value: Any) -> str:
    """A scalar as YAML takes it within brackets."""
    return str(value) if not isinstance(value, str) else in_brackets(value) if len(value) <= 80 else short(value)


def _source(path: str, overridden: Sequence[str]) -> str:
    """Which `--set` options brought what is wrong at `path`: the one that set it, else all that are below it."""
    above = [option for option in overridden if path == option or path.startswith(f"{option}.")]
    found = above[-1:] or [option for option in overridden if path and option.startswith(f"{path}.")]
    return f" (from --set {', '.join(dict.fromkeys(found))})" if found else ""


_ALSO_CALLED = {"gpu": "cuda"}
"""Values by another name that people have for them, and that is nearer to a wrong one by its letters."""


def _nearest(value: Any, known: Sequence[str]) -> str:
    if (meant := _ALSO_CALLED.get(str(value).lower())) in known:
        return f"did you mean `{meant}`?"
    close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else ""


def short(value: Any) -> str:
    """A value as a message shows it: at most 80 characters."""
    try:
        return cut(repr(value))
    except RecursionError:  # a file's JSON may be nested that deep
        return f"{type(value).__name__}, nested too deep"


def cut(text: str) -> str:
    """A text as a message shows it, by itself: at most 80 characters."""
    return text if len(text) <= 80 else text[:77] + "..."


def dotted_path(config_class: type[BaseModel], detail: ErrorDetails) -> str:
    """The dotted path of a fault, without the branches of unions that pydantic puts into it ("function-wrap[...]", a
    class name).
    """
    loc, kept = detail["loc"], []
    candidates = [config_class]
    for place, part in enumerate(loc):
        is_unknown_key = detail["type"] == "extra_forbidden" and place == len(loc) - 1
        if not isinstance(part, str) or is_unknown_key:
            kept.append(str(part))
        elif below := _below(candidates, part):
            kept.append(part)
            candidates = below[0]
        elif not _looks_like_union_tag(part):
            kept.append(part)
    return ".".join(kept)


def _looks_like_union_tag(part: str) -> bool:
    return not re.fullmatch(r"[a-z_][a-z0-9_\-]*", part) or part in {"str", "int", "float", "bool", "constrained-str"}


def _nearest_key(config_class: type[BaseModel], path: str, owners: Sequence[type[BaseModel]]) -> str:
    """What the writer of an unknown key may have meant: a key beside it, else one anywhere in the schema.

    Args:
        owners: the classes whose section it stands in.
    """
    section, _, key = path.rpartition(".")
    known = sorted({name for owner in owners for name in _fields(owner)})
    if meant := next((names[_plain(key)] for owner in owners if _plain(key) in (names := _own_names(owner))), ""):
        above = section.rpartition(".")[0]
        return f"did you mean `{above}.{meant[2:]}`?" if meant.startswith("..") else f"did you mean `{meant}`?"
    everywhere = [place for place in _all_paths(config_class) if place not in {f"{section}.{k}" for k in known}]
    everywhere.sort(key=lambda place: not place.startswith(f"{section}."))  # below this section before elsewhere
    here = {name: name for name in known}
    there = {place.rpartition(".")[2]: place for place in reversed(everywhere)}  # of equal names the first stays
    inside = {name: place for name, place in there.items() if place.startswith(f"{section}.")}
    for names in (here, inside):
        if same := next((names[name] for name in names if _same(key, name)), ""):
            return f"did you mean `{same}`?"
    if holding := _holding(key, known):
        return f"did you mean {' or '.join(f'`{name}`' for name in holding)}?"
    if same := next((there[name] for name in there if _same(key, name)), ""):
        return f"did you mean `{same}`?"
    if theirs := getattr(config_class, "peer_names", {}).get(_plain(key)):
        above, _, name = theirs.rpartition(".")
        notes = getattr(config_class, "peer_notes", {})
        note = notes.get(_plain(key), notes.get(theirs))
        return f"did you mean `{name if above == section else theirs}`?{f' {note}' if note else ''}"
    if within := _within(key, known):
        return f"did you mean `{within}`?"
    above = section.rpartition(".")[0]
    near = {name: place for name, place in there.items() if not above or place.startswith(f"{above}.")}
    for names, cutoff in ((here, 0.65), (near, 0.75), (here, 0.5)):
        if close := difflib.get_close_matches(_plain(key), names, n=1, cutoff=cutoff):
            return f"did you mean `{names[close[0]]}`?"
    return f"known keys here: {', '.join(known)}"


def _plain(key: str) -> str:
    """`hiddenSize`, `Hidden Size` and `hidden-size` as `hidden_size`."""
    return re.sub(r"[\s\-]+", "_", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key).strip()).lower()


def _same(key: str, name: str) -> bool:
    """Whether a key is a known one in another dress, or spells it out (`learning_rate` for `lr`)."""
    plain = _plain(key)
    initials = "".join(word[0] for word in plain.split("_") if word)
    return plain == name or (len(initials) > 1 and initials == name)


def _holding(key: str, known: Sequence[str]) -> list[str]:
    """The known keys with all words of `key` among their own (`num_attention_heads` for `num_heads`) and the fewest
    others.
    """
    words = set(_plain(key).split("_"))
    holding = [name for name in known if words <= set(name.split("_"))]
    fewest = min((name.count("_") for name in holding), default=0)
    return [name for name in holding if name.count("_") == fewest]


def _within(key: str, known: Sequence[str]) -> str:
    """The longest known key whose words are all in `key` (`epochs` for `num_train_epochs`)."""
    words = set(_plain(key).split("_"))
    return max((name for name in known if set(name.split("_")) < words), key=len, default="")


def _own_names(owner: type[BaseModel]) -> Mapping[str, str]:
    """What other programs call the keys of a section, as its class says it; not those of the whole schema."""
    names: Mapping[str, str] = getattr(owner, "own_names", {})
    return names


def _all_paths(config_class: type[BaseModel], prefix: str = "", depth: int = 6) -> Iterator[str]:
    """The dotted path of every key of the schema, section by section; the first item stands for those of a list."""
    for name, field in _fields(config_class).items() if depth else ():
        yield f"{prefix}{name}"
        item = "0." if typing.get_origin(field.annotation) is list else ""
        for inner in _config_classes(field.annotation):
            yield from _all_paths(inner, f"{prefix}{name}.{item}", depth - 1)


def place_of(config_class: type[BaseModel], name: str) -> str:
    """The dotted path of the key that a name seems to mean: of several the one that lies highest; "" for none."""
    same = [path for path in _all_paths(config_class) if _same(name, path.rpartition(".")[2])]
    return min(same, key=lambda path: path.count("."), default="")


def _below(candidates: Sequence[type[BaseModel]], part: str) -> list[list[type[BaseModel]]]:
    """The config classes that a key of the candidates leads to, as the one item of a list; empty when it is no key."""
    annotations = [_fields(c)[part].annotation for c in candidates if part in _fields(c)]
    return [[inner for annotation in annotations for inner in _config_classes(annotation)]] if annotations else []


def _classes_at(config_class: type[BaseModel], loc: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """The classes that may stand at `loc`, found by walking the annotations."""
    candidates: list[type[BaseModel]] = [config_class]
    for part in loc:
        if isinstance(part, str) and (below := _below(candidates, part)):
            candidates = below[0]
    return candidates


def _fields(config_class: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields by the keys that a recipe has: `from` is no name in Python."""
    return {field.alias or name: field for name, field in config_class.model_fields.items()}


def _config_classes(annotation: Any) -> list[type[BaseModel]]:
    arguments = typing.get_args(annotation)
    if arguments:
        return [found for argument in arguments for found in _config_classes(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
