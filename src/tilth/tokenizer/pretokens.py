"""Counting pretokens: all that BPE training needs to know of the text.

    count_pretokens(texts, pattern, limit)     distinct pretokens with their counts, and what was left out

Memory is bounded by the distinct pretokens, not by the text. Left out, and counted: pretokens of more than
LONGEST bytes (blobs of one letter, base64: no model gains by a token for a part of them) and lone surrogates.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from tilth.core.executors import process_pool, without_main
from tilth.tokenizer.patterns import SAFE_CUT, PatternName, compiled

LONGEST = 1024
_BLOCK = 1 << 22  # characters that are cut at a time; a list of their pretokens takes about 100 MB

_SURROGATES = re.compile(r"[\ud800-\udfff]+")


@dataclass
class PretokenCounts:
    """What was counted, and what was not."""

    counts: dict[bytes, int] = field(default_factory=dict)
    """distinct pretoken -> how often it occurs"""
    texts: int = 0
    bytes_read: int = 0
    stopped_at_limit: int = 0
    """1 when the texts hold more than was read"""
    surrogates: int = 0
    """lone surrogates: not text, not learned from"""
    long_pretokens: int = 0
    long_bytes: int = 0
    """pretokens of more than LONGEST bytes: not learned from"""

    def facts(self) -> dict[str, int]:
        """All but the counts themselves."""
        return {name: value for name, value in vars(self).items() if name != "counts"}


def count_pretokens(texts: Iterable[str], pattern: PatternName, limit: int, workers: int = 1) -> PretokenCounts:
    """Counts the pretokens of the first `limit` bytes of the texts, in `workers` processes, with the same result."""
    result = PretokenCounts()
    blocks = _blocks(_clean(texts, limit, result))
    total: Counter[str] = Counter()
    counted = _count_here(blocks, pattern) if workers <= 1 else _count_in_processes(blocks, pattern, workers)
    for counts in counted:
        total.update(counts)
    for pretoken, count in total.items():
        spelled = pretoken.encode()
        if len(spelled) <= LONGEST:
            result.counts[spelled] = count
        else:
            result.long_pretokens += count
            result.long_bytes += count * len(spelled)
    return result


def _clean(texts: Iterable[str], limit: int, result: PretokenCounts) -> Iterator[str]:
    """The parts of the texts that are text, up to the limit; notes what was read."""
    for text in texts:
        room = limit - result.bytes_read
        if room <= 0:
            result.stopped_at_limit = 1
            return
        result.texts += 1
        try:
            size = len(text.encode())
            parts = [text]
        except UnicodeEncodeError:
            parts = _SURROGATES.split(text)
            size = sum(len(part.encode()) for part in parts)
            result.surrogates += len(text) - sum(map(len, parts))
        if size > room:
            result.stopped_at_limit, size = 1, room
            parts = _first_bytes(parts, room)
        result.bytes_read += size
        yield from parts


def _first_bytes(parts: list[str], room: int) -> list[str]:
    kept = []
    for part in parts:
        head = part.encode()[:room]
        kept.append(head.decode(errors="ignore"))
        room -= len(head)
    return kept


def _blocks(parts: Iterable[str]) -> Iterator[list[str]]:
    """Parts in groups of about _BLOCK characters; a longer one is cut where the pattern cuts anyway."""
    block: list[str] = []
    size = 0
    for part in parts:
        for piece in _pieces(part):
            block.append(piece)
            size += len(piece)
            if size >= _BLOCK:
                yield block
                block, size = [], 0
    if block:
        yield block


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _BLOCK:
        cut = SAFE_CUT.search(text, start + _BLOCK)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def _count_block(block: list[str], pattern: PatternName) -> Counter[str]:
    expression = compiled(pattern)
    counts: Counter[str] = Counter()
    for part in block:
        counts.update(expression.findall(part))
    return counts


def _count_here(blocks: Iterable[list[str]], pattern: PatternName) -> Iterator[Counter[str]]:
    for block in blocks:
        yield _count_block(block, pattern)


def _count_in_processes(blocks: Iterable[list[str]], pattern: PatternName, workers: int) -> Iterator[Counter[str]]:
    waiting: deque[Future[Counter[str]]] = deque()
    with process_pool(workers) as pool:
        for block in blocks:
            with without_main():
                waiting.append(pool.submit(_count_block, block, pattern))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
