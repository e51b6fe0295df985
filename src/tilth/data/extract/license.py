"""The licence that a page states where no reader sees it; what it shows (`<a rel="license">`) is trafilatura's to find.

In this order: `<link rel="license">`, the `license` of a page or article in JSON-LD (that of a picture is another's),
and the Dublin Core of `<meta>`: `dcterms.license`, then what is said of rights (`dcterms.rights`, `DC.rights`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_CREATIVE_COMMONS = re.compile(r"creativecommons\.org/\w+/(by(?:-nc)?(?:-nd|-sa)?|zero)/(\d\.\d)")
_TEXTS = ("Page", "Article", "Posting", "CreativeWork", "Book", "Chapter", "Report", "Thesis", "Dataset", "HowTo")
"""What the types of schema.org that are texts end with."""
_DUBLIN_CORE = ("dcterms.license", "dc.license", "dcterms.rights", "dc.rights")


def stated_license(tree: Any) -> str | None:
    """The licence of a page (lxml's tree) as it is stated; of Creative Commons the short name that
    trafilatura gives.
    """
    for said in (*_links(tree), *_json_ld(tree), *_metas(tree)):
        if said := " ".join(said.split()):
            found = _CREATIVE_COMMONS.search(said)
            return f"CC {found[1].upper()} {found[2]}" if found else said
    return None


def _links(tree: Any) -> Iterator[str]:
    for link in tree.iter("link"):
        if "license" in link.get("rel", "").lower().split():
            yield link.get("href", "")


def _json_ld(tree: Any) -> Iterator[str]:
    for script in tree.iter("script"):
        if script.get("type", "").strip().lower() == "application/ld+json":
            try:
                value = json.loads(script.text or "")
            except (ValueError, RecursionError):
                continue
            for thing in _things(value):
                yield from _names(thing.get("license"))


def _things(value: Any) -> Iterator[dict[str, Any]]:
    """The texts of a JSON-LD document: at its top, in its list or in its graph."""
    for thing in value if isinstance(value, list) else [value]:
        if isinstance(thing, dict):
            kinds = thing.get("@type")
            if any(str(kind).endswith(_TEXTS) for kind in (kinds if isinstance(kinds, list) else [kinds])):
                yield thing
            if isinstance(graph := thing.get("@graph"), list):
                yield from _things([inner for inner in graph if isinstance(inner, dict) and "@graph" not in inner])


def _names(value: Any) -> Iterator[str]:
    """A licence is an address, or a thing that has one."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            one = next((one[key] for key in ("url", "@id", "name") if one.get(key)), None)
        if isinstance(one, str):
            yield one


def _metas(tree: Any) -> Iterator[str]:
    said: dict[str, str] = {}
    for meta in tree.iter("meta"):
        name = (meta.get("name") or meta.get("property") or "").strip().lower().replace(":", ".")
        said.setdefault(name, meta.get("content", ""))
    return (said[name] for name in _DUBLIN_CORE if name in said)
