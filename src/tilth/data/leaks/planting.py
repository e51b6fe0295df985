"""How well leaks are found: items are planted into copies of real documents, and looked for.

    PLANTED                            the ways in which an item is planted
    measure(find, items, hosts)        {planted, caught: {kind: [planted, found]}, false_alarms: {kind: [of, found]}}
    excerpt(item_id, text)             what is planted of a long item
    has_words(text, least)             whether it can be a host

Everything is drawn from hashes of the items' ids: the same items and documents give the same figures.
"""

from __future__ import annotations

import itertools
import random
import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tilth.core.random import derive_seed
from tilth.data.words import find_words

MOST_ITEMS = 100
MOST_HOSTS = 200
LONGEST = 400
"""Words that are planted of a longer item, from a place that is drawn."""
HOST_CHARACTERS = 4000
HOST_WORDS = 20
"""A document of fewer words is no host."""
FEWEST_SHUFFLED = 8
"""Different words; an item of fewer is not looked for in another order."""
_EXCERPT_CHARACTERS = 12 * LONGEST
_ONE_IN = 20
_DIVIDED = 0.25  # of the words that are long enough
_DIVISIONS = ("-\n", "\u00ad", "\u00ad\n", "\u200b")
_LIGATURES = {"ffi": "ﬃ", "ffl": "ﬄ", "ff": "ﬀ", "fi": "ﬁ", "fl": "ﬂ"}
_LIGATURE = re.compile("|".join(_LIGATURES))
_MARKS = ".,;:!?"
_SPACE = re.compile(r"\s+")
_MARK = re.compile(r"[^\w\s]")


class Item(NamedTuple):
    """What is planted."""

    item_id: str
    text: str


Plant = Callable[[str, str, random.Random], str | None]


def _verbatim(text: str, host: str, draw: random.Random) -> str:
    return _between_lines(text, host, draw)


def _rewrapped(text: str, host: str, draw: random.Random) -> str:
    lines = textwrap.wrap(_SPACE.sub(" ", text), draw.randint(30, 100))
    return _between_lines("\n".join(f"    {line}" for line in lines), host, draw)


def _embedded(text: str, host: str, draw: random.Random) -> str:
    spaces = [match.start() for match in re.finditer(" ", host)] or [len(host)]
    place = draw.choice(spaces)
    return f"{host[:place]} {_SPACE.sub(' ', text).strip()} {host[place:]}"


def _case(text: str, host: str, draw: random.Random) -> str:
    return _between_lines(draw.choice([str.upper, str.lower, str.title])(text), host, draw)


def _punctuation(text: str, host: str, draw: random.Random) -> str:
    """Each mark becomes another or a space, and marks come in where there were none."""
    other = _MARK.sub(lambda _: draw.choice(f"{_MARKS} "), text)
    return _between_lines(re.sub(" ", lambda _: draw.choice(["  ", " ", ", ", " - "]), other), host, draw)


def _typeset(text: str, host: str, draw: random.Random) -> str:
    """As pages and PDFs bring it: spaces that are entities, words divided at line ends or by what nobody sees, accents
    behind their letters, ligatures.
    """
    # Korean syllables are not taken for their parts (words.py).
    text = re.sub(r"[^\uac00-\ud7a3]+", lambda run: unicodedata.normalize("NFD", run[0]), text)
    text = _LIGATURE.sub(lambda letters: _LIGATURES[letters[0]], text)
    found = find_words([text])
    for start, end in sorted(zip(found.starts.tolist(), found.ends.tolist(), strict=True), reverse=True):
        places = [place for place in range(start + 2, end - 1) if text[place - 1 : place + 1].isalpha()]
        if places and draw.random() < _DIVIDED:
            place = draw.choice(places)
            text = f"{text[:place]}{draw.choice(_DIVISIONS)}{text[place:]}"
    return _between_lines(re.sub(" ", lambda _: draw.choice([" ", " ", " ", "&nbsp;"]), text), host, draw)


def _replaced(text: str, host: str, draw: random.Random) -> str:
    """One word in twenty is another, one at least."""
    found = find_words([text])
    spans = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    for start, end in sorted(draw.sample(spans, max(1, round(len(spans) / _ONE_IN))), reverse=True):
        text = f"{text[:start]}{draw.choice(('another', 'some', 'every', 'no'))}{text[end:]}"
    return _between_lines(text, host, draw)


def _shuffled(text: str, host: str, draw: random.Random) -> str | None:
    """The item's words in another order: not the item. None where it has so few that another order is much the same."""
    found = find_words([text])
    if len(np.unique(found.hashes)) < FEWEST_SHUFFLED:
        return None
    spans = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    mixed = [text[start:end] for start, end in spans]
    draw.shuffle(mixed)
    between = [text[end:start] for end, start in zip([0, *found.ends], [*found.starts, len(text)], strict=True)]
    return _between_lines("".join(itertools.chain(*zip(between, [*mixed, ""], strict=True))), host, draw)


def _between_lines(text: str, host: str, draw: random.Random) -> str:
    ends = [0, *(match.end() for match in re.finditer("\n", host)), len(host)]
    place = draw.choice(ends)
    return f"{host[:place]}\n{text}\n{host[place:]}"


PLANTED: dict[str, Plant] = {
    "verbatim": _verbatim,
    "rewrapped": _rewrapped,
    "embedded": _embedded,
    "case": _case,
    "punctuation": _punctuation,
    "typeset": _typeset,
    "one_word_in_20": _replaced,
}
_DECOYS: dict[str, Plant] = {"shuffled": _shuffled}


def excerpt(item_id: str, text: str) -> str:
    """The whole of an item, or of a long one as many words as are planted, from a place that its id draws."""
    drawn = derive_seed(0, f"plant/excerpt/{item_id}")
    if len(text) > _EXCERPT_CHARACTERS:  # not to look for words in all of it
        start = drawn % (len(text) - _EXCERPT_CHARACTERS)
        space = _SPACE.search(text, start)
        start = space.end() if space else start
        text = text[start : start + _EXCERPT_CHARACTERS]
    found = find_words([text])
    spare = len(found.starts) - LONGEST
    if spare <= 0:
        return text
    first = drawn % (spare + 1)
    return text[found.starts[first] : found.ends[first + LONGEST - 1]]


def has_words(text: str, least: int) -> bool:
    """Whether a text has so many words, in whatever script."""
    start = text[:HOST_CHARACTERS]
    return start.count(" ") >= least or len(find_words([start]).starts) >= least


def draw_order(item_id: str) -> int:
    """Where an item stands in the order in which items are chosen for planting."""
    return derive_seed(0, f"plant/{item_id}")


def measure(find: Callable[[Sequence[str]], Sequence[bool]], items: Sequence[Item], hosts: Sequence[str]) -> Any:
    """How many planted items are found, by the way in which they were planted, and what is found where none is.

    Args:
        find: whether each of some texts holds an item.
        hosts: real documents. Those in which something is found as they are count as `unplanted` finds (a leak that
            is real, or a false alarm) and get nothing planted.
    """
    hosts = [host[:HOST_CHARACTERS] for host in hosts]
    flagged = find(hosts)
    clean = [host for host, found in zip(hosts, flagged, strict=True) if not found]
    caught: dict[str, list[int]] = {}
    alarms = {"unplanted": [len(hosts), sum(map(bool, flagged))]}
    for kinds, counts in ((PLANTED, caught), (_DECOYS, alarms)):
        for kind, plant in kinds.items():
            planted = [_planted(kind, plant, item, clean) for item in items] if clean else []
            texts = [text for text in planted if text is not None]
            counts[kind] = [len(texts), int(np.count_nonzero(find(texts)))]
    return {"planted": len(items), "caught": caught, "false_alarms": alarms}


def _planted(kind: str, plant: Plant, item: Item, hosts: Sequence[str]) -> str | None:
    draw = random.Random(derive_seed(0, f"plant/{kind}/{item.item_id}"))
    return plant(item.text, draw.choice(hosts), draw)
