"""Which URL is next, and why one is not: decided from the recipe and from what came before, never from the clock
(but for patterns that backtrack without end: what they cannot judge is found once, and stands in the journal).

Pages are taken level by level (links away from the start), and within a level the hosts take turns, so that a crawl of
several hosts waits for none of them longer than it must, and its order, and with it what `max_pages` leaves, is the
same on every run.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import regex  # type: ignore[import-untyped]

from tilth.data.sources.web.config import CrawlConfig
from tilth.data.sources.web.urls import LONGEST_URL, host_of

Kind = Literal["page", "single", "sitemap"]
MOST_REDIRECTS = 5
MOST_SITEMAP_LEVELS = 3
URL_SECONDS = 0.2
"""Of the processor, for each pattern of the recipe and an address: ten thousand times what it should need."""
PAGE_SECONDS = 5.0
"""… and for all addresses on a page, or more where they are very many: for each and each pattern the next."""
USUAL_SECONDS = 5e-5
"""Twenty times what a search takes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A URL that will be asked for.

    Attributes:
        level: links away from the start; of a sitemap: how deep in indexes it is listed.
        kind: `page` (its links are followed), `single` (they are not), or `sitemap`.
        hops: redirects that led here.
        named: the recipe names it, or it stands where a named one redirected to.
    """

    url: str
    level: int = 0
    kind: Kind = "page"
    hops: int = 0
    named: bool = False

    def fate(self, rule: str, value: str = "", detail: str = "") -> Fate:
        """What became of it."""
        return Fate(self.url[:LONGEST_URL], rule, value, detail, self.kind == "sitemap")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a URL: a rule of the stage `fetch`."""

    url: str
    rule: str
    value: str = ""
    detail: str = ""
    sitemap: bool = False

    @property
    def words(self) -> str:
        """As a message says it: `URL: rule: value, detail`, of these what there is."""
        why = ", ".join(filter(None, (self.value, self.detail)))
        return ": ".join(filter(None, (self.url, self.rule, why)))


class Frontier:
    """The URLs to come. Iterate with `next`; offer what is found with `add` and `redirect`."""

    def __init__(self, config: CrawlConfig, singles: Iterable[str]) -> None:
        self._config = config
        self._include = [regex.compile(pattern) for pattern in config.include]
        self._exclude = [regex.compile(pattern) for pattern in config.exclude]
        self._now: deque[Entry] = deque()
        self._later: list[Entry] = []
        self._seen: set[bytes] = set()
        self.hosts: set[str] = set()
        self.slow: set[str] = set()
        """URLs that took the patterns too long, as `slow_ones` found or the journal says."""
        self.fates: list[Fate] = []
        """Of URLs that are not asked for."""
        for url in config.sitemaps:
            self._name(Entry(url, kind="sitemap", named=True))
        for url in config.start:
            self._name(Entry(url, named=True))
        for url in singles:
            self._name(Entry(url, kind="single", named=True))
        self._now = deque(_in_turns(self._now))

    def _name(self, entry: Entry) -> None:
        self.hosts.add(host_of(entry.url))
        if self.note_new(entry.url):
            self._now.append(entry)

    def next(self) -> Entry | None:
        """The next URL; None at the end."""
        if not self._now:
            self._now, self._later = deque(_in_turns(self._later)), []
        return self._now.popleft() if self._now else None

    def waiting(self) -> Iterator[str]:
        """The URLs that are taken in and not yet asked for."""
        return (entry.url for entry in itertools.chain(self._now, self._later))

    def knows(self, url: str) -> bool:
        """Whether a URL was seen before."""
        return _key(url) in self._seen

    def note_new(self, url: str) -> bool:
        """Whether a URL was never seen before; afterwards it was."""
        new = not self.knows(url)
        self._seen.add(_key(url))
        return new

    def add(self, found_on: Entry, url: str, kind: Kind) -> None:
        """Takes a new URL in, or says in `fates` why not. Entries of a sitemap belong to the present level."""
        if not self.note_new(url):
            return
        listed = found_on.kind == "sitemap"
        level = 0 if listed and kind != "sitemap" else found_on.level + 1
        entry = Entry(url, level, kind)
        if fate := self._refused(entry, found_on):
            self.fates.append(fate)
        else:
            (self._now if listed else self._later).append(entry)

    def redirect(self, entry: Entry, url: str) -> Fate | None:
        """Takes in where a URL redirects to, at once; what is wrong with it is said of the one that redirects."""
        if entry.hops >= MOST_REDIRECTS:
            return entry.fate("too_many_redirects", url, f"{entry.hops} redirects led here; not followed to {url}")
        if entry.named:
            self.hosts.add(host_of(url))
        if self.note_new(url):
            target = Entry(url, entry.level, entry.kind, entry.hops + 1, entry.named)
            if not entry.named and (fate := self._refused(target, entry)):
                self.fates.append(fate)
            else:
                self._now.appendleft(target)
        return None

    def slow_ones(self, urls: Iterable[str]) -> list[str]:
        """Those, of the links of one page, that the recipe's patterns take too long for; the clock is looked at nowhere
        else. When the page's time is up, all that are left.
        """
        patterns, asked = (*self._exclude, *self._include), [url for url in urls if len(url) <= LONGEST_URL]
        # A sitemap may have very many: what each of them takes at the most otherwise is no sign of slowness.
        end = time.process_time() + max(PAGE_SECONDS, len(asked) * len(patterns) * USUAL_SECONDS)
        return [url for url in asked if patterns and _is_slow(url, patterns, end)]

    def _refused(self, entry: Entry, found_on: Entry) -> Fate | None:
        config, url = self._config, entry.url
        where = f"found on {found_on.url}"
        if len(url) > LONGEST_URL:
            return entry.fate("too_long_url", str(len(url)), where)
        if config.same_host and host_of(url) not in self.hosts:
            return entry.fate("off_site", host_of(url), where)
        if entry.kind != "sitemap":
            if url in self.slow:
                return entry.fate("pattern_timeout", f"{URL_SECONDS:g}", f"include and exclude take too long; {where}")
            for pattern in self._exclude:
                if pattern.search(url):
                    return entry.fate("excluded", pattern.pattern, where)
            if self._include and not any(pattern.search(url) for pattern in self._include):
                return entry.fate("not_included", "", where)
        deepest = MOST_SITEMAP_LEVELS if entry.kind == "sitemap" else config.depth
        if entry.level > deepest:
            return entry.fate("over_depth", str(entry.level), where)
        return None


def _is_slow(url: str, patterns: Iterable[Any], end: float) -> bool:
    try:
        for pattern in patterns:
            left = end - time.process_time()
            if left <= 0:
                return True
            pattern.search(url, timeout=min(left, URL_SECONDS))
    except TimeoutError:
        return True
    return False


def _key(url: str) -> bytes:
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _in_turns(entries: Iterable[Entry]) -> list[Entry]:
    """The first of each host, then the second of each …; sitemaps first: they name pages of this level."""
    turns: Counter[tuple[bool, str]] = Counter()
    keyed = []
    for number, entry in enumerate(entries):
        page, host = entry.kind != "sitemap", host_of(entry.url)
        keyed.append((page, turns[page, host], number, entry))
        turns[page, host] += 1
    return [entry for *_, entry in sorted(keyed, key=lambda key: key[:3])]
