"""Which files of a data set belong to a configuration and a split, by the hub's conventions.

    choose(names, card, config, place) -> Choice       names and card in, names out; nothing is read
    read_card(text, place) -> Card                     what the README's YAML says

As `datasets` documents it ("Structure your repository", "Manual configuration"): the card's `configs` say it; else
names do, in this order: `data/SPLIT-00000-of-00001…`, folders called after a split, files called after one, and a data
set without any such name is all `train`. Its rule that the most frequent kind of file is the data set holds here too.
A data set that only a script can make (NAME.py) is refused: tilth runs no code from elsewhere.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilth.core.config import parse_yaml
from tilth.core.errors import DataError, RecipeError
from tilth.data.sources.hub_config import HubConfig
from tilth.data.sources.inputs import Kind, kind_of

_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_APART = r"[-._ 0-9]"  # what may stand around a split's name in a file's or folder's name
_NOT_DATA = {"README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_DATA_KINDS = {"parquet", "arrow", "jsonl", "json", "csv", "text", "zip", "tar"}  # before what lies about beside data
_CONVERTED = "refs/convert/parquet"


@dataclass(frozen=True, slots=True)
class Card:
    """What a data set's card (the YAML at the top of its README.md) says that matters here."""

    configs: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """{config: {split: globs}}, in the card's order."""
    default: str | None = None
    license: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen files, sorted, with the kind that reads them; those beside them of another kind."""

    names: tuple[str, ...]
    kind: Kind
    others: tuple[str, ...] = ()


def read_card(text: str, place: str) -> Card:
    """The card of a README.

    Raises:
        DataError: it has YAML between `---` lines that cannot be understood.
    """
    match = re.match(r"\ufeff?---[ \t]*\r?\n(.*?\r?\n)---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
    if match is None:
        return Card()
    try:
        data = parse_yaml(match[1], place)
    except RecipeError as error:
        raise DataError(f"the card cannot be read: {error.message}", "name the files with `files:`") from error
    if not isinstance(data, dict):
        return Card()
    said = data.get("configs")
    entries = [entry for entry in said if isinstance(entry, dict)] if isinstance(said, list) else []
    configs, default = {}, None
    for entry in entries:
        name = str(entry.get("config_name", "default"))
        if "data_files" in entry or "data_dir" in entry:
            configs[name] = _splits_of(entry, place)
        if entry.get("default") is True:
            default = name
    license_ = data.get("license")
    return Card(configs, default, license_ if isinstance(license_, str) else None)


def _splits_of(entry: dict[str, Any], place: str) -> dict[str, list[str]]:
    """{split: globs} of one entry of `configs`, in each of the forms that a card may write it."""
    folder = str(entry.get("data_dir") or "").strip("/").removeprefix("./")
    files = entry.get("data_files", "**")
    if not isinstance(files, list):
        files = [files]
    splits: dict[str, list[str]] = {}
    for item in files:
        split, globs = ("train", item) if isinstance(item, str) else _one_split(item, place)
        for glob in [globs] if isinstance(globs, str) else globs:
            splits.setdefault(split, []).append(f"{folder}/{glob}" if folder else glob.removeprefix("./"))
    return splits


def _one_split(item: Any, place: str) -> tuple[str, str | list[str]]:
    path = item.get("path") if isinstance(item, dict) else None
    globs = [path] if isinstance(path, str) else path
    if not isinstance(globs, list) or not all(isinstance(glob, str) for glob in globs) or "split" not in item:
        raise DataError(f"{place}: its data_files hold {item!r}, not split and path", "name the files with `files:`")
    return str(item["split"]), globs


def choose(names: Iterable[str], card: Card, config: HubConfig, given: Kind | None, place: str) -> Choice:
    """The files that the recipe means, of all that there are.

    Args:
        given: how to read them where the recipe says so (`format:`); else their suffixes tell.

    Raises:
        DataError: no such configuration, split or file; or only a script could make them. It lists what there is.
    """
    everything = sorted(names)
    data = [name for name in everything if _is_data(name)]
    if config.files:
        wanted = [name for name in everything if any(matches(name, glob) for glob in config.files)]
        if not wanted:
            raise DataError(f"{place}: no file matches {', '.join(config.files)}", f"there are: {_some(everything)}")
        return _of_one_kind(wanted, given, place)
    _no_script(everything, card, place)
    if card.configs:
        splits = {s: _matching(data, globs) for s, globs in _configured(card, config.config, place).items()}
    elif config.config is not None:
        splits = _by_name([name for name in data if name.startswith(f"{config.config}/")])
        if not splits:
            raise DataError(f"{place}: it has no configuration {config.config!r}", f"its files are: {_some(data)}")
    else:
        splits = _by_name(data)
    return _of_one_kind(_split(splits, config.split, place), given, place)


def _is_data(name: str) -> bool:
    parts = name.split("/")
    return parts[-1] not in _NOT_DATA and not any(part.startswith((".", "__")) for part in parts)


def _no_script(names: Sequence[str], card: Card, place: str) -> None:
    script = f"{place.partition('@')[0].rstrip('/').rpartition('/')[2]}.py"
    if script in names and not card.configs:
        raise DataError(
            f"{place} is made by a script ({script}), and tilth runs no code from elsewhere",
            f"use the hub's own conversion with `revision: {_CONVERTED}`, or name plain files with `files:`",
        )


def _configured(card: Card, wanted: str | None, place: str) -> dict[str, list[str]]:
    name = wanted
    if name is None:
        only = next(iter(card.configs)) if len(card.configs) == 1 else None
        name = card.default or ("default" if "default" in card.configs else only)
    if name not in card.configs:
        what = f"it has no configuration {wanted!r}" if wanted else "it has several configurations and no default"
        raise DataError(f"{place}: {what}", f"write `config:` with one of {_some(card.configs)}")
    return card.configs[name]


def _by_name(names: Sequence[str]) -> dict[str, list[str]]:
    """{split: files} as the names tell; the first convention that anything follows is the one."""
    sharded: dict[str, list[str]] = {}
    for name in names:
        if match := re.fullmatch(r"(?:.*/)?data/([\w.]+)-\d{5}-of-\d{5}[^/]*\.[^/]*", name):
            sharded.setdefault(match[1], []).append(name)
    if sharded:
        return sharded
    for in_folder in (True, False):
        found = {split: [n for n in names if _called(n, words, in_folder)] for split, words in _KEYWORDS.items()}
        if any(found.values()):
            return {split: files for split, files in found.items() if files}
    return {"train": list(names)} if names else {}


def _called(name: str, words: Iterable[str], in_folder: bool) -> bool:
    *folders, file = name.split("/")
    words = "|".join(words)
    if in_folder:
        return any(re.fullmatch(rf"(?:.*{_APART})?(?:{words})(?:{_APART}.*)?", folder) for folder in folders)
    return bool(re.match(rf"(?:.*{_APART})?(?:{words}){_APART}", file))


def _split(splits: dict[str, list[str]], wanted: str | None, place: str) -> list[str]:
    name = wanted
    if name is None:
        name = "train" if "train" in splits else next(iter(splits)) if len(splits) == 1 else None
    if name not in splits:
        if not splits:
            raise DataError(f"{place}: it holds no data files", "name the files with `files:`")
        what = f"it has no split {wanted!r}" if wanted else "it has several splits, none of them `train`"
        raise DataError(f"{place}: {what}", f"write `split:` with one of {_some(splits)}")
    if not splits[name]:
        raise DataError(f"{place}: the split {name!r} has no files", "name the files with `files:`")
    return splits[name]


def _of_one_kind(names: Sequence[str], given: Kind | None, place: str) -> Choice:
    known = {name: found for name in names if (found := kind_of(name)) is not None}
    kinds = {name: found for name, found in known.items() if found in _DATA_KINDS} or known
    if given is not None and given not in kinds.values():
        return Choice(tuple(names), given)  # `format:` knows better than suffixes
    if not kinds:
        raise DataError(
            f"{place}: none of these files can be read: {_some(names)}",
            f"write `format:`, use the hub's own conversion with `revision: {_CONVERTED}`, or name other `files:`",
        )
    counts: Counter[Kind] = Counter(kinds.values())
    kind = given if given is not None else min(counts, key=lambda each: (-counts[each], each))
    chosen = tuple(name for name in names if kinds.get(name) == kind)
    return Choice(chosen, kind, tuple(name for name in names if name not in set(chosen)))


def _matching(names: Iterable[str], globs: Sequence[str]) -> list[str]:
    return [name for name in names if any(matches(name, glob) for glob in globs)]


def matches(name: str, glob: str) -> bool:
    """Whether a glob means a name: `*`, `?` and `[…]` stay within a folder's name, `**` goes through folders."""
    parts, globs = name.split("/"), glob.split("/")
    # reach[i]: the globs so far can stand for the first i parts. A table, not one long regular expression: a card is
    # somebody else's text, and a dozen stars in one of those can take years.
    reach = [True] + [False] * len(parts)
    for piece in globs:
        if piece == "**":
            first = reach.index(True) if True in reach else len(reach)
            reach = [i >= first for i in range(len(reach))]
        else:
            reach = [False, *(reach[i] and fnmatch.fnmatchcase(part, piece) for i, part in enumerate(parts))]
    return reach[-1]


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "") or "nothing"
